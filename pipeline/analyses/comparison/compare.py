"""Run against run, prompt by prompt, and runs against reference shares: comparison.json, format 1.

The unit is the prompt. Two runs of the same prompts are paired, which takes out how much prompts differ among themselves;
images of one prompt are never treated as independent of each other where prompts are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun, check_comparable, load_runs
from allfour.pipeline.analyses.comparison.reference import UNIFORM, against_reference
from allfour.pipeline.analyses.comparison.tables import (
    FALSE_DISCOVERY_RATE,
    Counts,
    difference_entry,
    flips,
    label_counts,
    label_shares,
    number_or_none,
    share_distance,
)
from allfour.pipeline.config import Reference, load_reference
from allfour.pipeline.run.folder import utc_now
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.words import level, quantity

FORMAT = 1
_DRAWS = 9_999
_MAX_DRAWN = 3_000_000
"""Numbers drawn for one permutation test; with very many prompts there are fewer draws."""


def compare(
    runs: Sequence[LoadedRun], *, reference: Reference | str | None = None, shared_only: bool = False
) -> dict[str, Any]:
    """comparison.json: every further run against the first, and every run against the reference.

    Parameters
    ----------
    runs
        One or more; see `allfour.pipeline.analyses.comparison.comparability.load_runs`.
    reference
        Shares to compare with, or `UNIFORM`.
    shared_only
        Leave out prompts that one run lacks, which are refused otherwise.

    Raises
    ------
    ComparisonError
        The runs cannot be compared, there is one run and no reference, or the reference knows none of the prompts.
    """
    if not runs or (len(runs) == 1 and reference is None):
        raise ComparisonError(
            "a comparison needs two runs, or one and a reference: allfour compare RUN_A RUN_B, or allfour compare RUN "
            "--reference uniform"
        )
    first = runs[0]
    for other in runs[1:]:
        check_comparable(first, other, shared_only=shared_only)
    confidence = first.metrics.summary.confidence
    pairs = [_pair(first, other, confidence) for other in runs[1:]]
    references = [against_reference(run, reference, confidence) for run in runs] if reference is not None else []
    summary: dict[str, Any] = dict(pairs[0]["summary"]) if pairs else {}
    if references:
        summary["reference_difference"] = references[-1]["summary"]["mean_absolute_difference"]
    return {
        "format": FORMAT,
        "created": utc_now(),
        "headline": first.metrics.headline,
        "labels": {name: list(labels) for name, labels in first.metrics.labels.items()},
        "set_size": first.metrics.summary.set_size,
        "confidence": confidence,
        "summary": summary,
        "runs": [_run(run) for run in runs],
        "comparisons": pairs,
        "references": references,
    }


def compare_paths(paths: Sequence[Path], *, reference: str | None = None, shared_only: bool = False) -> dict[str, Any]:
    """`compare` for run folders and a reference file (or `uniform`). Raises ComparisonError, ConfigError."""
    known: Reference | str | None = reference
    if reference is not None and reference != UNIFORM:
        known = load_reference(Path(reference).absolute() if Path(reference).exists() else reference)
    return compare(load_runs(paths), reference=known, shared_only=shared_only)


def _run(run: LoadedRun) -> dict[str, Any]:
    header, metrics = run.header, run.metrics
    return {
        "name": run.name,
        "title": header.name,
        "created": header.created,
        "finished": header.finished,
        "generator": header.generator,
        "source": header.source,
        "classifier": header.classifier,
        "summary": metrics.summary.model_dump(mode="json"),
        "accounting": metrics.accounting.model_dump(mode="json"),
        "withheld": metrics.withheld.model_dump(mode="json") if metrics.withheld is not None else None,
    }


# --- run against run -------------------------------------------------------------------------------------------------


def _pair(first: LoadedRun, second: LoadedRun, confidence: float) -> dict[str, Any]:
    """The second run less the first."""
    one, two = first.prompts, second.prompts
    ids = [key for key in one if key in two]
    before, after = [one[key] for key in ids], [two[key] for key in ids]
    metrics = first.metrics
    labels, headline, size = metrics.headline_labels, metrics.headline, metrics.summary.set_size
    counts = label_counts(before, headline, labels, headline), label_counts(after, headline, labels, headline)
    rows = _prompt_rows(before, after, counts, labels, confidence)
    summary = {
        "prompts": len(ids),
        "prompts_left_out": len(one) + len(two) - 2 * len(ids),
        "set_size": size,
        "unanimous": _transitions(before, after),
        "unanimity_difference": _set_difference(before, after, confidence),
        "unanimity_all_images_difference": _subset_difference(before, after, counts, size, confidence),
        "share_difference": _share_differences(counts, labels, confidence),
        "mean_absolute_change": _absolute_change(counts),
        "changed_prompts": sum(row["q_value"] is not None and row["q_value"] <= FALSE_DISCOVERY_RATE for row in rows),
    }
    others = {
        name: {"share_difference": _share_differences(_both(before, after, name, own, headline), own, confidence)}
        for name, own in metrics.labels.items()
        if name != headline and name in second.metrics.labels
    }
    return {
        "name": second.name,
        "first": first.name,
        "second": second.name,
        "summary": summary,
        "attributes": others,
        "prompts": rows,
        "warnings": _warnings(first, second, before, after, summary) + _coverage(counts, summary),
    }


def _both(
    before: Sequence[Prompt], after: Sequence[Prompt], name: str, labels: Sequence[str], headline: str
) -> tuple[Counts, Counts]:
    return label_counts(before, name, labels, headline), label_counts(after, name, labels, headline)


def _transitions(before: Sequence[Prompt], after: Sequence[Prompt]) -> dict[str, Any]:
    """Prompts that have a whole set in both runs, by what the set shows in either."""
    pairs = [(a.unanimous, b.unanimous) for a, b in zip(before, after, strict=True) if a.evaluated and b.evaluated]
    return {
        "prompts": len(pairs),
        "first": sum(a is not None for a, _ in pairs),
        "second": sum(b is not None for _, b in pairs),
        "both": sum(a is not None and b is not None for a, b in pairs),
        "gained": sum(a is None and b is not None for a, b in pairs),
        "lost": sum(a is not None and b is None for a, b in pairs),
        "turned": sum(a is not None and b is not None and a != b for a, b in pairs),
        "moves": [
            {"first": a, "second": b, "prompts": pairs.count((a, b))} for a, b in dict.fromkeys(pairs)
        ],
    }  # fmt: skip


def _set_difference(before: Sequence[Prompt], after: Sequence[Prompt], confidence: float) -> dict[str, Any]:
    """Unanimity of the first set of each prompt, tested by McNemar."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a.evaluated and b.evaluated]
    one = [a.unanimous is not None for a, _ in pairs]
    two = [b.unanimous is not None for _, b in pairs]
    found = st.paired_difference(
        np.array(one, float), np.array(two, float), resolution=1.0, confidence=confidence, draws=99
    )
    means = [sum(side) / len(pairs) if pairs else None for side in (one, two)]
    entry = difference_entry(found, p_value=st.mcnemar(one, two))
    return {**entry, "test": "mcnemar", "first": means[0], "second": means[1]}


