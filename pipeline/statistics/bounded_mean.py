"""A mean over prompts of values that have two ends, for few prompts of which some kind may not have been drawn.

Limits from the observed spread end too soon where most prompts give nearly one value and a rarer kind gives another: as long as none of
that kind was drawn, the spread says nothing of it. Here the prompts that were not drawn are allowed for by half a prompt at an end of
the range, which for values of 0 and 1 is what Jeffreys' interval of a count does.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_values, check_confidence
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts
from allfour.pipeline.statistics.roots import root_between

METHOD = "dirichlet"
_UNSEEN = 0.5
"""Prompts that count as drawn at the end of the range, and again at the value that is furthest from it: Jeffreys' two halves."""
_MOST_POINTS = 1000
"""Different values from which on neighbours are taken together."""
_STEP = 0.05
_NODES: FloatArray = np.sinh(np.arange(0.0, 4.8, _STEP))
"""Along the path of the integral, closer where it starts; quantiles of a count's Beta are hit to 1e-8."""
_NEAR, _BEND = 0.1, 0.5
"""Below which a point is near (see `_below`), and how far the path turns aside for each step along it, at most."""


def bounded_mean(values: npt.ArrayLike, *, lowest: float = 0.0, confidence: float = 0.95) -> Interval:
    """Return the mean of per-prompt values for a population of prompts like these, whatever kinds of prompts were not drawn.

    The upper limit is a quantile of the mean of the values under random weights: Dirichlet's, with 1 for each prompt, 1/2 for a prompt at
    the highest value that is possible, and 1/2 for one at the lowest that was seen. The lower limit is its mirror image. For values of 0
    and 1, some of each, this is Jeffreys' interval of the count. Where all values are at one end of the range, that half prompt would
    be all that the limits rest on; they are then Wilson's for so many prompts, as for a count.

    Parameters
    ----------
    values
        One value between `lowest` and 1 per prompt; no prompts give the value None and the limits 0 and 1.
    lowest
        The lowest value that is possible at all.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        As `mean_over_prompts`.

    References
    ----------
    Random weights without the ends: Rubin, D. B. (1981). The Bayesian bootstrap. Ann. Statist. 9, 130-134. With a whole prompt at the end
    in place of two halves, which is Clopper-Pearson's interval for a count: Gaffke, N. (2005). Three test statistics for a nonparametric
    one-sided hypothesis on the mean of a nonnegative variable. Math. Methods Statist. 14, 451-467; Learned-Miller, E., Thomas, P. S. (2019).
    A new confidence interval for the mean of a bounded random variable. arXiv 1905.06208. That halves are enough for limits that hold
    often enough on average: Brown, L. D., Cai, T. T., DasGupta, A. (2001). Interval estimation for a binomial proportion. Statistical
    Science 16, 101-133.

    Examples
    --------
    Ten prompts that are nearly even may leave out one kind of five that always shows one label:

    >>> found = bounded_mean([0.1, 0.15] * 5, lowest=0.08)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.125, 0.109, 0.314)
    """
    check_confidence(confidence)
    vector = as_values(values, name="values")
    plain = mean_over_prompts(vector, lowest=lowest, confidence=confidence)
    if plain.value is None:
        return Interval(None, 0.0, 1.0, METHOD)
    least, most = float(vector.min()), float(vector.max())
    if most - lowest <= 1e-12 or 1 - least <= 1e-12:
        return plain
    points, prompts = _together(*np.unique(np.clip(vector, lowest, 1.0), return_counts=True))
    tail = (1 - confidence) / 2
    high = 1 - _quantile(1 - points[::-1], prompts[::-1], tail, span=1 - lowest)
    low = lowest + _quantile(points - lowest, prompts, tail, span=1 - lowest)
    # values that differ by rounding alone leave limits that do too
    return Interval(plain.value, min(low, plain.value), max(high, plain.value), METHOD)


