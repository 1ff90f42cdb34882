"""A run's shares beside reference shares of the same prompts: labour statistics, a planted world, an even split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun
from allfour.pipeline.analyses.comparison.figures import entry_of
from allfour.pipeline.analyses.comparison.tables import (
    FALSE_DISCOVERY_RATE,
    Floats,
    flips,
    label_counts,
    label_shares,
    number_or_none,
    share_distance,
)
from allfour.pipeline.config import Reference
from allfour.pipeline.run.comparison import (
    AgainstReference,
    Difference,
    Distance,
    ReferencePrompt,
    ReferenceSource,
    ReferenceSummary,
)
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Interval

UNIFORM = "uniform"
"""The built-in reference: every label as likely as any other."""


def against_reference(run: LoadedRun, reference: Reference | str, confidence: float) -> AgainstReference:
    """One run's shares beside reference shares of the same prompts."""
    metrics = run.metrics
    known = _reference_shares(metrics, reference)
    entries = {
        name: _against_attribute(metrics, name, metrics.labels.get(name) or list(metrics.headline_labels), shares, confidence)
        for name, shares in known.items()
    }  # fmt: skip
    main = entries.get(metrics.headline)
    if main is None:
        there = "no prompts" if isinstance(reference, str) else ", ".join(list(reference.prompts)[:8])
        raise ComparisonError(
            f"{run.name}: the reference has no shares of {metrics.headline} for any of its prompts "
            f"({', '.join(list(run.prompts)[:8])}). Prompts are matched by id; the reference knows: {there}"
        )
    summary, rows = main
    without = len(metrics.prompts) - summary.prompts
    return AgainstReference(
        name=run.name,
        reference=ReferenceSource(
            name=reference.name if isinstance(reference, Reference) else "an even split",
            source=reference.source if isinstance(reference, Reference) else "every label as likely as any other",
            year=reference.year if isinstance(reference, Reference) else None,
        ),
        summary=summary.model_copy(update={"prompts_without": without}),
        attributes={name: entry[0] for name, entry in entries.items() if name != metrics.headline},
        prompts=[row.model_copy(update={"source": _source(reference, row.id)}) for row in rows],
    )


def _source(reference: Reference | str, prompt_id: str) -> str:
    return reference.prompts[prompt_id].source if isinstance(reference, Reference) else "even split"


def _reference_shares(metrics: Metrics, reference: Reference | str) -> dict[str, dict[str, dict[str, float]]]:
    """Attribute -> prompt id -> label -> share, for prompts of the run; labels without a share have none."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, labels in metrics.labels.items():
        found: dict[str, dict[str, float]] = {}
        for prompt in metrics.prompts:
            if isinstance(reference, str):
                found[prompt.id] = {label: 1 / len(labels) for label in labels}
            elif prompt.id in reference.prompts and name in reference.prompts[prompt.id].shares:
                shares = reference.prompts[prompt.id].shares[name]
                if set(shares) & set(labels):
                    found[prompt.id] = _checked_shares(reference, prompt.id, name, shares, labels)
        if found:
            result[name] = found
    return result


def _checked_shares(
    reference: Reference, prompt_id: str, attribute: str, shares: Mapping[str, float], labels: Sequence[str]
) -> dict[str, float]:
    """Shares that cover the run's labels; the last of them may be left to the rest."""
    where = f"reference {reference.name!r}, prompts.{prompt_id}.shares.{attribute}"
    if unknown := sorted(set(shares) - set(labels)):
        raise ComparisonError(
            f"{where}: {unknown[0]!r} is no label of the run ({', '.join(labels)}). Name its labels, or leave the "
            "attribute out"
        )
    lacking = [label for label in labels if label not in shares]
    rest = 1 - sum(shares.values())
    if len(lacking) > 1 or (not lacking and abs(rest) > 0.005) or rest < -0.005:
        raise ComparisonError(
            f"{where}: the shares add up to {1 - rest:.3f} over {', '.join(shares)}; they must cover {', '.join(labels)} and "
            "add up to 1"
        )
    full = {**shares, **{label: max(rest, 0.0) for label in lacking}}
    total = sum(full.values())
    return {label: full[label] / total for label in labels}


def _against_attribute(
    metrics: Metrics,
    name: str,
    labels: Sequence[str],
    shares: Mapping[str, Mapping[str, float]],
    confidence: float,
) -> tuple[ReferenceSummary, list[ReferencePrompt]]:
    prompts = [prompt for prompt in metrics.prompts if prompt.id in shares]
    counts = label_counts(prompts, name, labels, metrics.headline)
    given: Floats = np.array([[shares[p.id][label] for label in labels] for p in prompts], dtype=np.float64)
    totals = counts.sum(axis=1)
    measured = label_shares(counts)
    known = totals > 0
    distance = share_distance(measured, given)
    p_values, q_values = st.share_tests(counts[:, 0], trials=totals, reference=np.clip(given[:, 0], 0.0, 1.0))
    found = st.distance_from_reference(counts, given, independent=float(totals.sum()) or None, confidence=confidence)
    even = 1 / len(labels)
    further = np.abs(measured - even).sum(axis=1) > np.abs(given - even).sum(axis=1) + 1e-9
    rows = []
    for row, prompt in enumerate(prompts):
        share = st.wilson(int(counts[row, 0]), int(totals[row]), confidence=confidence)
        rows.append(
            ReferencePrompt(
                id=prompt.id,
                text=prompt.text,
                images=int(totals[row]),
                share={labels[0]: Interval.of(share)},
                reference={label: float(given[row, i]) for i, label in enumerate(labels)},
                difference=number_or_none(measured[row, 0] - given[row, 0]),
                distance=number_or_none(distance[row]),
                p_value=number_or_none(p_values[row]),
                q_value=number_or_none(q_values[row]),
            )
        )
    rows.sort(key=_furthest)
    summary = ReferenceSummary(
        label=labels[0],
        prompts=int(known.sum()),
        mean_absolute_difference=_distance(found),
        share_difference=_signed(given[known], measured[known], labels, confidence=confidence),
        differing_prompts=int((np.nan_to_num(q_values, nan=1.0) <= FALSE_DISCOVERY_RATE).sum()),
        further_from_even=int(further[known].sum()),
    )
    return summary, rows


def _distance(found: st.ReferenceDistance) -> Distance:
    known = found.excess.value is not None
    return Distance(
        **Interval.of(found.distance).document(),
        floor=found.floor,
        excess=found.excess.value,
        excess_low=found.excess.low if known else None,
        excess_high=found.excess.high if known else None,
        p_value=found.p_value,
    )


def _signed(given: Floats, measured: Floats, labels: Sequence[str], *, confidence: float) -> dict[str, Difference]:
    """Measured less reference share of each label, mean over prompts."""
    result = {}
    for column, label in enumerate(labels):
        p = st.sign_flip_test(measured[:, column] - given[:, column], draws=flips(len(given)))
        found = st.mean_difference(
            given[:, column], measured[:, column], p_value=p, test="sign-flip", confidence=confidence
        )
        result[label] = entry_of(found)
    return result


def _furthest(row: ReferencePrompt) -> tuple[float, str]:
    return 1.0 if row.distance is None else -row.distance, row.id
