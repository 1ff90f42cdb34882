"""How a classifier errs, from a calibration set, and the scores that invert its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts, check_confidence
from allfour.pipeline.statistics.intervals import Interval


@dataclass(frozen=True, eq=False)
class Confusion:
    """How a classifier decided on images whose label is known.

    Raises
    ------
    ValueError
        If a label has no image, there are fewer than two labels, or fewer decisions than labels.
    """

    counts: IntArray
    """Calibration images, shape (labels, decisions). The first decisions are the labels, in the same order; further
    ones are other outcomes, such as ambiguous."""
    drawn: FloatArray | None = None
    """Rates as they may be, shape (any, labels, decisions), where these are no multinomial counts but were estimated otherwise."""

    def __post_init__(self) -> None:
        """Check the shape, and that every label was seen."""
        table = as_counts(self.counts, name="confusion counts")
        if table.shape[1] < table.shape[0]:
            raise ValueError(f"a confusion needs one decision per label or more, got shape {table.shape}")
        if len(table) < 2 or (table.sum(axis=1) == 0).any():
            raise ValueError("every label, of two or more, needs at least one calibration image")
        object.__setattr__(self, "counts", table)

    @classmethod
    def from_rates(cls, *, sensitivity: tuple[int, int], specificity: tuple[int, int]) -> Confusion:
        """Return the confusion of two labels that are always decided one way or the other.

        Parameters
        ----------
        sensitivity
            Right decisions among the calibration images of the first label, and how many those are.
        specificity
            The same for the second label.

        Raises
        ------
        ValueError
            If more are right than there are, or a label has no image.
        """
        rows = [[sensitivity[0], sensitivity[1] - sensitivity[0]], [specificity[1] - specificity[0], specificity[0]]]
        return cls(np.array(rows))

    @property
    def labels(self) -> int:
        """Number of labels."""
        return int(self.counts.shape[0])

    @property
    def rates(self) -> FloatArray:
        """Observed share of each decision per label, shape (labels, decisions)."""
        rates: FloatArray = self.counts / self.counts.sum(axis=1, keepdims=True)
        return rates

    @property
    def discrimination(self) -> float:
        """How much more often a label is decided when it is right than when another one is, for the worst label.

        For two labels this is Youden's J, sensitivity + specificity - 1: 1 is perfect, 0 is guessing.
        """
        return float(_discrimination(self.rates))

    def discrimination_interval(self, *, confidence: float = 0.95, draws: int = 4000, seed: int = 0) -> Interval:
        """Return `discrimination` with the limits that the calibration's own size leaves open; from -1 to 1.

        The limits are quantiles over rates drawn from their posterior. Where they hold 0, the calibration does not show that
        decisions depend on the label at all.

        Parameters
        ----------
        confidence
            Wanted coverage, between 0 and 1.
        draws, seed
            Number of draws, and their seed: the same seed gives the same limits.

        Raises
        ------
        ValueError
            If confidence is out of range.
        """
        check_confidence(confidence)
        tail = (1 - confidence) / 2
        drawn = _discrimination(self.draw_rates(draws, np.random.default_rng(seed)))
        low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
        value = self.discrimination
        return Interval(value, min(low, value), max(high, value), "posterior")

    def reordered(self, order: Sequence[int]) -> Confusion:
        """Return the same with labels in this order, and other outcomes where they are."""
        columns = [*order, *range(self.labels, self.counts.shape[1])]
        drawn = None if self.drawn is None else self.drawn[:, list(order)][:, :, columns]
        return Confusion(self.counts[list(order)][:, columns], drawn)

    def draw_rates(self, draws: int, random: np.random.Generator) -> FloatArray:
        """Return rates drawn from their Jeffreys posterior, each row a Dirichlet of its counts plus one half; from `drawn` where there are any.

        Parameters
        ----------
        draws
            How many tables of rates.
        random
            Where the draws come from.

        Returns
        -------
        Shape (draws, labels, decisions); every row sums to 1.
        """
        if self.drawn is not None:
            return self.drawn[random.integers(len(self.drawn), size=draws)]
        shape = self.counts.astype(np.float64) + 0.5
        gamma = random.standard_gamma(shape, size=(draws, *self.counts.shape))
        rates: FloatArray = gamma / gamma.sum(axis=-1, keepdims=True)
        return rates


def _discrimination(rates: FloatArray) -> FloatArray:
    """Return how much more often a label is decided when it is right than for the label it is most confused with, least over labels."""
    labels = rates.shape[-2]
    square = rates[..., :labels]
    others = np.where(np.eye(labels, dtype=bool), -np.inf, square).max(axis=-2)
    least: FloatArray = (np.diagonal(square, axis1=-2, axis2=-1) - others).min(axis=-1)
    return least


def decision_scores(rates: FloatArray, *, weights: FloatArray | None = None) -> FloatArray:
    """Return the score of every decision for every label: A with A rates^T = identity.

    With as many decisions as labels this is the inverse of the transposed rates; for two labels the scores for the
    first are specificity / J and -(1 - specificity) / J. With more decisions it is the least-squares solution with
    the given weights, which is efficient for weights of one over the decision's frequency.

    Parameters
    ----------
    rates
        Share of each decision per label, shape (..., labels, decisions).
    weights
        Shape (decisions,), above 0; equal by default.

    Returns
    -------
    Shape (..., labels, decisions).

    Raises
    ------
    numpy.linalg.LinAlgError
        If the rates of one label are a mixture of the others', so that nothing tells it apart.
    """
    labels, decisions = rates.shape[-2:]
    if labels == decisions:
        inverse: FloatArray = np.swapaxes(np.linalg.inv(rates), -1, -2)
        return inverse
    weighted: FloatArray = rates * (np.ones(decisions) if weights is None else weights)
    return np.asarray(np.linalg.solve(weighted @ np.swapaxes(rates, -1, -2), weighted), dtype=np.float64)


def as_decisions(decisions: npt.ArrayLike, confusion: Confusion) -> IntArray:
    """Return images per prompt and decision as whole numbers, shape (prompts, decisions).

    Raises
    ------
    ValueError
        If they are no table of whole numbers, or its columns do not fit the confusion.
    """
    table = as_counts(decisions, name="decisions")
    if table.shape[1] != confusion.counts.shape[1]:
        raise ValueError(
            f"decisions have {table.shape[1]} columns and the confusion has {confusion.counts.shape[1]}; "
            "both need the same decisions in the same order"
        )
    return table
