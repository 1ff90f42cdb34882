"""Every analysis that metrics.json and the report know, in the order of the report.

An analysis is imported only where its document exists: most runs have none, and each imports its own statistics.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

from allfour.pipeline.analyses.base import BEYOND, OUTDATED, STOPPED, Analysis
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Record


@dataclass(frozen=True, slots=True)
class Listed:
    """An analysis by name."""

    name: str
    """Its key in metrics.json."""
    file: str
    """In the run folder."""
    place: str
    """`module:NAME`, below `allfour.pipeline.analyses`."""

    def load(self) -> Analysis:
        """The analysis itself."""
        module, _, attribute = self.place.partition(":")
        found: Analysis = getattr(importlib.import_module(f"allfour.pipeline.analyses.{module}"), attribute)
        return found


ANALYSES = (
    Listed("sensitivity", "sensitivity.json", "sensitivity:SENSITIVITY"),
    Listed("second_opinion", "second-opinion.json", "second_opinion:SECOND_OPINION"),
    Listed("consensus", "consensus.json", "consensus:CONSENSUS"),
    Listed("against", "against.json", "against:AGAINST"),
    Listed("review", "review.json", "review.results:REVIEW"),
    Listed("until", "until.json", "until:UNTIL"),
    Listed("each", "each.json", "each:EACH"),
)


def with_analyses(metrics: Metrics, run: RunFolder) -> Metrics:
    """The same metrics with what stands in the run folder beside its tables, where it is of the scores that stand."""
    notes = [note for note in metrics.notes if note.code not in (OUTDATED, STOPPED, BEYOND)]
    found: dict[str, Record | None] = {}
    for listed in ANALYSES:
        found[listed.name] = None
        if os.path.lexists(
            run.path / listed.file
        ):  # whatever stands there, the analysis itself says what is wrong with it
            found[listed.name], note = listed.load().summary(run)
            notes += [note] if note is not None else []
    return metrics.model_copy(update=found).with_notes(notes)