def _together(points: FloatArray, prompts: npt.NDArray[np.int64]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Values that are many, taken together with their neighbours at the mean of each few: limits move by less than 1e-6."""
    if len(points) <= _MOST_POINTS:
        return points, prompts
    place = np.floor((points - points[0]) / (points[-1] - points[0]) * _MOST_POINTS).astype(np.int64)
    place = np.unique(place, return_inverse=True)[1].ravel()
    many = np.bincount(place, weights=prompts)
    return np.bincount(place, weights=points * prompts) / many, np.rint(many).astype(np.int64)


def chance_below(values: npt.ArrayLike, at: float, *, lowest: float = 0.0) -> float:
    """Return the probability that the mean lies below a point, under the random weights of the lower limit of `bounded_mean`.

    The lower limit is where it is (1 - confidence) / 2. For the upper limit's: the values and the point, each taken from 1.

    Parameters
    ----------
    values, lowest
        See `bounded_mean`; at least one value.
    at
        The point.
    """
    vector = np.clip(as_values(values, name="values"), lowest, 1.0)
    if at <= lowest or at >= float(vector.max()):
        return float(at > lowest)
    points, prompts = _together(*np.unique(vector, return_counts=True))
    return min(max(_below(*_with_unseen(points - lowest, prompts), at - lowest), 0.0), 1.0)


def _with_unseen(points: FloatArray, prompts: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Points and their weights, with half a prompt more at 0 and half at the highest point."""
    weights = np.concatenate([[_UNSEEN], prompts.astype(np.float64)])
    weights[-1] += _UNSEEN
    return np.concatenate([[0.0], points]), weights


def _quantile(points: FloatArray, prompts: npt.NDArray[np.int64], tail: float, *, span: float) -> float:
    """`_quantile_of`, found once for the same points: a process may measure a run many times. They are `_MOST_POINTS` at most."""
    return _kept_quantile(points.tobytes(), prompts.astype(np.int64).tobytes(), tail, span)


@lru_cache(maxsize=1024)
def _kept_quantile(points: bytes, prompts: bytes, tail: float, span: float) -> float:
    return _quantile_of(np.frombuffer(points), np.frombuffer(prompts, dtype=np.int64), tail, span=span)


def _quantile_of(points: FloatArray, prompts: npt.NDArray[np.int64], tail: float, *, span: float) -> float:
    """Return the lower quantile of the mean under random weights, with half a prompt more at 0 and half at the highest point.

    Parameters
    ----------
    points
        Different values in rising order, from 0 to `span`.
    prompts
        Prompts at each.
    """
    places, weights = _with_unseen(points, prompts)
    top = float(places[-1])

    # Cantelli's inequality: within so many standard deviations of the mean the quantile is
    total = float(weights.sum())
    mean = float(weights @ places) / total
    deviation = float(np.sqrt((weights @ (places - mean) ** 2) / (total * (total + 1))))
    start = max(mean - deviation * np.sqrt((1 - tail) / tail), 0.0)
    end = min(mean + deviation * np.sqrt(tail / (1 - tail)), top)

    wanted = float(special.ndtri(tail))

    def beyond(at: float) -> float:
        # at the ends themselves all weight lies on one side; a normal's quantiles rise almost on a line, and need fewer steps
        share = 0.0 if at <= 0.0 else 1.0 if at >= top else _below(places, weights, at)
        return float(special.ndtri(min(max(share, 1e-15), 1 - 1e-15))) - wanted

    return root_between(beyond, start, end, xtol=1e-9 * span)


def _below(points: FloatArray, weights: FloatArray, at: float) -> float:
    """Return the probability that the mean of points under Dirichlet's random weights lies below a value between them.

    It does where a sum of independent gamma variables, each times the distance of its point, is below 0. That is the integral of their
    moment generating function over s, divided by s, along a path from below to above the real axis that crosses it between the first
    singularity and 0. It is crossed where the integrand is least, and left at a slant.

    References
    ----------
    Mean of random weights as a sum of gamma variables: Hannum, R. C., Hollander, M., Langberg, N. A. (1981). Distributional results for
    random functionals of a Dirichlet process. Ann. Probab. 9, 665-670. The integral: Daniels, H. E. (1987). Tail probability
    approximations. Int. Stat. Rev. 55, 37-48, whose approximation is not made here.
    """
    apart = points - at

    def slope(share: float) -> float:
        """Of the integrand's logarithm, at a share of the way from 0 to the singularity of the lowest point."""
        s = share / apart[0]
        return float((weights * apart / (1 - apart * s)).sum() - 1 / s)

    start = root_between(slope, 1e-15, 1 - 1e-15, rtol=1e-3) / apart[0]
    width = 1 / np.sqrt(float((weights * (apart / (1 - apart * start)) ** 2).sum()) + 1 / start**2)
    # the factor of points that are many and near neither falls along most of the path nor rests, it turns; aside it falls
    near = float((weights * apart)[np.abs(apart) * width < _NEAR].sum()) * width
    bend = -_BEND * near / (1 + abs(near))
    slant = np.sqrt(_NODES**2 + 1)
    path = start + width * (1j * _NODES + bend * (slant - 1))
    along = width * (1j * slant + bend * _NODES)  # its derivative, by the hyperbolic angle of the nodes
    parts = np.exp(-(weights @ np.log(1 - apart[:, np.newaxis] * path))) / path * along
    return -float(parts.imag.sum() - parts.imag[0] / 2) * _STEP / np.pi
