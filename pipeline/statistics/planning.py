"""How many prompts and images a question needs, before any is paid for.

Prompts are taken as a sample from a population whose shares of one label follow a Beta distribution; images of a prompt are
independent given its share; a classifier of known sensitivity and specificity reads them. All moments are sums and quadrature:
the same plan gives the same numbers on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, check_confidence
from allfour.pipeline.statistics.binomial import binom_cdf, binom_pmf
from allfour.pipeline.statistics.intervals import effective_size, wilson_limit
from allfour.pipeline.statistics.unanimity import subset_unanimity

_NODES = 2_000
_MOST_PROMPTS = 4_000


@dataclass(frozen=True)
class Population:
    """How prompts' shares of one label are spread: Beta(a, b)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    def shares(self) -> FloatArray:
        """Shares at equally likely ranks, from the lowest: an average over them is a mean over the population."""
        from scipy import stats

        ranks = (np.arange(_NODES) + 0.5) / _NODES
        found: FloatArray = np.clip(stats.beta.ppf(ranks, self.a, self.b), 1e-12, 1 - 1e-12)
        return found

    @classmethod
    def of_unanimity(cls, unanimity: float, *, set_size: int = 4) -> Population:
        """The even population (mean share 1/2) in which a set is all of one label with this probability.

        Raises
        ------
        ValueError
            No such population: even draws alone give 2 ** (1 - set_size).
        """
        from scipy import optimize

        least = 2.0 ** (1 - set_size)
        if not least < unanimity < 1:
            raise ValueError(
                f"unanimity must lie between {least:.4g}, which even draws of {set_size} images give, and 1, got {unanimity}"
            )

        def excess(log_a: float) -> float:
            a = math.exp(log_a)
            return 2 * math.exp(special.betaln(a + set_size, a) - special.betaln(a, a)) - unanimity

        a = math.exp(optimize.brentq(excess, -12, 12))
        return cls(a, a)

    @classmethod
    def of_pilot(cls, counts: npt.ArrayLike) -> Population:
        """The population of a pilot run, by the moments of its counts.

        Parameters
        ----------
        counts
            Images with the label and with any other, shape (prompts, 2); prompts with fewer than two images say
            nothing of spread and are left out.

        Raises
        ------
        ValueError
            Fewer than two prompts have two images.

        References
        ----------
        Kleinman, J. C. (1973). Proportions with extraneous variance: single and independent samples. JASA 68, 46-54.
        """
        table = np.asarray(counts, dtype=np.float64)
        table = table[table.sum(axis=1) >= 2]
        if len(table) < 2:
            raise ValueError("a pilot needs two prompts or more with two labelled images each")
        total = table.sum(axis=1)
        shares = table[:, 0] / total
        mean = min(max(float(shares.mean()), 1e-3), 1 - 1e-3)
        each = 1 / total
        variance = float(shares.var(ddof=1))
        noise = mean * (1 - mean) * float(each.mean())
        between = (variance - noise) / (mean * (1 - mean) * (1 - float(each.mean())))
        alike = min(max(between, 1e-3), 1 - 1e-3)  # correlation of two images of one prompt
        size = 1 / alike - 1
        return cls(mean * size, (1 - mean) * size)


@dataclass(frozen=True)
class Reading:
    """How a classifier reads a label: 1 and 1 for one without error."""

    sensitivity: float = 1.0
    specificity: float = 1.0

    @property
    def youden(self) -> float:
        """What is left of a difference of shares after reading."""
        return self.sensitivity + self.specificity - 1

    def read(self, shares: FloatArray) -> FloatArray:
        """Shares as they are read."""
        found: FloatArray = shares * self.sensitivity + (1 - shares) * (1 - self.specificity)
        return found


@dataclass(frozen=True)
class Moments:
    """Of one figure's values per prompt."""

    mean: float
    between: float
    """Variance over prompts of what a prompt would show with endless images."""
    within: float
    """Mean over prompts of the variance that comes from having few images."""


