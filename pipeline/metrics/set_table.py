"""Label counts over every prompt's set, and the figures that rest on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import MIXED, UNREADABLE
from allfour.pipeline.run.record import Interval


class SetTable:
    """Label counts over every prompt's set, as arrays."""

    def __init__(self, prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int) -> None:
        counts = [p.set_labels.get(attribute, {}) for p in prompts]
        self.labelled = np.array([[c.get(label, 0) for label in labels] for c in counts], dtype=np.int64).reshape(
            -1, len(labels)
        )
        """[prompts, labels] images of the set with exactly that label."""
        self.mixed = np.array([c.get(MIXED, 0) for c in counts], dtype=np.int64)
        self.evaluated = np.array([p.requested >= set_size for p in prompts], dtype=bool)
        """[prompts] has a whole set: a prompt with fewer images is listed, and is in no denominator."""
        self._scored = np.array([scored(c) > 0 for c in counts], dtype=bool)
        self._size = np.array([min(p.requested, set_size) for p in prompts], dtype=np.int64)

    def has_scored(self, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
        """Was an image of a whole set among these prompts scored? Where none was, unanimity is not 0: it has no value."""
        return bool((self.evaluated & self._scored & rows).any())

    def unanimous(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[prompts] column of the label that every image of the set shows, or -1."""
        unresolved = self._size - self.labelled.sum(axis=1)  # refused, failed, unreadable, ambiguous, no person, mixed
        return np.where(self.evaluated, st.unanimous_label(self.labelled, unresolved=unresolved), -1)

    def possible(
        self, *, open_too: np.ndarray[Any, np.dtype[np.int64]] | None = None
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[prompts] could the set be unanimous if every image without a label were resolved in its favour?

        Parameters
        ----------
        open_too
            [prompts, labels] further images that may show anything, though they have that label.
        """
        told = self.labelled if open_too is None else self.labelled - open_too
        one_label = told.max(axis=1, initial=0) == told.sum(axis=1)
        return np.asarray(self.evaluated & one_label & (self.mixed == 0), dtype=bool)


def scored(labels: Mapping[str, int]) -> int:
    """Images that the classifier read, whatever it decided."""
    return sum(labels.values()) - labels.get(UNREADABLE, 0)


def entry_of(interval: st.Interval, *, known: bool = True) -> Interval:
    """A figure of unanimity; without a value its ends are null too, so that no gate on an end passes for want of data."""
    return (
        Interval.of(interval)
        if known and interval.value is not None
        else Interval(value=None, low=None, high=None, method=interval.method)
    )


def label_counts(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = [[p.labels.get(attribute, {}).get(label, 0) for label in labels] for p in prompts]
    return np.array(rows, dtype=np.int64).reshape(-1, len(labels))


def mixed_counts(prompts: Sequence[PromptTally], attribute: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[prompts] images that show several labels."""
    return np.array([p.labels.get(attribute, {}).get(MIXED, 0) for p in prompts], dtype=np.int64)