def _subset_difference(
    before: Sequence[Prompt], after: Sequence[Prompt], counts: tuple[Counts, Counts], size: int, confidence: float
) -> dict[str, Any]:
    """Unanimity over every set that could be drawn from a prompt's images, unclear images against it."""
    values = []
    for prompts, table in zip((before, after), counts, strict=True):
        unresolved = np.array([p.images for p in prompts], dtype=np.int64) - table.sum(axis=1)
        values.append(st.subset_unanimity(table, set_size=size, unresolved=np.maximum(unresolved, 0)))
    known = np.isfinite(values[0]) & np.isfinite(values[1])
    found = st.paired_difference(values[0][known], values[1][known], confidence=confidence, draws=flips(len(known)))
    means = [float(value[known].mean()) if known.any() else None for value in values]
    return {**difference_entry(found), "test": "sign-flip", "first": means[0], "second": means[1]}


def _share_differences(counts: tuple[Counts, Counts], labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """Mean share of each label over prompts, in both runs and their difference."""
    totals = counts[0].sum(axis=1), counts[1].sum(axis=1)
    known = (totals[0] > 0) & (totals[1] > 0)
    shares = label_shares(counts[0][known]), label_shares(counts[1][known])
    images = np.concatenate([totals[0][known], totals[1][known]])
    resolution = 1 / float(np.median(images)) if len(images) else None
    result = {}
    for column, label in enumerate(labels):
        one, two = shares[0][:, column], shares[1][:, column]
        found = st.paired_difference(one, two, resolution=resolution, confidence=confidence, draws=flips(len(one)))
        result[label] = {
            **difference_entry(found),
            "first": float(one.mean()) if len(one) else None,
            "second": float(two.mean()) if len(two) else None,
        }
    return result


def _absolute_change(counts: tuple[Counts, Counts]) -> dict[str, Any]:
    """How far a prompt's shares moved on average, whichever way, and what sampling alone would show.

    The mean difference is blind to moves that cancel out. Without any change the labelled images of a prompt fall to the
    two runs like cards that are dealt: the expectation under that (the floor) and the test permute them within prompts.
    """
    one, two = counts
    known = (one.sum(axis=1) > 0) & (two.sum(axis=1) > 0)
    one, two = one[known], two[known]
    if not len(one):
        return {"value": None, "floor": None, "p_value": None, "prompts": 0}
    observed = float(share_distance(label_shares(one), label_shares(two)).mean())
    random = np.random.default_rng(0)
    draws = int(max(199, min(_DRAWS, _MAX_DRAWN // max(one.size, 1))))
    pooled, size = one + two, one.sum(axis=1)
    total = np.zeros(draws)
    for row in range(len(one)):
        dealt = random.multivariate_hypergeometric(pooled[row], int(size[row]), size=draws, method="marginals")
        total += share_distance(label_shares(dealt), label_shares(pooled[row] - dealt))
    dealt_mean = total / len(one)
    p_value = (1 + int((dealt_mean >= observed - 1e-12).sum())) / (draws + 1)
    return {"value": observed, "floor": float(dealt_mean.mean()), "p_value": p_value, "prompts": len(one)}


def _prompt_rows(
    before: Sequence[Prompt],
    after: Sequence[Prompt],
    counts: tuple[Counts, Counts],
    labels: Sequence[str],
    confidence: float,
) -> list[dict[str, Any]]:
    """One entry per prompt, from the one whose shares moved most to the one whose moved least."""
    one, two = counts
    folded = [np.column_stack([table[:, 0], table[:, 1:].sum(axis=1)]) for table in counts]
    p_values, q_values = st.prompt_differences(folded[0], folded[1])
    change = share_distance(label_shares(one), label_shares(two))
    rows = []
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        rows.append(
            {
                "id": old.id,
                "text": old.text,
                "group": old.group,
                "change": number_or_none(change[row]),
                "difference": {
                    label: _two_shares(one[row], two[row], column, confidence) for column, label in enumerate(labels)
                },
                "p_value": number_or_none(p_values[row]),
                "q_value": number_or_none(q_values[row]),
                "first": _side(old, one[row], labels, confidence),
                "second": _side(new, two[row], labels, confidence),
            }
        )
    rows.sort(key=_most_changed)
    return [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]


def _side(prompt: Prompt, counts: Counts, labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """One run's part, its shares at the comparison's confidence whatever its own was."""
    shares = [st.wilson(int(count), int(counts.sum()), confidence=confidence) for count in counts]
    return {
        "images": prompt.images,
        "evaluated": prompt.evaluated,
        "unanimous": prompt.unanimous,
        "counts": dict(prompt.counts),
        "share": {
            label: {"value": share.value, "low": share.low, "high": share.high}
            for label, share in zip(labels, shares, strict=True)
        },
    }


def _most_changed(row: Mapping[str, Any]) -> tuple[float, float, bool, str]:
    change = -1.0 if row["change"] is None else row["change"]
    p_value = 1.0 if row["p_value"] is None else row["p_value"]
    same_verdict = row["first"]["unanimous"] == row["second"]["unanimous"]
    return -round(change, 9), p_value, same_verdict, str(row["id"])


def _two_shares(first: Counts, second: Counts, column: int, confidence: float) -> dict[str, Any]:
    """Difference of two independent shares with Newcombe's interval from two Wilson intervals (method 10).

    Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions: comparison of eleven
    methods. Statist. Med. 17, 873-890.
    """
    a = st.wilson(int(first[column]), int(first.sum()), confidence=confidence)
    b = st.wilson(int(second[column]), int(second.sum()), confidence=confidence)
    if a.value is None or b.value is None:
        return {"value": None, "low": -1.0, "high": 1.0}
    value = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return {"value": value, "low": max(value - below, -1.0), "high": min(value + above, 1.0)}


def _identical_images(first: LoadedRun, second: LoadedRun) -> int:
    """Images of the second run whose bytes are those of an image of the first."""
    tables = [run.path / "images.parquet" for run in (first, second)]
    if not all(path.exists() for path in tables):
        return 0
    query = "SELECT count(*) FROM read_parquet(?) WHERE sha256 IN (SELECT sha256 FROM read_parquet(?) WHERE sha256 IS NOT NULL)"
    with duckdb.connect() as connection:
        row: Any = connection.execute(query, [_literal(tables[1]), _literal(tables[0])]).fetchone()
    return int(row[0])


def _literal(path: Path) -> str:
    """A path in which `[` and `*` are no pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def _warnings(
    first: LoadedRun,
    second: LoadedRun,
    before: Sequence[Prompt],
    after: Sequence[Prompt],
    summary: Mapping[str, Any],
) -> list[str]:
    """What a reader must know before quoting a difference."""
    found = []
    own, other = first.metrics.summary.confidence, second.metrics.summary.confidence
    if own != other:
        found.append(
            f"{first.name} was measured at {level(own)} confidence and {second.name} at {level(other)}: every interval here is computed "
            f"anew at {level(own)}, and those of the report of {second.name} are others."
        )
    if summary["prompts_left_out"]:
        are = "is" if summary["prompts_left_out"] == 1 else "are"
        found.append(f"{quantity(summary['prompts_left_out'], 'prompt')} {are} in one run only and in no figure here.")
    whole = summary["unanimous"]["prompts"]
    if whole < summary["prompts"]:
        found.append(
            f"{summary['prompts'] - whole} of {quantity(summary['prompts'], 'prompt')} without a whole set in one of the runs: in no "
            "difference of unanimity."
        )
    if whole < 10:
        found.append(
            f"Only {quantity(whole, 'prompt')}: no test can find a small difference here, and none speaks for a model."
            if whole
            else "No prompt has a whole set in both runs: whether unanimity differs cannot be told."
        )
    for run in (first, second):
        gone = run.metrics.accounting.refused + run.metrics.accounting.failed + run.metrics.accounting.unreadable
        if gone:
            found.append(
                f"{run.name} lacks {gone} of {quantity(run.metrics.accounting.requested, 'image')}; a set that lacks one counts as not of "
                "one kind, so missing images can look like a difference."
            )
    unclear = [_unclear(run.metrics) for run in (first, second)]
    if abs(unclear[0] - unclear[1]) > 0.05:
        found.append(
            f"{unclear[0]:.0%} of the images of {first.name} and {unclear[1]:.0%} of those of {second.name} got no label: part "
            "of the difference may be one of legibility."
        )
    if same := _identical_images(first, second):
        are = "is byte for byte an image" if same == 1 else "are byte for byte images"
        found.append(
            f"{quantity(same, 'image')} of {second.name} {are} of {first.name}: what they show cannot differ, and the runs "
            "are no independent samples."
        )
    many = {prompt.images for prompt in (*before, *after)}
    if len(many) > 1 and {p.images for p in before} != {p.images for p in after}:
        found.append(
            "The runs hold different numbers of images per prompt; shares are compared with each prompt's own."
        )
    return found


def _coverage(counts: tuple[Counts, Counts], summary: Mapping[str, Any]) -> list[str]:
    """Where docs/validation.md found that the interval of a difference covers less often than it says."""
    totals = [table.sum(axis=0) for table in counts]
    over_sets = summary["unanimity_all_images_difference"]
    found = st.comparison_coverage_warnings(
        unanimity=[over_sets["first"], over_sets["second"]],
        other_images=[int(t.sum() - t.max()) if t.sum() else None for t in totals],
        set_size=summary["set_size"],
        labels=counts[0].shape[1],
    )
    return [warning.message for warning in found]


def _unclear(metrics: Metrics) -> float:
    a = metrics.accounting
    return (a.ambiguous + a.no_person) / a.scored if a.scored else 0.0
