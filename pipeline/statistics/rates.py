"""How often something happens over prompts, where it is rare and prompts differ: refusals, failures, words put in or taken out.

The spread between prompts is what makes an interval over prompts wide, and where a handful of prompts show the event at all it is
seen too small most of the time: an interval from the observed spread then ends too low. Here how much prompts differ is a parameter
of its own, and the interval is averaged over what it may be.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_whole_numbers, check_confidence
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts, wilson

ENOUGH_OF_EITHER = 20
"""Prompts with the event, and prompts with something else, from which on their observed spread is taken as it is."""
_MEANS, _ALIKENESS = 161, 32
_NEGLIGIBLE = 1e-7


def rate_over_prompts(events: npt.ArrayLike, *, trials: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean over prompts of events / trials, for a population of prompts like these.

    Where fewer than `ENOUGH_OF_EITHER` prompts show the event, or something else, counts are taken as beta-binomial: a prompt's own rate
    is Beta distributed with mean m, and two images of one prompt have the correlation rho. The limits are quantiles of m after averaging
    over rho, with m from Jeffreys' Beta(1/2, 1/2) and rho uniform. Where nothing was seen of the one kind, nothing is known of rho
    either, and the limit is that of prompts which have the event in all of their images or in none: Wilson's of so many prompts. Where
    prompts have different numbers of images the limits reach at least as far as those of `mean_over_prompts`. With more prompts of both
    kinds they are those, which need no such distribution.

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
        return Interval(None, 0.0, 1.0, "beta-binomial")
    with_event, with_other = int((seen > 0).sum()), int((seen < asked).sum())
    if min(with_event, with_other) >= ENOUGH_OF_EITHER:
        return mean_over_prompts(seen / asked, independent=float(asked.sum()), confidence=confidence)
    if not with_event or not with_other:
        return wilson(len(asked) if with_event else 0, len(asked), confidence=confidence)
    value = float((seen / asked).mean())
    low, high = _posterior_limits(seen, asked, confidence)
    if asked.min() < asked.max():  # rates may go with the number of images, which the model takes them not to
        plain = mean_over_prompts(seen / asked, independent=float(asked.sum()), confidence=confidence)
        low, high = min(low, plain.low), max(high, plain.high)
    return Interval(value, min(low, value), max(high, value), "beta-binomial")


def _posterior_limits(
    seen: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], confidence: float
) -> tuple[float, float]:
    """Quantiles of the mean: over a coarse grid first, then over the part of it that holds the mass."""
    base = int(asked.max()) + 1
    pairs, times = np.unique(seen * base + asked, return_counts=True)  # one number each, which sorts faster than rows
    rows = np.column_stack(np.divmod(pairs, base))
    start, end = 0.0, 1.0
    for _ in range(3):
        edges = np.linspace(start, end, _MEANS + 1)
        mass = _mass(rows, times, (edges[1:] + edges[:-1]) / 2)
        kept = np.flatnonzero(mass > _NEGLIGIBLE * mass.max())
        # a cell more on either side, since a narrow mass may lie at the border of one
        start, end = float(edges[max(kept[0] - 1, 0)]), float(edges[min(kept[-1] + 2, _MEANS)])
    reached = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    tail = (1 - confidence) / 2
    # the angle whose sine squared is the mean: Jeffreys' prior is uniform in it
    low, high = np.sin(np.interp([tail, 1 - tail], reached, edges) * np.pi / 2) ** 2
    return float(low), float(high)


def _mass(rows: npt.NDArray[np.int64], times: npt.NDArray[np.int64], angles: FloatArray) -> FloatArray:
    """Posterior mass of every angle, as parts of a right one, with the correlation averaged out."""
    root = (np.arange(_ALIKENESS) + 0.5) / _ALIKENESS  # finer towards 0, where a little matters
    rho, weight = root**2, 2 * root
    mean = np.sin(angles * np.pi / 2)[:, np.newaxis] ** 2
    first, second = mean * (1 / rho - 1), (1 - mean) * (1 / rho - 1)
    logs = np.log(weight) - times.sum() * special.betaln(first, second)
    for (events, trials), count in zip(rows.tolist(), times.tolist(), strict=True):
        logs += count * special.betaln(first + events, second + trials - events)
    mass: FloatArray = np.exp(logs - logs.max()).sum(axis=1)
    return mass