def value_moments(
    population: Population, *, figure: str, images: int, set_size: int = 4, reading: Reading | None = None
) -> Moments:
    """Mean and variances of a prompt's value of `share` or `unanimity` as it is read.

    Unanimity is that over all sets that could be drawn from the prompt's images.
    """
    values, squares = _given_rank(population, figure=figure, images=images, set_size=set_size, reading=reading)
    return Moments(float(values.mean()), float(values.var()), float((squares - values**2).mean()))


def _given_rank(
    population: Population, *, figure: str, images: int, set_size: int, reading: Reading | None
) -> tuple[FloatArray, FloatArray]:
    """Mean and mean square of a prompt's value, given its rank in the population."""
    shares = (reading or Reading()).read(population.shares())
    if figure == "share":
        return shares, shares**2 + shares * (1 - shares) / images
    if images < set_size:
        raise ValueError(f"unanimity of sets of {set_size} needs as many images per prompt, got {images}")
    counts = np.arange(images + 1)
    of_counts = subset_unanimity(np.column_stack([counts, images - counts]), set_size=set_size)
    chances = binom_pmf(counts[None, :], images, shares[:, None])
    return chances @ of_counts, chances @ of_counts**2


def expected_width(
    moments: Moments, *, prompts: int, confidence: float = 0.95, youden: float = 1.0, independent: int | None = None
) -> float:
    """Width of the interval of a mean over prompts that a plan leads to expect.

    Parameters
    ----------
    moments
        Of a prompt's value, as it is read.
    youden
        Divides the width: what correcting for the classifier's errors costs, for a share, before the calibration's own error.
    independent
        Images or sets, which limit how much prompts that agree can count for; default: prompts.
    """
    check_confidence(confidence)
    variance = moments.between + moments.within
    size = effective_size(
        moments.mean, variance, prompts=prompts, independent=independent or prompts, confidence=confidence
    )
    z = float(special.ndtri((1 + confidence) / 2))
    width = float(wilson_limit(moments.mean, size, z) - wilson_limit(moments.mean, size, -z))
    return min(width / youden, 1.0)


def prompts_for_width(moments: Moments, *, width: float, confidence: float = 0.95, youden: float = 1.0) -> int | None:
    """The fewest prompts whose interval is expected to be no wider; None where even 4,000 are not enough."""
    low, high = 2, _MOST_PROMPTS
    if expected_width(moments, prompts=high, confidence=confidence, youden=youden) > width:
        return None
    while low < high:
        middle = (low + high) // 2
        if expected_width(moments, prompts=middle, confidence=confidence, youden=youden) <= width:
            high = middle
        else:
            low = middle + 1
    return low


# --- telling two runs apart ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Discordance:
    """Shares of prompts that are unanimous in one of two runs of the same prompts only."""

    gained: float
    """In the second only."""
    lost: float
    """In the first only."""


def nested(first: float, second: float, *, against: float = 0.01) -> Discordance:
    """Discordant prompts where nearly all that change do so in one direction.

    Parameters
    ----------
    first, second
        Unanimity of the two runs.
    against
        Share of prompts that turn the other way, which chance in the images brings about.

    Raises
    ------
    ValueError
        The shares leave no room for so many.
    """
    rise = second - first
    if not (0 < first < 1 and 0 < second < 1):
        raise ValueError(f"both shares must lie between 0 and 1, got {first} and {second}")
    most = min(first, second, 1 - max(first, second))
    if not 0 <= against <= most:
        raise ValueError(f"prompts that turn against the rest must be between 0 and {most:.3g}, got {against}")
    return Discordance(max(rise, 0.0) + against, max(-rise, 0.0) + against)


def independent(first: float, second: float) -> Discordance:
    """Discordant prompts of runs whose prompts have nothing in common but their number."""
    return Discordance(second * (1 - first), first * (1 - second))


