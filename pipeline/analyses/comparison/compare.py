"""Run against run, prompt by prompt, and runs against reference shares: comparison.json, format 1.

The unit is the prompt. Two runs of the same prompts are paired, which takes out how much prompts differ among themselves;
images of one prompt are never treated as independent of each other where prompts are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from allfour.errors import UsageError
from allfour.pipeline.analyses.comparison.asked import all_ask, asked_note, without_asking
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun, check_comparable, load_runs
from allfour.pipeline.analyses.comparison.evidence import Evidence, gather, with_sets_of
from allfour.pipeline.analyses.comparison.figures import Matched, other_attributes, summary_of
from allfour.pipeline.analyses.comparison.prompts import prompt_rows
from allfour.pipeline.analyses.comparison.reference import UNIFORM, against_reference
from allfour.pipeline.analyses.comparison.remarks import remarks
from allfour.pipeline.analyses.comparison.tables import FALSE_DISCOVERY_RATE
from allfour.pipeline.analyses.comparison.verdict import with_verdicts
from allfour.pipeline.config import Reference, load_reference, typed_path
from allfour.pipeline.run.comparison import AttributeDifference, Comparison, ComparisonSummary, Pair, RunNote
from allfour.pipeline.run.folder import utc_now

FORMAT: Final = 1


def compare(
    runs: Sequence[LoadedRun],
    *,
    reference: Reference | str | None = None,
    shared_only: bool = False,
    calibrations: Sequence[Path | None] = (),
    equivalent: float | None = None,
    pair_by: str = "id",
) -> Comparison:
    """Compare every further run with the first, and every run with the reference.

    Parameters
    ----------
    runs
        One or more; see `allfour.pipeline.analyses.comparison.comparability.load_runs`. Where their sets are of different sizes, all
        are compared at the smallest.
    reference
        Shares to compare with, or `UNIFORM`.
    shared_only
        Leave out prompts that one run lacks, which are refused otherwise.
    calibrations
        A file per run, in the order of the runs, in place of the one kept in its folder; None, or none given, for the one kept.
    equivalent
        The largest difference of unanimity that counts as none: adds a test that it is smaller.
    pair_by
        `id`, or `subject`: prompts of one subject are paired whatever their words.

    Raises
    ------
    ComparisonError
        The runs cannot be compared, there is one run and no reference, or the reference knows none of the prompts.
    InputError
        A calibration that is given is not one of its run's classifier.
    UsageError
        The margin lies outside 0 to 1.
    """
    if not runs or (len(runs) == 1 and reference is None):
        raise ComparisonError(
            "a comparison needs two runs, or one and a reference: allfour compare RUN_A RUN_B, or allfour compare RUN "
            "--reference uniform"
        )
    if equivalent is not None and not 0 < equivalent < 1:
        raise UsageError(f"--equivalent {equivalent:g}: a difference of shares, such as 0.05 for five points")
    runs, asked = without_asking(runs)
    if none_left := [run for run in runs if not run.metrics.prompts and asked]:
        raise ComparisonError(all_ask(none_left, asked, runs[0].metrics.headline))
    sizes = [run.metrics.summary.set_size for run in runs]
    given = [*calibrations, *([None] * (len(runs) - len(calibrations)))]
    sides = [gather(with_sets_of(run, min(sizes)), calibration) for run, calibration in zip(runs, given, strict=True)]
    first = sides[0]
    for other in sides[1:]:
        both = first.calibration is not None and other.calibration is not None
        check_comparable(first.run, other.run, shared_only=shared_only, calibrated=both, pair_by=pair_by)
    confidence = first.run.metrics.summary.confidence
    matched = [
        Matched.of(first, other, confidence=confidence, margin=equivalent, pair_by=pair_by) for other in sides[1:]
    ]
    pairs = [_pair(runs_, sizes=(sizes[0], sizes[n])) for n, runs_ in enumerate(matched, 1)]
    if asked:
        note = asked_note(asked, runs[0].metrics.headline)
        pairs = [pair.model_copy(update={"warnings": [note, *pair.warnings]}) for pair in pairs]
    pairs = with_verdicts(pairs, matched)
    references = [against_reference(side.run, reference, confidence) for side in sides] if reference is not None else []
    summary = ComparisonSummary.model_validate(pairs[0].summary.document()) if pairs else ComparisonSummary()
    if references:
        distance = references[-1].summary.mean_absolute_difference
        summary = summary.model_copy(update={"reference_difference": distance})
    metrics = first.run.metrics
    return Comparison(
        format=FORMAT,
        created=utc_now(),
        headline=metrics.headline,
        labels={name: list(labels) for name, labels in metrics.labels.items()},
        set_size=metrics.summary.set_size,
        confidence=confidence,
        summary=summary,
        runs=[_run(side) for side in sides],
        comparisons=pairs,
        references=references,
        asked_for=asked,
    )


def compare_paths(
    paths: Sequence[Path],
    *,
    reference: str | None = None,
    shared_only: bool = False,
    calibrations: Sequence[Path | None] = (),
    equivalent: float | None = None,
    pair_by: str = "id",
) -> Comparison:
    """`compare` for run folders and a reference file (or `uniform`). Raises what `compare` does, and ConfigError for the reference."""
    known: Reference | str | None = reference
    if reference is not None and reference != UNIFORM:
        known = load_reference(typed_path(reference))
    return compare(
        load_runs(paths),
        reference=known,
        shared_only=shared_only,
        calibrations=calibrations,
        equivalent=equivalent,
        pair_by=pair_by,
    )


def _run(side: Evidence) -> RunNote:
    header, metrics = side.run.header, side.run.metrics
    dataset = side.calibration.data["dataset"] if side.calibration is not None else None
    return RunNote(
        name=side.run.name,
        title=header.name,
        created=header.created,
        finished=header.finished,
        generator=header.generator,
        source=header.source,
        classifier=header.classifier,
        summary=metrics.summary,
        accounting=metrics.accounting,
        withheld=metrics.withheld,
        calibration=str(dataset.get("name", "unnamed")) if isinstance(dataset, dict) else None,
        doubts=list(side.doubts),
    )


def _pair(matched: Matched, *, sizes: tuple[int, int]) -> Pair:
    """The second run less the first, without a headline."""
    rows = prompt_rows(matched)
    changed = sum(row.q_value is not None and row.q_value <= FALSE_DISCOVERY_RATE for row in rows)
    summary = summary_of(matched, changed)
    second = matched.second.run.name
    return Pair(
        name=second,
        first=matched.first.run.name,
        second=second,
        summary=summary,
        attributes={
            name: AttributeDifference(share_difference=found) for name, found in other_attributes(matched).items()
        },
        prompts=rows,
        warnings=remarks(matched, summary, sizes=sizes),
    )
