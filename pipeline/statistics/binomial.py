"""The binomial law and its exact test by scipy's own functions, without `scipy.stats`, which takes as long to import as all else.

`scipy.stats.binom` asks these functions too; so the numbers are the same to the last bit, which a test holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

_NEARLY = 1 + 1e-7
"""Outcomes that are this much likelier than what was seen are taken as equally likely: they differ by rounding alone."""


_NOTHING = 800.0
"""The chance exp(-800) is 0 in double precision, whose least number is exp(-744.4); what is between them is for rounding."""


def binom_pmf(successes: npt.ArrayLike, trials: npt.ArrayLike, probability: npt.ArrayLike) -> Any:
    """Chance of exactly so many successes; the three are broadcast, and one number of each gives a number."""
    k, n, p = _as_floats(successes, trials, probability)
    inside = (k >= 0) & (k <= n) & (k == np.floor(k))
    return np.where(inside, np.clip(_law("pmf")(np.where(inside, k, 0.0), n, p), 0.0, 1.0), 0.0)[()]


def binom_cdf(successes: npt.ArrayLike, trials: npt.ArrayLike, probability: npt.ArrayLike) -> Any:
    """Chance of so many successes or fewer; see `binom_pmf`."""
    k, n, p = _as_floats(successes, trials, probability)
    inside = (k >= 0) & (k < n)
    found = np.clip(_law("cdf")(np.where(inside, np.floor(k), 0.0), n, p), 0.0, 1.0)
    return np.where(inside, found, np.where(k < 0, 0.0, 1.0))[()]


def binom_sf(successes: npt.ArrayLike, trials: npt.ArrayLike, probability: npt.ArrayLike) -> Any:
    """Chance of more successes than that; see `binom_pmf`."""
    k, n, p = _as_floats(successes, trials, probability)
    inside = (k >= 0) & (k < n)
    found = np.clip(_law("sf")(np.where(inside, np.floor(k), 0.0), n, p), 0.0, 1.0)
    return np.where(inside, found, np.where(k < 0, 1.0, 0.0))[()]


def binom_span(trials: int, probability: float) -> tuple[int, int]:
    """First and last outcome whose chance is more than 0 in double precision, or one a little further out; `trials` is at least 1.

    An outcome has a chance of at most exp(-trials * KL(outcome / trials || probability)) (Chernoff), which grows towards the mean.
    """

    def possible(outcome: int) -> bool:
        share = outcome / trials
        divergence = special.rel_entr(share, probability) + special.rel_entr(1 - share, 1 - probability)
        return bool(trials * divergence < _NOTHING)

    mean = math.floor(probability * trials)
    first = _first(possible, 0, mean)
    return first, _first(lambda outcome: not possible(outcome), min(mean + 1, trials), trials + 1) - 1


def binom_test(successes: int, trials: int, probability: float = 0.5) -> float:
    """Exact two-sided p-value: the chance of all outcomes that are no likelier than the one that was seen.

    The outcomes of the other tail are found by bisection, as the chances fall on either side of the mode.
    """
    mean = probability * trials
    if successes == mean:
        return 1.0
    most = binom_pmf(successes, trials, probability) * _NEARLY

    def likelier(outcome: int) -> bool:
        return bool(binom_pmf(outcome, trials, probability) > most)

    if successes < mean:
        first = _first(lambda outcome: not likelier(outcome), math.ceil(mean), trials + 1)
        p_value = binom_cdf(successes, trials, probability) + binom_sf(first - 1, trials, probability)
    else:
        first = _first(likelier, 0, math.floor(mean) + 1)
        p_value = binom_cdf(first - 1, trials, probability) + binom_sf(successes - 1, trials, probability)
    return min(1.0, float(p_value))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """First of `low` to `high` - 1 for which it holds, where it holds for all after it; `high` where for none."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _as_floats(*values: npt.ArrayLike) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(value, dtype=np.float64) for value in values]


def _law(name: str) -> Any:
    found = getattr(getattr(special, "_ufuncs", None), f"_binom_{name}", None)
    if found is None:  # a scipy that keeps them elsewhere: the same numbers, by the long way
        from scipy import stats

        found = getattr(stats.binom, name)
    return found
