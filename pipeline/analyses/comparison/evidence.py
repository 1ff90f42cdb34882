"""What a run brings to a comparison beside its metrics: its calibration with its doubts, its near-copies, and sets of another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from allfour.errors import InputError
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun
from allfour.pipeline.analyses.review.labelled import labelled_images
from allfour.pipeline.metrics.calibration import KEPT, UNFIT, Calibration, load_calibration
from allfour.pipeline.metrics.calibration_doubt import doubt
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.corrected import correct
from allfour.pipeline.metrics.headline import doubts_of_correction
from allfour.pipeline.metrics.tallies import Copies, copy_counts, sure_counts, tally
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.scoring.near_copies import near_copies
from allfour.pipeline.statistics.arrays import IntArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run with what a comparison needs of it."""

    run: LoadedRun
    calibration: Calibration | None = None
    doubts: tuple[str, ...] = ("no_calibration",)
    """Codes: why figures corrected by it lead nowhere; none where they may."""
    reweighted: st.Confusion | None = None
    """Error rates of the headline's attribute in the run's own mix of the calibration's groups, where as a whole it does not fit."""
    copies: Mapping[str, Copies] = field(default_factory=dict)
    """Attribute -> near-copies of an earlier image of their prompt."""

    def near_copies(self, prompts: Sequence[Prompt], *, first_set: bool = False) -> IntArray:
        """Images per prompt that are no draw of their own, of all images or of the first set."""
        found = self.copies.get(self.run.metrics.headline, {})
        place = 0 if first_set else 1
        return np.array([sum(found[p.id][place].values()) if p.id in found else 0 for p in prompts], dtype=np.int64)

    def read(self, prompts: Sequence[Prompt], attribute: str, labels: Sequence[str]) -> st.ReadImages:
        """What was read of these prompts, near-copies counted once, with the calibration's error rates where it has any to give."""
        columns, headline = (*labels, AMBIGUOUS), self.run.metrics.headline
        copies = self.copies.get(attribute, {})
        rows, rest = [], []
        for prompt in prompts:
            counts = prompt.counts if attribute == headline else _counts(prompt, attribute)
            copied = copies[prompt.id][1] if prompt.id in copies else {}
            row = [max(counts.get(column, 0) - copied.get(column, 0), 0) for column in columns]
            rows.append(row)
            rest.append(max(prompt.images - sum(copied.values()) - sum(row), 0))
        table = np.array(rows, dtype=np.int64).reshape(-1, len(columns))
        return st.ReadImages(
            table, len(labels), np.array(rest, dtype=np.int64), self._confusion(attribute, labels)
        )  # fmt: skip

    def _confusion(self, attribute: str, labels: Sequence[str]) -> st.Confusion | None:
        """Error rates with the labels in the order asked for; None where they are not known, or tell no labels apart."""
        own = self.run.metrics.labels.get(attribute, list(labels))
        found = self.calibration.confusion(attribute, own) if self.calibration is not None else None
        if self.reweighted is not None and attribute == self.run.metrics.headline:
            found = self.reweighted
        if found is None or doubt(attribute, found, confidence=self.run.metrics.summary.confidence) is not None:
            return None
        order = [own.index(label) for label in labels]
        return found if order == sorted(order) else found.reordered(order)


def _counts(prompt: Prompt, attribute: str) -> Mapping[str, int]:
    found = prompt.attributes.get(attribute)
    return found.counts if found else {}


def gather(run: LoadedRun, given: Path | None = None) -> Evidence:
    """Look for near-copies in a run, and for its calibration: the one given, else the one kept in its folder.

    Raises
    ------
    InputError
        The calibration that is given is not one of the run's classifier and margins.
    """
    found = Evidence(run, copies=copies_of(run))
    kept = run.path / KEPT
    path = given if given is not None else kept if kept.exists() else None
    if path is None:
        return found
    if run.attributes is None or not isinstance(run.header.classifier, Mapping):
        if given is None:
            return found
        raise ComparisonError(
            f"--calibration {given}: {run.name} does not say which classifier and wording it was read with"
        )
    try:
        calibration = load_calibration(path, run.header.classifier, run.attributes)
    except InputError:
        if given is not None:
            raise
        return replace(found, doubts=(UNFIT,))
    doubts, reweighted = _checked(run, calibration)
    return replace(found, calibration=calibration, doubts=tuple(doubts), reweighted=reweighted)


