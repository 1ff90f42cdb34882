"""Where the people of an image are: detectors, and the enlarged crop of each person that a classifier reads.

A detector finds candidates; `PeopleFinder` makes persons of them: no person twice, a fixed order, boxes inside the image, and a
crop around each. A detector finds what it was made for (dlib's: frontal faces), so a count of people is a count of those alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.registry import DETECTORS, load

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the image; right and bottom are just outside."""

MAX_PEOPLE = 50
"""Persons of one image that are read, the most confident first: a crowd must not stall a run."""

SAME_PERSON = 0.4
"""Boxes whose intersection is more than this share of their union are one person."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A candidate."""

    box: Box
    """May reach out of the image."""
    confidence: float
    """On the detector's own scale; higher is surer."""


class PersonDetector(Protocol):
    """Finds people, or their faces, in an image. Called by several threads at once."""

    def identity(self) -> Mapping[str, Any]:
        """Name, package version, sha256 of the weights, settings: all that decides what is found. JSON-serialisable."""
        ...

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        """Candidates in an RGB image of any size, in any order; the same for the same image."""
        ...


class FaceDetector:
    """dlib's frontal face detector (histograms of oriented gradients; King 2009, JMLR 10, 1755-1758).

    It sees faces of at least about 80 pixels. So that what is found does not depend on the resolution that a generator works in,
    every image is brought to one size first: the smallest face is then 80 / `size` of the longer side.

    Parameters
    ----------
    size
        Longer side, in pixels, that images are brought to (enlarged at most fourfold).
    min_confidence
        Candidates below this are left out; dlib's own threshold is 0.

    Raises
    ------
    ClassifierError
        dlib is not installed.
    """

    def __init__(self, *, size: int = 1280, min_confidence: float = 0.2) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ClassifierError(
                f"classifier.people.detector: face needs the package dlib-bin ({error}). Install it with:  pip install 'allfour[face]'  "
                "or read whole images: --set classifier.people.detector=none"
            ) from None
        self._dlib: Any = dlib
        self._size, self._min_confidence = size, min_confidence
        self._of_thread = threading.local()  # a detector keeps the pyramid of its image: one to a thread

    def _detector(self) -> Any:
        if not hasattr(self._of_thread, "detector"):
            self._of_thread.detector = self._dlib.get_frontal_face_detector()
        return self._of_thread.detector

    def identity(self) -> Mapping[str, Any]:
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:  # dlib's is compiled in, and serialised to files alone
            path = Path(folder) / "detector"
            self._detector().save(str(path))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {
            "detector": "dlib HOG frontal face detector",
            "package": f"dlib-bin {importlib.metadata.version('dlib-bin')}",
            "weights_sha256": digest,
            "size": self._size,
            "min_confidence": self._min_confidence,
        }

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        longer = max(image.size)
        scale = min(self._size, 4 * longer) / longer
        shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        pixels = np.asarray(image.resize(shape, Image.Resampling.BILINEAR))
        boxes, confidences, _ = self._detector().run(pixels, 0, self._min_confidence)
        across, down = image.width / shape[0], image.height / shape[1]
        return [
            Detection(
                box=(
                    round(box.left() * across),
                    round(box.top() * down),
                    round((box.right() + 1) * across),
                    round((box.bottom() + 1) * down),
                ),
                confidence=float(confidence),
            )
            for box, confidence in zip(boxes, confidences, strict=True)
        ]


def clipped(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box inside an image of (width, height)."""
    left, top, right, bottom = box
    width, height = size
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def enlarged(box: Box, factor: float, size: tuple[int, int]) -> Box:
    """The square around a box, `factor` times its longer side wide, as far as it lies inside an image of (width, height)."""
    left, top, right, bottom = box
    half = factor * max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return clipped((round(x - half), round(y - half), round(x + half), round(y + half)), size)


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return max(0, right - left) * max(0, bottom - top)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1."""
    common = _area((max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])))
    return common / (_area(one) + _area(other) - common) if common else 0.0


class PeopleFinder:
    """Persons of an image, and what of it a classifier is shown of each.

    Parameters
    ----------
    enlarge
        Side of a crop in sides of the person's box: around a face, hair and shoulders are cues too.
    """

    def __init__(self, detector: PersonDetector, *, enlarge: float = 1.6) -> None:
        self._detector, self._enlarge = detector, enlarge

    def identity(self) -> Mapping[str, Any]:
        return {**self._detector.identity(), "enlarge": self._enlarge, "at_most": MAX_PEOPLE}

    def find(self, image: Image.Image) -> tuple[Box, ...]:
        """Boxes of the persons of an RGB image, inside it, from left to right (then from top to bottom)."""
        kept: list[Box] = []
        for candidate in sorted(self._detector.detect(image), key=lambda found: (-found.confidence, found.box)):
            box = clipped(candidate.box, image.size)
            if _area(box) and all(overlap(box, other) <= SAME_PERSON for other in kept):
                kept.append(box)
        return tuple(sorted(kept[:MAX_PEOPLE]))

    def crop(self, image: Image.Image, box: Box) -> Image.Image:
        """What of the image is read as this person."""
        return image.crop(enlarged(box, self._enlarge, image.size))


@runtime_checkable
class FindsPeople(Protocol):
    """An `EmbeddingClassifier` that may be shown the people of an image one by one."""

    @property
    def people(self) -> PeopleFinder | None:
        """None: images are read as a whole."""
        ...


def people_finder(options: Mapping[str, Any] | None) -> PeopleFinder | None:
    """The finder of a config's block `people`: {detector: none}, or {detector: NAME, enlarge: ..., and the detector's own}.

    Raises
    ------
    ClassifierError
        The detector cannot be had.
    """
    own = dict(options or {})
    name = own.pop("detector", "none")
    if name == "none":
        return None
    enlarge = own.pop("enlarge", 1.6)
    return PeopleFinder(load(DETECTORS, name)(**own), enlarge=enlarge)
