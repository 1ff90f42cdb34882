"""The block `people` of a classifier: whether people are looked for, and by which detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from allfour.models import registry
from allfour.models.detectors.base import DetectorSettings, PeopleFinder
from allfour.models.settings import BackendSettings


class NoDetectorConfig(BackendSettings):
    """Images are read as a whole; how many people they show is not known."""

    detector: Literal["none"] = "none"

    def finder(self) -> PeopleFinder | None:
        """Nobody is looked for."""
        return None


if TYPE_CHECKING:
    PeopleConfig = NoDetectorConfig | DetectorSettings
else:
    PeopleConfig = registry.union_of(registry.DETECTORS, NoDetectorConfig)
