"""What stopping early saves, by sums over all courses that an audit can take; and whether more images of some prompts would.

Beside `audit --until` stand fixed designs, the least that any design can take, and designs that give some prompts more or fewer images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from allfour.pipeline.statistics.arrays import FloatArray
from allfour.pipeline.statistics.planning import Discordance, Population
from allfour.pipeline.statistics.unanimity import subset_unanimity

LEVEL = 0.05
POWER = 0.9


# --- when the question is settled ------------------------------------------------------------------------------------


def settling(line: float, mean: float, *, listed: int, round_prompts: int = 1) -> FloatArray:
    """Probability that the look after each prompt is the first at which it is known on which side of the line the mean lies.

    Values are 0 or 1, for which the capital of `betting_sequence` is the beta-binomial mixture.

    Returns
    -------
    Shape (listed + 1,); what is missing to 1 is never settled.
    """
    stopped = np.zeros(listed + 1)
    apart, beyond = np.array([1.0]), np.array([0.0])  # chances by count: not settled yet; settled between two looks
    for place in range(1, listed + 1):
        apart, beyond = _one_more(apart, mean), _one_more(beyond, mean)
        ones = np.arange(place + 1)
        capital = special.betaln(ones + 0.5, place - ones + 0.5) - special.betaln(0.5, 0.5)
        capital -= ones * math.log(line) + (place - ones) * math.log1p(-line)
        crossed = capital >= -math.log(LEVEL)
        beyond = beyond + np.where(crossed, apart, 0.0)
        apart = np.where(crossed, 0.0, apart)
        if place % round_prompts == 0 or place == listed:
            stopped[place], beyond = beyond.sum(), np.zeros_like(beyond)
    return stopped


def _one_more(chances: FloatArray, mean: float) -> FloatArray:
    """Chances by count after one prompt more."""
    found = np.zeros(len(chances) + 1)
    found[:-1] += chances * (1 - mean)
    found[1:] += chances * mean
    return found


def prompts_made(stopped: FloatArray) -> float:
    """Prompts on average, the whole list where the question is never settled."""
    listed = len(stopped) - 1
    return float((stopped * np.arange(listed + 1)).sum() + (1 - stopped.sum()) * listed)


def list_for_power(line: float, mean: float, *, round_prompts: int, most: int = 1_500) -> int:
    """The shortest list over which rounds settle the question with the power."""
    settled = np.cumsum(settling(line, mean, listed=most, round_prompts=round_prompts))
    return int(np.searchsorted(settled, POWER))


# --- designs beside it -----------------------------------------------------------------------------------------------


def fixed_power(mean: float, line: float, prompts: int) -> float:
    """Probability that an exact two-sided binomial test over so many prompts rejects the line."""
    counts = np.arange(prompts + 1)
    tail = np.minimum(stats.binom.cdf(counts, prompts, line), stats.binom.sf(counts - 1, prompts, line))
    return float(stats.binom.pmf(counts, prompts, mean)[2 * tail <= LEVEL].sum())


def fixed_prompts(mean: float, line: float) -> int:
    """The fewest prompts from which on the exact binomial test of the line has the power at this truth."""
    enough, last = 0, 0
    for n in range(1, 2_000):
        if fixed_power(mean, line, n) < POWER:
            last, enough = n, 0
        else:
            enough += 1
        if enough > 40:
            break
    return last + 1


def least_prompts(mean: float, line: float) -> float:
    """The prompts that no design can do without on average, whatever it knows beforehand.

    For every rule that calls the mean higher (or lower) than the line with at most half the level where it is not, and with the power
    where it is: Wald's inequality.

    References
    ----------
    Wald, A. (1945). Sequential tests of statistical hypotheses. Ann. Math. Stat. 16, 117-186, section 4.
    """
    wrong, missed = LEVEL / 2, 1 - POWER
    needed = POWER * math.log(POWER / wrong) + missed * math.log(missed / (1 - wrong))
    apart = special.rel_entr(mean, line) + special.rel_entr(1 - mean, 1 - line)
    return float(needed / apart)


# --- what `allfour plan` promises ------------------------------------------------------------------------------------


def simulated_mcnemar(change: Discordance, *, prompts: int, studies: int, random: np.random.Generator) -> float:
    """Share of simulated pairs of runs that McNemar's exact test tells apart."""
    same = 1 - change.gained - change.lost
    drawn = random.multinomial(prompts, [change.gained, change.lost, same], size=studies)
    rarer, both = drawn[:, :2].min(axis=1), drawn[:, :2].sum(axis=1)
    return float((2 * stats.binom.cdf(rarer, both, 0.5) <= LEVEL).mean())


def simulated_pairs(
    first: Population, second: Population, *, prompts: int, images: int, studies: int, random: np.random.Generator
) -> float:
    """Share of simulated pairs of runs, whose prompts keep their rank, that a paired t test over all their sets tells apart."""
    ranks = random.random((studies, prompts))
    values = []
    for population in (first, second):
        shares = stats.beta.ppf(ranks, population.a, population.b)
        ones = random.binomial(images, shares)
        counts = np.stack([ones, images - ones], axis=-1)
        values.append(subset_unanimity(counts.reshape(-1, 2), set_size=4).reshape(ones.shape))
    found = stats.ttest_rel(values[1], values[0], axis=1).pvalue
    return float((found <= LEVEL).mean())


# --- images by prompt ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Allocation:
    """A rule for how many images a prompt gets."""

    images: float
    """Of a prompt, on average."""
    variance: float
    """Of one prompt's unbiased estimate of its share, over prompts and images."""
    bias: float = 0.0
    """Of the plain share of a prompt's images, where it is worst."""


def even_allocation(population: Population, images: int) -> Allocation:
    """The same number of images for every prompt."""
    shares = population.shares()
    return Allocation(images, float(shares.var() + (shares * (1 - shares)).mean() / images))


def more_where_mixed(population: Population, *, first: int, more: int) -> Allocation:
    """More images of a prompt whose first ones show both labels.

    The share of all images then leans to a half. Unbiased is the chance that the first image shows the label given the counts, over
    the orders in which they could have come.

    References
    ----------
    Girshick, M. A., Mosteller, F., Savage, L. J. (1946). Unbiased estimates for certain binomial sampling problems with
    applications. Ann. Math. Stat. 17, 13-23.
    """
    shares = population.shares()
    rest, images = 1 - shares, first + more
    alike, none = shares**first, rest**first
    mean, square, plain = alike.copy(), alike.copy(), alike.copy()
    for ones in range(1, images):
        after_ones = math.comb(more, ones - first) if ones >= first else 0
        orders = math.comb(images, ones) - after_ones - math.comb(more, ones)
        if orders:
            chances = orders * shares**ones * rest ** (images - ones)
            estimate = (math.comb(images - 1, ones - 1) - after_ones) / orders
            mean += chances * estimate
            square += chances * estimate**2
            plain += chances * ones / images
    if not np.allclose(mean, shares):
        raise ArithmeticError("the estimate is not unbiased")
    return Allocation(
        images=float((images - more * (alike + none)).mean()),
        variance=float((square - mean**2).mean() + mean.var()),
        bias=float(np.abs(plain - shares).max()),
    )


def images_until_decided(population: Population, *, set_size: int) -> float:
    """Images of a prompt on average if none is made once two of its set differ."""
    shares = population.shares()
    return 2 + float(sum((shares**n + (1 - shares) ** n).mean() for n in range(2, set_size)))
