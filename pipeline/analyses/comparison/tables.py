"""Label counts of prompts as arrays, and what comparisons compute from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from allfour.pipeline.run.metrics import Prompt

FALSE_DISCOVERY_RATE = 0.05
"""Prompts count as different where the p-value, adjusted over prompts, is at most this."""

_MOST_FLIPS, _FEWEST_FLIPS, _FLIPPED = 9_999, 999, 20_000_000

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def label_counts(prompts: Sequence[Prompt], attribute: str, labels: Sequence[str], headline: str) -> Counts:
    """Images per prompt and label, shape (prompts, labels)."""
    rows = []
    for prompt in prompts:
        found = prompt.counts if attribute == headline else _attribute_counts(prompt, attribute)
        rows.append([found.get(label, 0) for label in labels])
    return np.array(rows, dtype=np.int64).reshape(-1, len(labels))


def _attribute_counts(prompt: Prompt, attribute: str) -> Mapping[str, int]:
    found = prompt.attributes.get(attribute)
    return found.counts if found else {}


def label_shares(counts: Counts) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = counts / counts.sum(axis=1, keepdims=True)
    return shares


def number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def share_distance(one: Floats, two: Floats) -> Floats:
    """Total variation distance of every row: for two labels the absolute difference of either's share."""
    result: Floats = np.abs(one - two).sum(axis=1) / 2
    return result


def flips(prompts: int) -> int:
    """Random sign flips for a test over so many prompts, where there are too many to try all: fewer where each costs more."""
    return max(_FEWEST_FLIPS, min(_MOST_FLIPS, _FLIPPED // max(prompts, 1)))
