"""Means over prompts of a count out of a prompt's images: shares of a label, refusals, words put in or taken out.

The spread between prompts is what makes such an interval wide, and it is seen too small most of the time where few prompts differ from
the others: none of a rarer kind may have been drawn. An interval from the observed spread alone then ends too soon. Here how much
prompts differ is a parameter of its own, and the interval is averaged over what it may be.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_whole_numbers, check_confidence
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts, wilson

ENOUGH_OF_EITHER = 20
"""Prompts with the event, and prompts with something else, from which on their observed spread is taken as it is."""
METHOD = "beta-binomial"
_MEANS, _ALIKENESS = 161, 32
_SUMMED = 64
"""Images of a prompt up to which its likelihood is a sum of logarithms; beyond, gamma functions are faster."""
_NEGLIGIBLE = 1e-7
_KEPT_PROMPTS = 2000
"""Prompts up to which limits are kept: beyond, their counts would fill memory."""


def rate_over_prompts(events: npt.ArrayLike, *, trials: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean over prompts of events / trials, for a population of prompts like these.

    The limits reach as far as those of `mean_over_prompts`, which take the spread between prompts as it was seen, and, where fewer than
    `ENOUGH_OF_EITHER` prompts show the event, or something else, at least as far as those of a model in which it is not known: counts are
    beta-binomial, a prompt's own rate being Beta distributed with mean m and two images of one prompt having the correlation rho. Its
    limits are quantiles of m after averaging over rho, with m from Jeffreys' Beta(1/2, 1/2) and rho uniform. Where nothing was seen of
    the one kind, nothing is known of rho either, and the limit is that of prompts which have the event in all of their images or in none:
    Wilson's of so many prompts. One image of each prompt says nothing of rho and needs none: its limits are Wilson's.

    Parameters
    ----------
    events, trials
        Images with the event and images asked for, shape (prompts,); prompts without any are left out.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        If counts are not whole, not 0 <= events <= trials, or confidence is out of range.

    References
    ----------
    Skellam, J. G. (1948). A probability distribution derived from the binomial distribution by regarding the probability of success as
    variable between the sets of trials. JRSS B 10, 257-261. Coverage of Jeffreys' interval: Brown, L. D., Cai, T. T., DasGupta, A. (2001).
    Interval estimation for a binomial proportion. Statistical Science 16, 101-133.

    Examples
    --------
    >>> found = rate_over_prompts([3, 0, 0, 0, 0, 0, 0, 0, 0, 0], trials=[16] * 10)
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.019, 0.003, 0.186)
    """
    check_confidence(confidence)
    asked = as_whole_numbers(trials, name="trials")
    seen = as_whole_numbers(events, name="events", length=len(asked))
    if (seen > asked).any():
        raise ValueError("there can be no more events than trials")
    seen, asked = seen[asked > 0], asked[asked > 0]
    if not len(asked):
        return Interval(None, 0.0, 1.0, METHOD)
    with_event, with_other = int((seen > 0).sum()), int((seen < asked).sum())
    if not with_event or not with_other:
        return wilson(len(asked) if with_event else 0, len(asked), confidence=confidence)
    plain = mean_over_prompts(seen / asked, independent=float(asked.sum()), confidence=confidence)
    if min(with_event, with_other) >= ENOUGH_OF_EITHER or asked.max() == 1:
        return plain
    low, high = beta_binomial_limits(seen, asked, confidence)
    return Interval(plain.value, min(low, plain.low), max(high, plain.high), METHOD)


def beta_binomial_limits(
    seen: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], confidence: float
) -> tuple[float, float]:
    """Return limits of the mean rate of beta-binomial counts, with how much prompts differ averaged out; see `rate_over_prompts`.

    The quantiles are found over a coarse grid first, then over the part of it that holds the mass. A process that measures a run again,
    or several attributes of few images, has the same counts many times: their limits are found once.
    """
    if len(seen) > _KEPT_PROMPTS:
        return _limits(seen, asked, confidence)
    return _kept_limits(seen.astype(np.int64).tobytes(), asked.astype(np.int64).tobytes(), confidence)


@lru_cache(maxsize=1024)
def _kept_limits(seen: bytes, asked: bytes, confidence: float) -> tuple[float, float]:
    """`_limits` of counts as bytes."""
    return _limits(np.frombuffer(seen, dtype=np.int64), np.frombuffer(asked, dtype=np.int64), confidence)


def _limits(seen: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], confidence: float) -> tuple[float, float]:
    start, end = 0.0, 1.0
    for _ in range(3):
        edges = np.linspace(start, end, _MEANS + 1)
        mass = _mass(seen, asked, (edges[1:] + edges[:-1]) / 2)
        kept = np.flatnonzero(mass > _NEGLIGIBLE * mass.max())
        # a cell more on either side, since a narrow mass may lie at the border of one
        start, end = float(edges[max(kept[0] - 1, 0)]), float(edges[min(kept[-1] + 2, _MEANS)])
    reached = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    tail = (1 - confidence) / 2
    # the angle whose sine squared is the mean: Jeffreys' prior is uniform in it
    low, high = np.sin(np.interp([tail, 1 - tail], reached, edges) * np.pi / 2) ** 2
    return float(low), float(high)


def _mass(seen: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], angles: FloatArray) -> FloatArray:
    """Posterior mass of every angle, as parts of a right one, with the correlation averaged out."""
    root = (np.arange(_ALIKENESS) + 0.5) / _ALIKENESS  # finer towards 0, where a little matters
    rho, weight = root**2, 2 * root
    mean, size = np.sin(angles * np.pi / 2)[:, np.newaxis] ** 2, 1 / rho - 1
    first, second = mean * size, (1 - mean) * size
    add = _summed if asked.max() <= _SUMMED else _by_gamma
    # the beta functions of a likelihood are rising factorials: those of the two kinds over that of all images
    logs = np.log(weight) + add(seen, first) + add(asked - seen, second) - add(asked, size)
    mass: FloatArray = np.exp(logs - logs.max()).sum(axis=1)
    return mass


def _summed(counts: npt.NDArray[np.int64], start: FloatArray) -> FloatArray:
    """Logarithms of start (start + 1) ... (start + count - 1), summed over the counts: each factor once, with how many have it."""
    having = len(counts) - np.cumsum(np.bincount(counts))[:-1]  # counts beyond 0, 1, 2, ...
    total = np.zeros(np.shape(start))
    for step, many in enumerate(having.tolist()):
        total += many * np.log(start + step)
    return total


def _by_gamma(counts: npt.NDArray[np.int64], start: FloatArray) -> FloatArray:
    """The same by gamma functions, for counts that are many but not many different ones."""
    distinct, times = np.unique(counts, return_counts=True)
    total: FloatArray = -float(len(counts)) * special.gammaln(start)
    for count, many in zip(distinct.tolist(), times.tolist(), strict=True):
        total += many * special.gammaln(start + count)
    return total
