"""Limits for a mean that hold at every look, so that a run may stop as soon as its question is settled.

An interval such as Wilson's covers the truth in 95% of audits at one look that was fixed beforehand. Whoever looks after every
round and stops at the first interval that clears a line is wrong far more often. A confidence sequence covers the truth at all
looks at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_values, check_confidence

_BETS = 96
_GRID = 1001
_HALVINGS = 50
_KEPT = 64


@dataclass(frozen=True)
class ConfidenceSequence:
    """Limits after every value, all valid at once."""

    low: FloatArray
    """Shape (values,): never falls."""
    high: FloatArray
    """Shape (values,): never rises."""


def betting_sequence(values: npt.ArrayLike, *, confidence: float = 0.95) -> ConfidenceSequence:
    """Return limits for the mean of values in [0, 1] that hold after every one of them at once.

    A mean m is tested by a bettor who splits the capital between "high" and "low": a share b of it is multiplied by
    x / m, the rest by (1 - x) / (1 - m). Under the mean m no such bet gains on average, so the capital reaches
    1 / (1 - confidence) with probability 1 - confidence at most, however long it goes on (Ville's inequality). The
    capital here is the mean over bettors whose b are spread like Beta(1/2, 1/2): a mixture, so nothing is tuned and
    nothing is estimated. For values that are 0 or 1 it is the beta-binomial mixture in closed form. The limits enclose
    every m whose capital has never got there.

    Parameters
    ----------
    values
        In the order in which they came, shape (values,). Each needs the same mean given those before: prompts drawn
        at random from a population of prompts.
    confidence
        Probability that the mean lies within all limits.

    Raises
    ------
    ValueError
        If a value lies outside 0 to 1 or is not finite, or confidence is out of range.

    References
    ----------
    Waudby-Smith, I., Ramdas, A. (2024). Estimating means of bounded random variables by betting. JRSS B 86, 1-27.
    The mixture: Cover, T. M., Ordentlich, E. (1996). Universal portfolios with side information. IEEE Trans. Inf.
    Theory 42, 348-363. Limits from it: Orabona, F., Jun, K.-S. (2024). Tight concentrations and confidence sequences
    from the regret of universal portfolio. IEEE Trans. Inf. Theory 70, 436-455.

    Examples
    --------
    >>> found = betting_sequence([1] * 20)
    >>> round(float(found.low[-1]), 3), float(found.high[-1])
    (0.775, 1.0)
    """
    check_confidence(confidence)
    vector = as_values(values, name="values")
    if len(vector) and (vector.min() < 0 or vector.max() > 1):
        raise ValueError(f"values must lie between 0 and 1, got {vector.min()} to {vector.max()}")
    means = np.linspace(0, 1, _GRID)
    step, inner = means[1], means[1:-1]
    first, last = 0, len(inner) - 1
    enough = -np.log1p(-confidence)
    low, high = np.empty(len(vector)), np.empty(len(vector))
    logs = np.zeros((len(inner), _BETS))
    known: dict[float, FloatArray] = {}  # shares of a few images have few values
    for place, value in enumerate(vector):
        gains = known.get(float(value))
        if gains is None:
            gains = _log_gains(value, inner)
            if len(known) < _KEPT:
                known[float(value)] = gains
        logs[first : last + 1] += gains[first : last + 1]
        # Every gain is log-convex in the mean, and so is their mixture: what is left over is one stretch.
        while first <= last and _log_mean(logs[first]) >= enough:
            first += 1
        while first <= last and _log_mean(logs[last]) >= enough:
            last -= 1
        if first > last:  # the values speak against every mean, which drift can do: the last limits stay
            low[place:], high[place:] = (low[place - 1], high[place - 1]) if place else (0.0, 1.0)
            break
        # One step further out, since the limit lies between two means of the grid.
        low[place] = 0.0 if first == 0 else inner[first] - step
        high[place] = 1.0 if last == len(inner) - 1 else inner[last] + step
    return ConfidenceSequence(low, high)


def binomial_limits(
    hits: npt.ArrayLike, trials: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return limits for a share that hold whenever one looks, from counts alone.

    Of values that are 0 or 1 the capital of `betting_sequence` against a share m, after k hits in n trials, is
    B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (m^k (1 - m)^(n - k)), whatever the order in which they came. The limits enclose
    every m against which it is below 1 / (1 - confidence) now; unlike those of `betting_sequence` they forget earlier looks,
    and so may widen.

    Parameters
    ----------
    hits, trials
        Of one shape, with 0 <= hits <= trials. Trials are independent with one share.
    confidence
        Probability that the share lies within the limits at every number of trials.

    Returns
    -------
    low, high
        Of that shape.

    Raises
    ------
    ValueError
        If hits are not between 0 and trials, or confidence is out of range.

    References
    ----------
    See `betting_sequence`. As a mixture of likelihood ratios: Robbins, H. (1970). Statistical methods related to the law of the
    iterated logarithm. Ann. Math. Stat. 41, 1397-1409.

    Examples
    --------
    >>> low, high = binomial_limits([4, 12], [4, 12])
    >>> low.round(3).tolist(), high.tolist()
    ([0.342, 0.669], [1.0, 1.0])
    """
    check_confidence(confidence)
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if (k < 0).any() or (k > n).any():
        raise ValueError("hits must lie between 0 and trials")
    return _lower_limit(k, n, confidence), 1 - _lower_limit(n - k, n, confidence)


def _lower_limit(k: FloatArray, n: FloatArray, confidence: float) -> FloatArray:
    """The share below k / n against which the capital is just enough; 0 where k is."""
    mixed = special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5) + np.log1p(-confidence)
    below, above = np.zeros(k.shape), np.divide(k, n, out=np.zeros(k.shape), where=n > 0)
    for _ in range(_HALVINGS):  # the capital falls in m up to k / n
        middle = (below + above) / 2
        enough = mixed >= special.xlogy(k, middle) + special.xlog1py(n - k, -middle)
        below, above = np.where(enough, middle, below), np.where(enough, above, middle)
    found: FloatArray = np.where(k > 0, below, 0.0)
    return found


def log_capital(values: npt.ArrayLike, mean: npt.ArrayLike) -> Iterator[FloatArray]:
    """Yield the logarithm of the capital of bets against a mean, after every value.

    Parameters
    ----------
    values
        In [0, 1], shape (values,) or (audits, values).
    mean
        Between 0 and 1 exclusive, of a shape that fits one value of every audit.
    """
    table, against = np.asarray(values, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    logs: FloatArray = np.zeros((*np.broadcast_shapes(table.shape[:-1], against.shape), _BETS))
    for place in range(table.shape[-1]):
        logs = logs + _log_gains(table[..., place], against)
        yield _log_mean(logs)


def _log_gains(value: npt.ArrayLike, mean: FloatArray) -> FloatArray:
    """Logarithm of what every bettor's capital is multiplied by, the bettors along the last axis."""
    # Chebyshev nodes carry equal weights under Beta(1/2, 1/2).
    bets = np.sin(np.pi * (2 * np.arange(_BETS) + 1) / (4 * _BETS)) ** 2
    found = np.asarray(value, dtype=np.float64)
    high, low = np.broadcast_arrays(found / mean, (1 - found) / (1 - mean))
    gains: FloatArray = np.log(high[..., None] * bets + low[..., None] * (1 - bets))
    return gains


def _log_mean(logs: FloatArray) -> FloatArray:
    """Log of the mean of exponentials over the last axis."""
    top = logs.max(axis=-1)
    found: FloatArray = top + np.log(np.exp(logs - top[..., None]).mean(axis=-1))
    return found
