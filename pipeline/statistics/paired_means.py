"""Means of paired differences, with Student limits and the test of equivalence; what one image more does to a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.paired import least_step


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
    step: float | None = None,
    confidence: float = 0.95,
    margin: float | None = None,
) -> Difference:
    """Return a mean of paired differences with Student limits, given the p-value of its test.

    See `paired_difference` for the variance, which counts one unseen pair of differences of plus and minus `step`. The test of
    equivalence is that of two one-sided tests at the same standard error: Schuirmann, D. J. (1987). A comparison of the two one-sided
    tests procedure and the power approach for assessing the equivalence of average bioavailability. J. Pharmacokin. Biopharm. 15, 657-680.
    """
    one, two = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    prompts = len(one)
    if prompts < 2:
        old, new = (float(side[0]) if prompts else None for side in (one, two))
        value = None if old is None or new is None else new - old
        unknown = None if margin is None else 1.0
        return Difference(Interval(value, -1.0, 1.0, "paired"), 1.0, test, prompts, old, new, unknown)
    mean, error = mean_and_error(two - one, least_step(np.concatenate([one, two])) if step is None else step)
    half = float(special.stdtrit(prompts - 1, (1 + confidence) / 2)) * error
    equal = None
    if margin is not None:
        equal = float(
            max(
                special.stdtr(prompts - 1, -(mean + margin) / error),
                special.stdtr(prompts - 1, (mean - margin) / error),
            )
        )
    interval = Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0), "paired")
    return Difference(interval, p_value, test, prompts, float(one.mean()), float(two.mean()), equal)


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
