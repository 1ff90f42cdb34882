"""People of an image: boxes on composed photographs, crops at the border, and what a missing package says."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.classifiers.base import FindsPeople
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.clip_settings import ClipConfig
from allfour.models.detectors.base import MAX_PEOPLE, Box, Detection, PeopleFinder, clipped, enlarged, overlap
from allfour.models.detectors.face import FaceDetector, FaceDetectorConfig
from allfour.models.detectors.people import NoDetectorConfig
from allfour.pipeline.config import load_attributes
from tests.conftest import shared_data

needs_dlib = pytest.mark.skipif(find_spec("dlib") is None, reason="the extra `face` is not installed")


class Listed:
    """A detector of known candidates."""

    def __init__(self, *found: tuple[Box, float]) -> None:
        self.found = [Detection(box, confidence) for box, confidence in found]

    def identity(self) -> dict[str, Any]:
        return {"detector": "listed"}

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        return self.found


def test_an_enlarged_box_is_a_square_around_it_as_far_as_the_image_goes() -> None:
    assert enlarged((40, 40, 60, 60), 2.0, (200, 100)) == (30, 30, 70, 70)
    assert enlarged((40, 45, 60, 55), 2.0, (200, 100)) == (30, 30, 70, 70)  # by the longer side
    assert enlarged((40, 40, 60, 60), 1.0, (200, 100)) == (40, 40, 60, 60)
    assert enlarged((0, 90, 10, 100), 3.0, (200, 100)) == (0, 80, 20, 100)  # clipped at two borders
    assert clipped((-5, -7, 300, 20), (200, 100)) == (0, 0, 200, 20)
    crop = PeopleFinder(Listed(), enlarge=3.0).crop(Image.new("RGB", (200, 100)), (0, 90, 10, 100))
    assert crop.size == (20, 20)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_one_person_is_found_once_and_the_order_is_from_left_to_right() -> None:
    image = Image.new("RGB", (100, 50))
    finder = PeopleFinder(
        Listed(
            ((60, 10, 80, 30), 0.5),
            ((10, 10, 30, 30), 0.4),
            ((12, 11, 32, 31), 0.9),  # the same person, surer
            ((25, 10, 45, 30), 0.3),  # overlaps her a little: somebody else
            ((-40, 10, -20, 30), 2.0),  # outside
            ((-5, 40, 5, 60), 0.8),  # reaches out
        )
    )
    assert finder.find(image) == ((0, 40, 5, 50), (12, 11, 32, 31), (25, 10, 45, 30), (60, 10, 80, 30))


def test_of_a_crowd_the_surest_are_kept() -> None:
    boxes = [((10 * n, 0, 10 * n + 8, 8), float(n)) for n in range(MAX_PEOPLE + 7)]
    found = PeopleFinder(Listed(*boxes)).find(Image.new("RGB", (1000, 10)))
    assert found == tuple(box for box, _ in boxes[7:])


@needs_dlib
def test_faces_of_a_composed_scene_are_found_where_they_were_put() -> None:
    finder = FaceDetectorConfig(detector="face", enlarge=1.3).finder()
    assert finder is not None
    paths = sorted(shared_data("utkface-1000").glob("*.jpg"))
    clear = (p for p in paths if len(finder.find(Image.open(p).convert("RGB"))) == 1)
    faces = [Image.open(path).convert("RGB").resize((240, 240)) for path in itertools.islice(clear, 3)]
    scene = Image.new("RGB", (900, 400), "white")
    for place, face in enumerate(faces):
        scene.paste(face, (20 + 300 * place, 80))
    found = finder.find(scene)
    assert len(found) == 3
    for place, (left, top, right, bottom) in enumerate(found):
        assert 20 + 300 * place <= (left + right) / 2 <= 260 + 300 * place
        assert 80 <= (top + bottom) / 2 <= 320
        assert 80 <= right - left <= 240
    # what is found hardly depends on the resolution that the generator works in
    small = finder.find(scene.resize((450, 200)))
    assert [tuple(2 * v for v in box) for box in small] == [pytest.approx(box, abs=24) for box in found]
    assert finder.find(scene) == found


@needs_dlib
@pytest.mark.parametrize("size", [(1, 1), (2, 900), (3000, 3), (64, 64)])
def test_pictures_of_any_shape_have_an_answer(size: tuple[int, int]) -> None:
    assert FaceDetector().detect(Image.new("RGB", size, "teal")) == []


@needs_dlib
def test_the_identity_names_package_weights_and_settings(tiny_clip: Path) -> None:
    attributes = load_attributes("configs/attributes/utkface.yaml")

    def classifier(**people: Any) -> ClipClassifier:
        block = {"backend": "clip", "pretrained": str(tiny_clip)} | ({"people": people} if people else {})
        return ClipConfig.model_validate(block).build(attributes=attributes)

    whole, none, face = classifier(), classifier(detector="none"), classifier(detector="face", enlarge=1.3)
    assert whole.identity() == none.identity()
    assert "people" not in whole.encoder_identity()
    assert isinstance(whole, FindsPeople)
    assert whole.people is None
    people = face.identity()["encoder"]["people"]
    assert people["package"].startswith("dlib-bin ")
    assert len(people["weights_sha256"]) == 64
    assert (people["enlarge"], people["min_confidence"], people["size"]) == (1.3, 0.2, 1280)
    assert face.encoder_identity()["people"] == people


def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ClassifierError, match=r"dlib-bin.*pip install 'allfour\[face\]'.*people.detector=none"):
        FaceDetectorConfig(detector="face").finder()
    assert NoDetectorConfig().finder() is None


@pytest.mark.parametrize(
    ("several", "centerface", "dlib", "expected"),
    [(True, True, True, "centerface"), (True, False, True, "face"), (True, False, False, "none"), (False, True, True, "none")],
)  # fmt: skip
def test_group_scenes_get_the_best_detector_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, several: bool, centerface: bool, dlib: bool, expected: str
) -> None:
    from allfour.models.detectors import people
    from allfour.pipeline.config import load_config

    monkeypatch.setattr(people.centerface, "weights_file", lambda: tmp_path if centerface else None)
    monkeypatch.setattr(people, "find_spec", lambda name: name if dlib or name != "dlib" else None)
    prompts = "configs/prompts/groups.yaml" if several else "configs/prompts/bolukbasi-extremes.yaml"
    config = load_config(Path("sandbox"), [f"prompts.file={prompts}"])
    assert config.classifier.people.detector == expected  # type: ignore[attr-defined]
    own = load_config(Path("sandbox"), [f"prompts.file={prompts}", "classifier.people.detector=none"])
    assert own.classifier.people.detector == "none"  # type: ignore[attr-defined]
