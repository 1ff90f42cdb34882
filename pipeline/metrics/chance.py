"""What a run is measured against: even draws, its own pooled shares, and the shares of a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.set_table import SetTable
from allfour.pipeline.run.metrics import Amplification, NullOfSets, Nulls, Prompt, ReferenceDifference
from allfour.pipeline.statistics.arrays import BoolArray, FloatArray


def nulls(prompts: Sequence[Prompt], table: SetTable, *, labels: Sequence[str], set_size: int) -> Nulls | None:
    """Unanimous sets expected by chance, over the complete sets: those in which every image has a label.

    None where no set is complete.
    """
    complete = table.evaluated & (table.labelled.sum(axis=1) == set_size)
    if not complete.any():
        return None
    unanimous = table.unanimous() >= 0
    even = np.full((len(prompts), len(labels)), 1 / len(labels))
    counts = table.labelled[complete]
    pooled = np.broadcast_to((counts / set_size).mean(axis=0), even.shape)
    reference = reference_shares(prompts, labels)
    given = np.isfinite(reference).all(axis=1)

    def of(shares: FloatArray, rows: BoolArray) -> NullOfSets | None:
        if not rows.any():
            return None
        observed = int(unanimous[rows].sum())
        found = st.null_of_shares(shares[rows], set_size=set_size, observed=observed)
        return NullOfSets(
            sets=int(rows.sum()),
            unanimous=observed,
            expected=found.expected_share,
            expected_count=found.expected_count,
            p_value=found.p_value,
        )

    everything = {"even": of(even, complete), "pooled": of(pooled, complete)}
    return Nulls(**everything, reference=of(reference, complete & given))


def reference_shares(prompts: Sequence[Prompt], labels: Sequence[str]) -> FloatArray:
    """[prompts, labels] reference shares; a row of nan where they do not name every label and add up to 1."""
    rows = np.full((len(prompts), len(labels)), np.nan)
    for row, prompt in enumerate(prompts):
        given = [(prompt.reference or {}).get(label) for label in labels]
        found = [share for share in given if share is not None]
        if len(found) == len(labels) and abs(sum(found) - 1) <= 0.01:
            rows[row] = np.array(found) / sum(found)
    return rows


def reference_difference(prompts: Sequence[Prompt], labels: Sequence[str], *, confidence: float) -> ReferenceDifference:
    """How far measured shares of the first label lie from reference shares, beside what chance alone gives."""
    hits = np.array([p.counts.get(labels[0], 0) for p in prompts], dtype=np.int64)
    total = np.array([sum(p.counts.get(label, 0) for label in labels) for p in prompts], dtype=np.int64)
    given = [(p.reference or {}).get(labels[0]) for p in prompts]
    shares = np.array([np.nan if share is None else share for share in given], dtype=np.float64)
    found = st.reference_distance(hits, trials=total, reference=shares, confidence=confidence)
    known = found.distance.value is not None
    return ReferenceDifference(
        label=labels[0],
        prompts=found.prompts,
        mean_absolute=found.distance.value,
        low=found.distance.low if known else None,
        high=found.distance.high if known else None,
        floor=found.floor,
        excess=found.excess.value,
        excess_low=found.excess.low if known else None,
        excess_high=found.excess.high if known else None,
        p_value=found.p_value,
    )


def amplification(prompts: Sequence[Prompt], labels: Sequence[str], *, confidence: float) -> Amplification | None:
    """How much further than the reference shares lean its own way; None with fewer than two prompts to tell it from."""
    reference = reference_shares(prompts, labels)
    known = np.isfinite(reference).all(axis=1)
    counts = np.array([[p.counts.get(label, 0) for label in labels] for p in prompts], dtype=np.int64)
    found = st.amplification(counts[known], reference[known], confidence=confidence)
    if found.interval.value is None:
        return None
    at = found.interval
    return Amplification(value=at.value, low=at.low, high=at.high, method=at.method, prompts=found.prompts)
