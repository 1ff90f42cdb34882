"""Prompt by prompt: shares in both runs, their difference, and a test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.figures import Matched
from allfour.pipeline.analyses.comparison.tables import Counts, label_shares, number_or_none, share_distance
from allfour.pipeline.run.comparison import Difference, PromptPair, Side
from allfour.pipeline.run.metrics import Prompt
from allfour.pipeline.run.record import Interval


def prompt_rows(matched: Matched) -> list[PromptPair]:
    """One entry per prompt, from the one whose shares moved most to the one whose moved least; near-copies are counted once."""
    labels, confidence = matched.labels, matched.confidence
    sides = matched.read(matched.headline, labels)
    one, two = (side.decisions[:, : len(labels)] for side in sides)
    copies = matched.first.near_copies(matched.before), matched.second.near_copies(matched.after)
    folded = [np.column_stack([table[:, 0], table[:, 1:].sum(axis=1)]) for table in (one, two)]
    p_values, q_values = st.prompt_differences(folded[0], folded[1])
    change = share_distance(label_shares(one), label_shares(two))
    rows = [
        PromptPair(
            id=old.id,
            text=old.text,
            group=old.group,
            change=number_or_none(change[row]),
            difference={
                label: two_shares(one[row], two[row], column, confidence) for column, label in enumerate(labels)
            },
            p_value=number_or_none(p_values[row]),
            q_value=number_or_none(q_values[row]),
            first=_side(old, one[row], labels, confidence, copies=int(copies[0][row])),
            second=_side(new, two[row], labels, confidence, copies=int(copies[1][row])),
        )
        for row, (old, new) in enumerate(zip(matched.before, matched.after, strict=True))
    ]
    rows.sort(key=_most_changed)
    return [row.model_copy(update={"rank": rank}) for rank, row in enumerate(rows, 1)]


def _side(prompt: Prompt, counts: Counts, labels: Sequence[str], confidence: float, *, copies: int) -> Side:
    """One run's part, its shares at the comparison's confidence whatever its own was."""
    shares = [st.wilson(int(count), int(counts.sum()), confidence=confidence) for count in counts]
    found = Side(
        images=prompt.images,
        evaluated=prompt.evaluated,
        id=prompt.id,
        text=prompt.text,
        unanimous=prompt.unanimous,
        counts=dict(prompt.counts),
        share={
            label: Interval(value=share.value, low=share.low, high=share.high)
            for label, share in zip(labels, shares, strict=True)
        },
    )
    return found.model_copy(update={"near_copies": copies}) if copies else found


def _most_changed(row: PromptPair) -> tuple[float, float, bool, str]:
    change = -1.0 if row.change is None else row.change
    p_value = 1.0 if row.p_value is None else row.p_value
    return -round(change, 9), p_value, row.first.unanimous == row.second.unanimous, row.id


def two_shares(first: Counts, second: Counts, column: int, confidence: float) -> Difference:
    """Difference of two independent shares with Newcombe's interval from two Wilson intervals (method 10).

    Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions: comparison of eleven
    methods. Statist. Med. 17, 873-890.
    """
    a = st.wilson(int(first[column]), int(first.sum()), confidence=confidence)
    b = st.wilson(int(second[column]), int(second.sum()), confidence=confidence)
    if a.value is None or b.value is None:
        return Difference(value=None, low=-1.0, high=1.0)
    value = b.value - a.value
    below = math.hypot(b.value - b.low, a.high - a.value)
    above = math.hypot(b.high - b.value, a.value - a.low)
    return Difference(value=value, low=max(value - below, -1.0), high=min(value + above, 1.0))