def mcnemar_power(change: Discordance, *, prompts: int, level: float = 0.05) -> float:
    """Probability that McNemar's exact test finds two runs of the same prompts different.

    Sums over all numbers of discordant prompts; see `mcnemar`.

    Examples
    --------
    >>> change = nested(0.60, 0.85)
    >>> round(mcnemar_power(change, prompts=20), 2), round(mcnemar_power(change, prompts=40), 2)
    (0.37, 0.91)
    """
    both = change.gained + change.lost
    if both == 0:
        return 0.0
    discordant = np.arange(prompts + 1)
    chances = binom_pmf(discordant, prompts, both)
    # For every number of discordant prompts, the most of the rarer kind that is still significant.
    half = np.arange(prompts + 1)
    p_values = 2 * binom_cdf(half[None, :], discordant[:, None], 0.5)
    most = (p_values <= level).sum(axis=1) - 1
    share = change.gained / both
    found = binom_cdf(most, discordant, share) + binom_cdf(most, discordant, 1 - share)
    return float((chances * np.where(most >= 0, found, 0.0)).sum())


def prompts_to_tell(change: Discordance, *, power: float = 0.9, level: float = 0.05) -> int | None:
    """The fewest prompts from which on the test always has the power; None where even 4,000 are not enough.

    An exact test's power rises in a saw-tooth: one prompt more can lower it.
    """
    if change.gained == change.lost:
        return None
    high = 8
    while mcnemar_power(change, prompts=high, level=level) < power:
        high *= 2
        if high > _MOST_PROMPTS:
            return None
    last = high // 2
    for prompts in range(high // 2, high + max(high // 2, 8)):
        if mcnemar_power(change, prompts=prompts, level=level) < power:
            last = prompts
    return last + 1


def paired_power(
    first: Population,
    second: Population,
    *,
    prompts: int,
    images: int,
    figure: str = "unanimity",
    set_size: int = 4,
    reading: Reading | None = None,
    level: float = 0.05,
) -> float:
    """Probability that a paired t test over prompts finds the mean of a figure different between two runs.

    Prompts keep their rank: the one with the highest share in one population has the highest in the other. What differs
    between the runs besides is chance in the images.
    """
    one, one_squared = _given_rank(first, figure=figure, images=images, set_size=set_size, reading=reading)
    two, two_squared = _given_rank(second, figure=figure, images=images, set_size=set_size, reading=reading)
    change = two - one
    within = (one_squared - one**2 + two_squared - two**2).mean()
    spread = math.sqrt(max(float(change.var() + within), 1e-12) / prompts)
    if prompts < 2:
        return 0.0
    from scipy import stats

    enough = float(special.stdtrit(prompts - 1, 1 - level / 2))
    apart = float(change.mean()) / spread
    return float(
        stats.nct.sf(enough, prompts - 1, apart) + stats.nct.cdf(-enough, prompts - 1, apart)
        if abs(apart) < 30
        else 1.0
    )


def shares_like(population: Population, unanimity: float, *, set_size: int = 4) -> Population:
    """The population of the same mean share whose unanimity is another.

    Raises
    ------
    ValueError
        None has that mean and so little or so much unanimity.
    """
    from scipy import optimize

    mean = population.mean

    def excess(log_size: float) -> float:
        a, b = mean * math.exp(log_size), (1 - mean) * math.exp(log_size)
        total = special.betaln(a, b)
        found = math.exp(special.betaln(a + set_size, b) - total) + math.exp(special.betaln(a, b + set_size) - total)
        return found - unanimity

    if excess(-12) < 0 or excess(14) > 0:
        raise ValueError(f"no prompts whose mean share is {mean:.3g} have unanimity {unanimity}")
    size = math.exp(optimize.brentq(excess, -12, 14))
    return Population(mean * size, (1 - mean) * size)
