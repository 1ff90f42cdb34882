"""Every analysis that metrics.json and the report know, in the order in which they are told."""

from __future__ import annotations

from allfour.pipeline.analyses.against import AGAINST
from allfour.pipeline.analyses.base import OUTDATED, Analysis
from allfour.pipeline.analyses.consensus import CONSENSUS
from allfour.pipeline.analyses.each import BEYOND, EACH
from allfour.pipeline.analyses.review.results import REVIEW
from allfour.pipeline.analyses.second_opinion import SECOND_OPINION
from allfour.pipeline.analyses.sensitivity import SENSITIVITY
from allfour.pipeline.analyses.until import STOPPED, UNTIL
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Metrics

ANALYSES: tuple[Analysis, ...] = (SENSITIVITY, SECOND_OPINION, CONSENSUS, AGAINST, REVIEW, UNTIL, EACH)


def with_analyses(metrics: Metrics, run: RunFolder) -> Metrics:
    """The same metrics with what stands in the run folder beside its tables, where it is of the scores that stand."""
    notes = [note for note in metrics.notes if note.code not in (OUTDATED, STOPPED, BEYOND)]
    found = {}
    for analysis in ANALYSES:
        found[analysis.name], note = analysis.summary(run)
        notes += [note] if note is not None else []
    return metrics.model_copy(update=found).with_notes(notes)
