"""Widens an interval over prompts by what else an estimate depends on: a variance that was found separately is added."""

from __future__ import annotations

import math

from scipy import special


def square_and_add(
    value: float, low: float, high: float, *, sd: float, confidence: float = 0.95, degrees: int | None = None
) -> tuple[float, float]:
    """Return limits that also hold an independent, normal error of a given standard deviation, within 0 and 1.

    The distance of each limit from the value is taken as that side's own multiple of a standard error, and the two are added as squares:
    asymmetric limits stay so, and sd = 0 leaves them alone.

    Parameters
    ----------
    value, low, high
        An interval of a share.
    sd
        Of the error that is added.
    degrees
        Degrees of freedom that `sd` was estimated with; None takes it as known.

    References
    ----------
    Zou, G. Y., Donner, A. (2008). Construction of confidence limits about effect measures: a general approach. Statistics in Medicine 27,
    1693-1702.
    """
    level = (1 + confidence) / 2
    reach = float(special.ndtri(level) if degrees is None else special.stdtrit(degrees, level)) * sd
    return max(value - math.hypot(value - low, reach), 0.0), min(value + math.hypot(high - value, reach), 1.0)
