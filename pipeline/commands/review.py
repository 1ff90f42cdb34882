"""`allfour review --import` and `--forget`: take in what raters said, or take it out, and write the report again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from allfour.pipeline.analyses.review.results import forget_raters, import_answers
from allfour.pipeline.commands.job import Job
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import finish_run, refresh
from allfour.pipeline.metrics.calibration import KEPT
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.run.folder import RunFolder, sweep_temp_files
from allfour.pipeline.words import clean, quantity


@dataclass(frozen=True, slots=True)
class ImportedReview:
    """What an import left."""

    result: dict[str, Any]
    """Results of the sample that the files are about, as RUN/review.json holds them."""
    review: Path
    """RUN/review.json."""
    report: Path | None
    """None where the run has no metrics.json yet, and so no report."""


def import_review(run: RunFolder, files: Sequence[Path]) -> ImportedReview:
    """Read raters' files into RUN/review.json and `review` of metrics.json, and write report.html again.

    The other metrics stay as they are, but for what labels tell of a calibration's errors, where the run has one.

    Raises
    ------
    InputError, RunFolderError
        It is not a scored run, a file is not as exported or holds less than the same rater's earlier file, or the report
        cannot be made.
    """
    result, report = _and_report(run, lambda: import_answers(run, files))
    return ImportedReview(result=result, review=run.path / "review.json", report=report)


@dataclass(frozen=True, slots=True)
class ForgottenRaters:
    """Whose answers were taken out."""

    answers: Mapping[str, int]
    """How many, by rater."""
    review: Path
    report: Path | None
    """None where the run has no metrics.json yet."""

    def text(self, *, as_json: bool) -> str:
        """For a terminal, or for machines."""
        if as_json:
            report = str(self.report) if self.report else None
            return json.dumps({"forgotten": dict(self.answers), "review": str(self.review), "report": report}, indent=1)
        lines = [f"forgot {clean(rater, 60)}: {quantity(count, 'answer')}" for rater, count in self.answers.items()]
        return "\n".join([*lines, f"review: {self.review}", *([f"report: {self.report}"] if self.report else [])])


def forget(run: RunFolder, raters: Sequence[str]) -> ForgottenRaters:
    """Take what raters said out of RUN/review.json and `review` of metrics.json, and write report.html again.

    Raises
    ------
    InputError, RunFolderError
        It is not a scored run, a name is not among those imported, or the report cannot be made.
    """
    answers, report = _and_report(run, lambda: forget_raters(run, raters))
    return ForgottenRaters(answers=answers, review=run.path / "review.json", report=report)


T = TypeVar("T")


def _and_report(run: RunFolder, change: Callable[[], T]) -> tuple[T, Path | None]:
    """What a change of RUN/review.json returns, and the report that was written after it."""
    run.scored_header()  # before the lock, which would make the folder
    with run.lock(option=None):
        sweep_temp_files(run.path)
        measured = os.path.lexists(run.metrics_path)  # a link that leads nowhere is damage, and no run without metrics
        if measured:
            read_metrics(run.path)  # before anything is written
        result = change()
        if not measured:
            return result, None
        corrected = (
            run.path / KEPT
        ).exists()  # labels tell how much the errors of a calibration differ between prompts
        summary = (
            finish_run(Job.of_run(run, Reporter(quiet=True), None), work={}) if corrected else refresh(run, work={})
        )
        return result, summary.report
