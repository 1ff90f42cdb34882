"""Means of paired differences, with their limits and the test of equivalence; what one image more does to a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.bounded_difference import bounded_difference, difference_beyond
from allfour.pipeline.statistics.intervals import Interval


@dataclass(frozen=True)
class Difference:
    """Second run less first, mean over prompts."""

    interval: Interval
    p_value: float
    """Two-sided, that there is no difference."""
    test: str
    """How it was found: `sign-flip`, `dealt`, or `confidence` for the confidence distribution behind the limits."""
    prompts: int
    first: float | None
    second: float | None
    """Mean of either run."""
    equivalent: float | None = None
    """p-value that the difference is as large as the stated margin, or larger; None where no margin was stated."""


def mean_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    *,
    p_value: float,
    test: str,
    single: bool = False,
    confidence: float = 0.95,
    margin: float | None = None,
) -> Difference:
    """Return a mean of paired differences with its limits, given the p-value of its test.

    The limits are those of `bounded_difference`. Where every value is of a single draw (`single`: one image or one set of a prompt, so 0
    or 1), nothing but the prompts tells how they differ: the limits are then Student's, with one unseen pair of differences of plus and
    minus 1 in the variance (see `paired_difference`). The test of equivalence is that of two one-sided tests with the same distribution:
    Schuirmann, D. J. (1987). A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of
    average bioavailability. J. Pharmacokin. Biopharm. 15, 657-680.
    """
    one, two = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    prompts = len(one)
    if prompts < 2:
        old, new = (float(side[0]) if prompts else None for side in (one, two))
        value = None if old is None or new is None else new - old
        unknown = None if margin is None else 1.0
        return Difference(Interval(value, -1.0, 1.0, "paired"), 1.0, test, prompts, old, new, unknown)
    difference = two - one
    low, high = (
        _single_limits(difference, confidence) if single else bounded_difference(difference, confidence=confidence)
    )
    equal = None
    if margin is not None:
        equal = _single_beyond(difference, margin) if single else difference_beyond(difference, margin)
    interval = Interval(float(difference.mean()), low, high, "paired")
    return Difference(interval, p_value, test, prompts, float(one.mean()), float(two.mean()), equal)


def _single_limits(difference: FloatArray, confidence: float) -> tuple[float, float]:
    """Return Student's limits of a mean of differences of -1, 0 and 1, with one unseen pair of -1 and 1 counted in; see `paired_difference`."""
    mean, error = mean_and_error(difference, 1.0)
    half = float(special.stdtrit(len(difference) - 1, (1 + confidence) / 2)) * error
    return max(mean - half, -1.0), min(mean + half, 1.0)


def _single_beyond(difference: FloatArray, margin: float) -> float:
    """Return the p-value of equivalence at the same standard error."""
    mean, error = mean_and_error(difference, 1.0)
    free = len(difference) - 1
    return float(max(special.stdtr(free, -(mean + margin) / error), special.stdtr(free, (mean - margin) / error)))


def share_step(one: IntArray, two: IntArray) -> float:
    """Return what one image more does to a share: of the median number of images, or at most where the runs hold different numbers."""
    if np.array_equal(one, two):
        return 1 / float(np.median(one)) if len(one) else 1.0
    return 1 / float(min(one.min(), two.min()))


def mean_and_error(difference: FloatArray, step: float) -> tuple[float, float]:
    """Return the mean of differences and its standard error, one unseen pair counted in."""
    prompts, mean = len(difference), float(difference.mean())
    variance = (float(((difference - mean) ** 2).sum()) + 2 * step**2) / (prompts + 1)
    return mean, float(np.sqrt(variance / prompts))
