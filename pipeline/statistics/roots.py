"""The root of a function between two numbers, without `scipy.optimize`, whose import takes as long as a small run's metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

_MOST = 100
"""Steps after which none is found; a halving of every interval takes 53."""


def root_between(
    f: Callable[[float], float], low: float, high: float, *, xtol: float = 2e-12, rtol: float = 4 * 2.0**-52
) -> float:
    """Return x with f(x) = 0 between two numbers at which f has different signs, by Brent's method.

    The steps, in their order of arithmetic, are those of `scipy.optimize.brentq`, so the root is the same to the last bit.

    Parameters
    ----------
    f
        Continuous.
    xtol, rtol
        The root is within `xtol + rtol * |x|` of the answer.

    Raises
    ------
    ValueError
        f has one sign at both ends, or no root was found in 100 steps.

    References
    ----------
    Brent, R. P. (1973). Algorithms for Minimization Without Derivatives, chapter 4. Prentice-Hall.
    """
    before, best = float(low), float(high)
    f_before, f_best = f(before), f(best)
    if f_before == 0:
        return before
    if f_best == 0:
        return best
    if (f_before < 0) == (f_best < 0):
        raise ValueError(f"f({low}) and f({high}) have one sign")
    other, f_other, step, last = 0.0, 0.0, 0.0, 0.0
    for _ in range(_MOST):
        if f_before != 0 and f_best != 0 and (f_before < 0) != (f_best < 0):  # the root lies between the last two
            other, f_other = before, f_before
            last = step = best - before
        if abs(f_other) < abs(f_best):
            before, best, other = best, other, best
            f_before, f_best, f_other = f_best, f_other, f_best
        near = (xtol + rtol * abs(best)) / 2
        half = (other - best) / 2
        if f_best == 0 or abs(half) < near:
            return best
        tried = math.inf
        if abs(last) > near and abs(f_best) < abs(f_before):
            tried = _guess((before, best, other), (f_before, f_best, f_other))
        good = 2 * abs(tried) < min(abs(last), 3 * abs(half) - near)
        last, step = (step, tried) if good else (half, half)
        before, f_before = best, f_best
        best += step if abs(step) > near else (near if half > 0 else -near)
        f_best = f(best)
    raise ValueError(f"no root between {low} and {high} in {_MOST} steps")


def _guess(at: tuple[float, float, float], f: tuple[float, float, float]) -> float:
    """A step to where the line through two points, or the inverse parabola through three, meets zero."""
    (before, best, other), (f_before, f_best, f_other) = at, f
    if before == other:
        return -f_best * (best - before) / (f_best - f_before)
    slope = (f_before - f_best) / (before - best)
    slope_other = (f_other - f_best) / (other - best)
    below = slope_other * slope * (f_other - f_before)
    return -f_best * (f_other * slope_other - f_before * slope) / below if below else math.inf
