"""The headline's question over the first set of every prompt: the measured count, and what images without a label leave open."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.breakdowns import all_images, by_sets, identified_entry, unanimity_of, unlabelled
from allfour.pipeline.metrics.set_table import SetTable, entry_of, label_counts, mixed_counts
from allfour.pipeline.metrics.tallies import Copies, PromptTally
from allfour.pipeline.run.metrics import Bounds, Identified, Null

Counts: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class HeadlineSets:
    """First sets of the prompts that are in the headline's figures, and each figure that rests on them alone.

    Parameters
    ----------
    prompts
        Prompts in the figures: known by their words, and asking for no label of the question.
    attribute, labels
        The question and its labels.
    copies
        Near-copies of an earlier image of their prompt. They are no draws of their own: limits hold whatever an image in their
        place would have shown.
    """

    def __init__(
        self,
        prompts: Sequence[PromptTally],
        *,
        attribute: str,
        labels: Sequence[str],
        set_size: int,
        confidence: float,
        copies: Copies,
    ) -> None:
        self.prompts, self.attribute, self.labels = prompts, attribute, labels
        self.set_size, self.confidence = set_size, confidence
        self.table = SetTable(prompts, attribute, labels, set_size)
        self.copied, self.copied_in_sets = copied_labels(prompts, labels, copies)
        self.unanimous = self.table.unanimous()
        self.possible = self.table.possible()
        evaluated = self.table.evaluated
        self.count = int(evaluated.sum())
        """Prompts with a whole set: the denominator."""
        self.observed = int((self.unanimous[evaluated] >= 0).sum())
        """Of those, prompts whose whole set shows one label."""
        self.known = self.table.has_scored(evaluated)
        """Was any of these images scored? Where none was, no figure has a value."""
        self.interval = st.wilson(self.observed, self.count, confidence=confidence)

    @functools.cached_property
    def estimate(self) -> st.UnanimityEstimate:
        """Unanimity over every set that could be drawn from a prompt's images."""
        return unanimity_of(self.prompts, self.attribute, self.labels, self.set_size, self.confidence)

    @functools.cached_property
    def in_sets(self) -> st.IdentifiedInterval:
        """Limits for unanimity whatever images without a label, and images in the place of near-copies, show."""
        evaluated = self.table.evaluated
        own = (self.unanimous >= 0) & (self.copied_in_sets.sum(axis=1) == 0)
        possible = self.table.possible(open_too=self.copied_in_sets)
        return st.identified_mean(
            own[evaluated].astype(np.float64), possible[evaluated].astype(np.float64), confidence=self.confidence
        )

    @property
    def hidden(self) -> float | None:
        """Share of prompts whose unanimity depends on images without a label; None where nothing is known."""
        least, most = self.in_sets.least, self.in_sets.most
        return None if least is None or most is None else most - least

    def null(self) -> Null:
        """What even draws would give, over sets in which every image has a label."""
        evaluated, labels = self.table.evaluated, len(self.labels)
        complete = int((self.table.labelled[evaluated].sum(axis=1) == self.set_size).sum())
        even = np.full(labels, 1 / labels)
        null = st.unanimity_null(np.full(complete, self.set_size), observed=self.observed, shares=even)
        return Null(
            expected=null.expected_count / self.count if self.known else None,
            expected_count=null.expected_count if self.known else None,
            p_value=null.p_value if self.known else None,
        )

    def figures(self) -> dict[str, Any]:
        """Fields of the summary: the count, its intervals, bounds and null."""
        evaluated, known = self.table.evaluated, self.known
        exact = st.clopper_pearson(self.observed, self.count, confidence=self.confidence)
        return {
            "prompts": self.count,
            "prompts_left_out": len(self.prompts) - self.count,
            "set_size": self.set_size,
            "confidence": self.confidence,
            "unanimous": self.observed,
            "unanimity": entry_of(self.interval, known=known),
            "unanimity_exact": entry_of(exact, known=known),
            "unanimity_bounds": Bounds(
                low=self.interval.value if known else None,
                high=int(self.possible[evaluated].sum()) / self.count if known else None,
            ),
            "unanimity_identified": identified_entry(self.in_sets, known=known),
            "unanimity_null": self.null(),
            "unanimity_all_images": all_images(
                self.prompts, self.attribute, self.labels, self.set_size, self.confidence
            ),
            "unanimity_all_images_identified": self._all_images_identified(),
            "unanimity_by_sets": by_sets(self.prompts, self.attribute, self.confidence),
            "near_copies": int(self.copied.sum()),
            "sets_with_copies": int((self.copied_in_sets.sum(axis=1) > 0)[evaluated].sum()),
        }

    def _all_images_identified(self) -> Identified:
        found = st.identified_unanimity(
            label_counts(self.prompts, self.attribute, self.labels) - self.copied,
            unlabelled=unlabelled(self.prompts, self.attribute, self.labels) + self.copied.sum(axis=1),
            divided=mixed_counts(self.prompts, self.attribute),
            set_size=self.set_size,
            confidence=self.confidence,
        )
        return identified_entry(found, known=self.known)


def copied_labels(prompts: Sequence[PromptTally], labels: Sequence[str], copies: Copies) -> tuple[Counts, Counts]:
    """[prompts, labels] near-copies with that label: of all images, and of the first set."""
    nothing: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    found = [copies.get(p.id, nothing) for p in prompts]
    first, every = (
        np.array([[pair[place].get(label, 0) for label in labels] for pair in found], dtype=np.int64).reshape(
            -1, len(labels)
        )
        for place in (0, 1)
    )
    return every, first
