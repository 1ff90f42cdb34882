"""The block `people` of a classifier: whether people are looked for, and by which detector."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from allfour.models import registry
from allfour.models.detectors import centerface, face
from allfour.models.detectors.base import DetectorSettings, PeopleFinder
from allfour.models.settings import BackendSettings


class WholeImages(BackendSettings):
    """Nobody is looked for: images are read as a whole; how many people they show is not known."""

    def finder(self) -> PeopleFinder | None:
        """Nobody is looked for."""
        return None


class NoDetectorConfig(WholeImages):
    """Images are read as a whole; how many people they show is not known."""

    detector: Literal["none"] = "none"


class ByPromptsConfig(WholeImages):
    """The default: people are looked for where a prompt asks for several, by CenterFace where it is installed, else by dlib's detector."""

    detector: Literal["auto"] = "auto"

    def settled(self, *, several: bool) -> WholeImages | DetectorSettings:
        """What that is for prompts of which one asks for several people, or none does, on this machine."""
        if several and find_spec("onnxruntime") is not None and centerface.weights_file() is not None:
            return centerface.CenterFaceConfig(detector="centerface")
        if several and find_spec("dlib") is not None:
            return face.FaceDetectorConfig(detector="face")
        return NoDetectorConfig()


if TYPE_CHECKING:
    PeopleConfig = WholeImages | DetectorSettings
else:
    PeopleConfig = registry.union_of(registry.DETECTORS, NoDetectorConfig, ByPromptsConfig)
