"""Where the people of an image are: detectors, and the enlarged crop of each person that a classifier reads.

A detector finds candidates; `PeopleFinder` makes persons of them: no person twice, a fixed order, boxes inside the image, and a
crop around each. A detector finds what it was made for (dlib's: frontal faces), so a count of people is a count of those alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from allfour.models.settings import BackendSettings, named_if_missing

if TYPE_CHECKING:
    from PIL import Image

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
    landmarks: tuple[tuple[float, float], ...] = ()
    """(x, y) of the eyes (the one on the image's left first), nose and corners of the mouth, where the detector finds them."""


class PersonDetector(Protocol):
    """Finds people, or their faces, in an image. Called by several threads at once."""

    def identity(self) -> Mapping[str, Any]:
        """Name, package version, sha256 of the weights, settings: all that decides what is found. JSON-serialisable."""
        ...

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        """Candidates in an RGB image of any size, in any order; the same for the same image."""
        ...


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
        """Boxes of the persons of an RGB image, as `detections` orders them."""
        return tuple(found.box for found in self.detections(image))

    def detections(self, image: Image.Image) -> tuple[Detection, ...]:
        """The persons of an RGB image, with boxes inside it, from left to right (then from top to bottom)."""
        kept: list[Detection] = []
        for candidate in sorted(self._detector.detect(image), key=lambda found: (-found.confidence, found.box)):
            box = clipped(candidate.box, image.size)
            if _area(box) and all(overlap(box, other.box) <= SAME_PERSON for other in kept):
                kept.append(replace(candidate, box=box))
        return tuple(sorted(kept[:MAX_PEOPLE], key=lambda found: found.box))

    def crop(self, image: Image.Image, box: Box) -> Image.Image:
        """What of the image is read as this person."""
        return image.crop(enlarged(box, self._enlarge, image.size))


class DetectorSettings(BackendSettings):
    """The block `people` of a classifier, where it names a detector. A detector's own settings are a subclass of this one, with the
    field `detector: Literal["NAME"]` and what `build` hands to its class."""

    landmarks: ClassVar[bool] = False
    """Whether it finds faces with their eyes, nose and corners of the mouth, between which skin can be measured."""

    detector: str
    enlarge: float = Field(default=1.6, ge=1, le=4)
    """Side of the square that is read around what was found, in sides of it: around a face, hair and shoulders are cues too."""

    def build(self) -> PersonDetector:
        """The detector. Raises ClassifierError where it is not available."""
        raise NotImplementedError

    def finder(self) -> PeopleFinder | None:
        """Persons of an image by this detector. Raises ClassifierError, ConfigError."""
        with named_if_missing(self, f"classifier.people.detector={self.detector}"):
            return PeopleFinder(self.build(), enlarge=self.enlarge)