def same_calibration(first: Evidence, second: Evidence) -> bool:
    """Whether both runs are corrected by one calibration, so that its error is the same on both sides; two mixes of its groups are not."""
    one, two = first.calibration, second.calibration
    if first.reweighted is not None or second.reweighted is not None:
        return False
    return one is not None and two is not None and one.data == two.data


def _checked(run: LoadedRun, calibration: Calibration) -> tuple[list[str], st.Confusion | None]:
    """The checks that a corrected headline has to pass, made on this run's tables, and the rates of its own mix of groups if it took one."""
    folder, metrics = RunFolder(run.path), run.metrics
    labels = {metrics.headline: list(metrics.headline_labels)}
    counted = tally(folder, attributes=list(labels), set_size=metrics.summary.set_size)
    cells = {name: calibration.sure_cells(name, own) for name, own in labels.items()}
    surely = {
        name: sure_counts(folder, attribute=name, edges=found.edges)
        for name, found in cells.items()
        if found is not None and not counted.persons
    }
    correction, notes = correct(
        [p for p in counted.prompts if p.prompted],
        calibration,
        labels=labels,
        headline=metrics.headline,
        set_size=metrics.summary.set_size,
        confidence=metrics.summary.confidence,
        surely=surely,
        asked=run.header.asked,
        labelled=labelled_images(folder),
    )
    fit = correction.fits.get(metrics.headline)
    beside = {
        "unanimity_corrected": correction.over_prompts,
        "calibration_fit": fit,
    }
    checked = metrics.model_copy(
        update={"calibration": calibration.summary(), "summary": metrics.summary.model_copy(update=beside)}
    ).with_notes(notes)
    return doubts_of_correction(checked), correction.confusion if fit is not None and fit.by is not None else None


def copies_of(run: LoadedRun) -> dict[str, Copies]:
    """Near-copies by attribute; none are looked for where the run's metrics say that there are none."""
    summary, folder = run.metrics.summary, RunFolder(run.path)
    if "near_copies" in summary.model_fields_set and not summary.near_copies:
        return {}
    if not folder.images_path.exists() or not folder.scores_path.exists():
        return {}
    images = near_copies(folder).images
    if not images:
        return {}
    names = [run.metrics.headline, *(name for name in run.metrics.labels if name != run.metrics.headline)]
    return {name: copy_counts(folder, attribute=name, images=images, set_size=summary.set_size) for name in names}


def with_sets_of(run: LoadedRun, set_size: int) -> LoadedRun:
    """The same run, its first sets taken as smaller ones: the tables are counted again, no image is read."""
    metrics, folder = run.metrics, RunFolder(run.path)
    if metrics.summary.set_size == set_size:
        return run
    if not folder.images_path.exists() or not folder.scores_path.exists():
        raise ComparisonError(
            f"{run.name}: its sets have {metrics.summary.set_size} images and not {set_size}, and its tables, which could be counted "
            "again, are not there"
        )
    names = [metrics.headline, *(name for name in metrics.labels if name != metrics.headline)]
    labels = {name: metrics.labels.get(name, list(metrics.headline_labels)) for name in names}
    counted = tally(folder, attributes=names, set_size=set_size)
    images = near_copies(folder).images if metrics.summary.near_copies else frozenset()
    again: Metrics = compute_metrics(
        counted,
        labels=labels,
        headline=metrics.headline,
        set_size=set_size,
        confidence=metrics.summary.confidence,
        copies=copy_counts(folder, attribute=metrics.headline, images=images, set_size=set_size),
        asked=run.header.asked,
    )
    said = {prompt.id: {"subject": prompt.subject, "expect": prompt.expect} for prompt in metrics.prompts}
    kept: dict[str, Any] = {
        "prompts": [p.model_copy(update=said[p.id]) for p in again.prompts if p.id in said],
        **({"withheld": metrics.withheld} if metrics.withheld is not None else {}),
    }
    return replace(run, metrics=again.model_copy(update=kept))
