"""Confidence intervals for a proportion and for a mean over prompts.

Images of one prompt resemble each other, so the unit of every interval over several prompts is the prompt. The
intervals here need no random numbers: the same counts give the same limits on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_values, check_confidence


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits."""

    value: float | None
    """The estimate; None where there was nothing to estimate from."""
    low: float
    """Lower limit."""
    high: float
    """Upper limit."""
    method: str
    """How the limits were found, in a word or two."""

    def to_dict(self) -> dict[str, float | str | None]:
        """Return the fields by name, ready for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "method": self.method}


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion.

    Parameters
    ----------
    successes, trials
        `successes` of `trials`; no trials give the value None and the limits 0 and 1.
    confidence
        Wanted coverage, between 0 and 1.

    Raises
    ------
    ValueError
        If not 0 <= successes <= trials, or confidence is out of range.

    References
    ----------
    Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. JASA 22, 209-212.

    Examples
    --------
    >>> interval = wilson(17, 20)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.64, 0.948)
    """
    _check_proportion(successes, trials, confidence)
    if trials == 0:
        return Interval(None, 0.0, 1.0, "wilson")
    share = successes / trials
    z = float(special.ndtri((1 + confidence) / 2))
    # The score limit at 0 and at all is 0 and 1 exactly; the formula only gets there up to rounding.
    low = 0.0 if successes == 0 else float(wilson_limit(share, trials, -z))
    high = 1.0 if successes == trials else float(wilson_limit(share, trials, z))
    return Interval(share, low, high, "wilson")


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return the exact interval for a proportion; it covers at least as often as it says, mostly more.

    Parameters and errors are those of `wilson`.

    References
    ----------
    Clopper, C. J., Pearson, E. S. (1934). The use of confidence or fiducial limits illustrated in the case of the
    binomial. Biometrika 26, 404-413.
    """
    _check_proportion(successes, trials, confidence)
    if trials == 0:
        return Interval(None, 0.0, 1.0, "clopper-pearson")
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Interval(successes / trials, low, high, "clopper-pearson")


def wilson_limit(share: npt.ArrayLike, size: npt.ArrayLike, z: npt.ArrayLike) -> FloatArray:
    """Return the proportion that lies `z` standard errors from an observed share: Wilson's limit, elementwise.

    The proportion p solves share - p = -z sqrt(p (1 - p) / size). As a function of a standard normal `z` this is the
    confidence distribution behind the Wilson interval, which is how other uncertainty is mixed in.

    Parameters
    ----------
    share
        Observed share, 0 to 1.
    size
        Number of independent observations, above 0; need not be whole.
    z
        Signed normal quantile; negative for a lower limit.
    """
    share, size, z = (np.asarray(a, dtype=np.float64) for a in (share, size, z))
    squared = z * z / size
    root = z * np.sqrt(share * (1 - share) / size + squared / (4 * size))
    limit: FloatArray = (share + squared / 2 + root) / (1 + squared)
    return np.clip(limit, 0.0, 1.0)


def effective_size(
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    *,
    prompts: int,
    independent: float,
    most: float = np.inf,
    confidence: float = 0.95,
) -> FloatArray:
    """Return how many independent coin flips a mean over prompts is worth, elementwise.

    mean (1 - mean) prompts / variance, times (z / t)^2 with prompts - 1 degrees of freedom for the variance being an
    estimate, and at least `prompts`, because nothing between 0 and 1 varies more than a coin with the same mean. A
    variance of zero says nothing of its own. At a mean of 0 or 1 it counts as `prompts` flips, since prompts of another
    kind may be rare; in between as `independent` flips, less the correction.

    Parameters
    ----------
    mean, variance
        Mean and variance (with prompts - 1 in the denominator) of per-prompt values between 0 and 1.
    prompts
        Number of prompts.
    independent
        Number of independent observations if prompts did not differ, such as the number of images; for means within 0 and 1.
    most
        Upper end, before the correction. Prompts that agree by chance must not count for more than this.
    confidence
        Coverage of the interval to be built.

    References
    ----------
    Korn, E. L., Graubard, B. I. (1998). Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data. Survey Methodology 24, 193-201. With the Wilson instead of the exact limits:
    Dean, N., Pagano, M. (2015). Evaluating confidence interval methods for binomial proportions in clustered surveys.
    Journal of Survey Statistics and Methodology 3, 484-503.
    """
    mean, variance = np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    tail = (1 + confidence) / 2
    ratio = float(special.ndtri(tail) / special.stdtrit(prompts - 1, tail)) if prompts > 1 else 0.0
    # Equal values leave a variance of rounding errors, far below what a single differing image would.
    same = variance <= 1e-12
    # at an end prompts may be of two kinds, of which the rarer was not drawn: its images say nothing, and prompts alone count
    alike = np.where(np.minimum(mean, 1 - mean) <= 1e-12, prompts, independent)
    size = np.where(same, alike, mean * (1 - mean) * prompts / np.where(same, 1.0, variance))
    corrected: FloatArray = np.maximum(np.minimum(size, most) * ratio**2, prompts)
    return corrected


def mean_over_prompts(
    values: npt.ArrayLike,
    *,
    independent: float | None = None,
    most: float = np.inf,
    lowest: float = 0.0,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of per-prompt values for a population of prompts like these.

    Wilson's interval with the effective number of observations (`effective_size`). Where every value is 0 or 1 it is
    the plain Wilson interval of the count. Unlike a bootstrap it does not shrink to a point when all values agree.

    Parameters
    ----------
    values
        One value between `lowest` and 1 per prompt; no prompts give the value None and the limits 0 and 1.
    independent
        Number of independent observations if prompts did not differ, such as the number of images behind a share or
        the number of disjoint sets behind unanimity; it counts where all values agree between the ends. Default: the number of prompts.
    most
        See `effective_size`.
    lowest
        The lowest value that is possible at all. Close to it a mean of few values is skewed, which the limits follow.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        If a value lies outside `lowest` to 1 or is not finite, or confidence is out of range.
    """
    check_confidence(confidence)
    vector = as_values(values, name="values")
    tolerance = 1e-9
    if vector.size and (vector.min() < lowest - tolerance or vector.max() > 1 + tolerance):
        raise ValueError(f"values must lie between {lowest} and 1, got {vector.min()} to {vector.max()}")
    if not len(vector):
        return Interval(None, 0.0, 1.0, "wilson-clustered")
    mean, span = float(vector.mean()), 1 - lowest
    position = min(max((mean - lowest) / span, 0.0), 1.0)
    variance = float(vector.var(ddof=1)) / span**2 if len(vector) > 1 else 0.0
    flips = len(vector) if independent is None else independent
    size = effective_size(position, variance, prompts=len(vector), independent=flips, most=most, confidence=confidence)
    z = float(special.ndtri((1 + confidence) / 2))
    low = 0.0 if position == 0 else float(wilson_limit(position, size, -z))
    high = 1.0 if position == 1 else float(wilson_limit(position, size, z))
    return Interval(mean, lowest + span * low, lowest + span * high, "wilson-clustered")


def _check_proportion(successes: int, trials: int, confidence: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")
    check_confidence(confidence)
