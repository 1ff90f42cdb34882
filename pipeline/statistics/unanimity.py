"""Unanimity: how often all images of a set show one label.

A set has `set_size` images (four in the experiment this tool automates). With exactly one set per prompt the measure
is a count of prompts; with more images per prompt it is averaged over all sets that could be drawn from them.

Images whose label is unresolved (ambiguous, or no person found) are never dropped in silence. Every function takes
their number beside the counts and one of three ways to treat them (`Resolve`): "against" unanimity, "for" it, or
"exclude" them, which speaks of labelled images alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    as_counts,
    as_whole_numbers,
    check_confidence,
    check_set_size,
)
from allfour.pipeline.statistics.binomial import binom_pmf, binom_test
from allfour.pipeline.statistics.bounded_mean import METHOD, bounded_mean
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts

Resolve = Literal["against", "for", "exclude"]
"""What becomes of unresolved images.

against: they carry no label, so a set that holds one is not unanimous;
for: all of a prompt's unresolved images carry the label that is most frequent there;
exclude: they are left out, and the prompt has that many images fewer.
"""


@dataclass(frozen=True)
class UnanimityEstimate:
    """Mean unanimity over prompts."""

    interval: Interval
    """Mean and limits."""
    prompts: int
    """Prompts that had enough images."""
    left_out: int
    """Prompts with fewer images than a set has."""
    seen: Interval | None = None
    """The same mean, with limits from the spread between prompts as it was seen: nothing is allowed for kinds of prompts that were not
    drawn, so they tell whether these prompts differ from chance. None of a corrected figure."""


@dataclass(frozen=True)
class UnanimityBounds:
    """Where unanimity could lie, whatever the unresolved images show."""

    low: float | None
    """Mean unanimity with every unresolved image against; None where no prompt has enough images."""
    high: float | None
    """Mean unanimity with every unresolved image for."""
    possible: BoolArray
    """Shape (prompts,): could all images of the prompt be of one label?"""


@dataclass(frozen=True)
class UnanimityNull:
    """What chance alone gives."""

    expected_share: float | None
    """Expected share of unanimous prompts; None without prompts."""
    expected_count: float
    """Expected number of unanimous prompts."""
    p_value: float
    """Exact probability of at least as many unanimous prompts as observed."""


def unanimous_label(counts: npt.ArrayLike, *, unresolved: npt.ArrayLike = 0, set_size: int | None = None) -> IntArray:
    """Return for every row the column of the label that all its images show, or -1.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    unresolved
        Images without a label, shape (prompts,); one is enough for -1.
    set_size
        If given, a row with another number of images is not unanimous either.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, the unresolved images do not fit it, or set_size is
        below 1.
    """
    table = as_counts(counts)
    missing = as_whole_numbers(unresolved, name="unresolved", length=len(table))
    total = table.sum(axis=1)
    whole = (total > 0) & (missing == 0) & (table.max(axis=1) == total)
    if set_size is not None:
        check_set_size(set_size)
        whole &= total == set_size
    return np.where(whole, table.argmax(axis=1), -1).astype(np.int64)


def subset_unanimity(
    counts: npt.ArrayLike,
    *,
    set_size: int = 4,
    unresolved: npt.ArrayLike = 0,
    resolve: Resolve = "against",
) -> FloatArray:
    """Return per prompt the share of all possible sets of its images that show one label.

    sum over labels of C(n_label, set_size) / C(n, set_size): the unbiased (U-statistic) estimate of
    sum over labels of share^set_size. With n = set_size it is 1 or 0.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    set_size
        Images per set.
    unresolved
        Images without a label, shape (prompts,) or one number for all.
    resolve
        What becomes of them, see `Resolve`.

    Returns
    -------
    Shape (prompts,), between 0 and 1; nan where a prompt has fewer images than a set.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, the unresolved images do not fit it, set_size is below
        1, or there is no such way to resolve.

    References
    ----------
    Hoeffding, W. (1948). A class of statistics with asymptotically normal distribution. Ann. Math. Stat. 19, 293-325.
    """
    table, images = _resolved(counts, unresolved, resolve)
    check_set_size(set_size)
    # A product of ratios instead of a ratio of binomial coefficients: exact zeros, and no overflow for any n.
    share = np.ones(table.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for drawn in range(set_size):
            share *= (table - drawn) / (images - drawn)[:, np.newaxis]
    return np.where(images >= set_size, share.sum(axis=1), np.nan)


def setwise_unanimity(
    counts: npt.ArrayLike, *, prompts: npt.ArrayLike, unresolved: npt.ArrayLike = 0
) -> tuple[FloatArray, IntArray]:
    """Return per prompt the share of its sets that show one label, for images that were made in sets.

    Use this in place of `subset_unanimity` where images of one request depend on each other.

    Parameters
    ----------
    counts
        Labelled images per set, shape (sets, labels).
    prompts
        The prompt that each set belongs to, as a number from 0, shape (sets,).
    unresolved
        Images without a label per set; a set that has one is not unanimous.

    Returns
    -------
    Share of unanimous sets and number of sets, both of shape (highest prompt + 1,); nan for a prompt without sets.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, or the unresolved images or the prompts do not fit it.
    """
    unanimous = unanimous_label(counts, unresolved=unresolved) >= 0
    owner = as_whole_numbers(prompts, name="prompts")
    if len(owner) != len(unanimous):
        raise ValueError(f"prompts must name the prompt of each of {len(unanimous)} sets, got {len(owner)}")
    sets = np.bincount(owner)
    with np.errstate(divide="ignore", invalid="ignore"):
        share: FloatArray = np.bincount(owner, weights=unanimous, minlength=len(sets)) / sets
    return share, sets.astype(np.int64)


def unanimity(
    counts: npt.ArrayLike,
    *,
    set_size: int = 4,
    unresolved: npt.ArrayLike = 0,
    resolve: Resolve = "against",
    confidence: float = 0.95,
) -> UnanimityEstimate:
    """Return mean unanimity over prompts with its interval.

    The interval is about a population of prompts like these, of which the given ones are a sample: one set per prompt is enough for
    it, and it holds for the given prompts alone too, where it is wider than needed.

    Parameters
    ----------
    counts, set_size, unresolved, resolve
        See `subset_unanimity`.
    confidence
        Wanted coverage.

    Returns
    -------
    The estimate; where every prompt has exactly one set its interval is Wilson's of the count. With more images it is that of
    `bounded_mean`, between the unanimity of an even split of the fewest images (0 where an unresolved image counts against) and 1.

    Raises
    ------
    ValueError
        As `subset_unanimity`, and if confidence is out of range.
    """
    check_confidence(confidence)
    values = subset_unanimity(counts, set_size=set_size, unresolved=unresolved, resolve=resolve)
    known = np.isfinite(values)
    table, images = _resolved(counts, unresolved, resolve)
    values, table, images = values[known], table[known], images[known]
    left_out = int((~known).sum())
    if not len(values):
        nothing = Interval(None, 0.0, 1.0, METHOD)
        return UnanimityEstimate(nothing, 0, left_out, nothing)
    if (images == set_size).all():
        # Every value is 0 or 1, so this is Wilson's interval of the count, and is called so.
        found = mean_over_prompts(values, confidence=confidence)
        interval = Interval(found.value, found.low, found.high, "wilson")
        return UnanimityEstimate(interval, len(values), left_out, interval)
    sets = float((images / set_size).sum())
    # An even split is the least unanimous; with an unresolved image against, a prompt may fall to 0.
    certain = resolve != "against" or not np.any(unresolved)
    lowest = _even_split_unanimity(int(images.min()), labels=table.shape[1], set_size=set_size) if certain else 0.0
    seen = mean_over_prompts(values, independent=sets, most=float(images.sum()), lowest=lowest, confidence=confidence)
    interval = bounded_mean(values, lowest=lowest, confidence=confidence)
    return UnanimityEstimate(interval, len(values), left_out, seen)


def unanimity_bounds(counts: npt.ArrayLike, *, unresolved: npt.ArrayLike, set_size: int = 4) -> UnanimityBounds:
    """Return the lowest and highest mean unanimity that the unresolved images leave open.

    Low: a set with an unresolved image is not unanimous. High: all unresolved images of a prompt carry its most
    frequent label, which is the most favourable way because C(n, set_size) grows faster the larger n is. A prompt
    is `possible` where its labelled images, if any, show one label.

    Parameters
    ----------
    counts, unresolved, set_size
        See `subset_unanimity`.

    Raises
    ------
    ValueError
        As `subset_unanimity`.
    """
    table = as_counts(counts)
    low = subset_unanimity(table, set_size=set_size, unresolved=unresolved, resolve="against")
    high = subset_unanimity(table, set_size=set_size, unresolved=unresolved, resolve="for")
    known = np.isfinite(low)
    images = table.sum(axis=1) + as_whole_numbers(unresolved, name="unresolved", length=len(table))
    possible: BoolArray = (table.max(axis=1) == table.sum(axis=1)) & (images > 0)
    if not known.any():
        return UnanimityBounds(None, None, possible)
    return UnanimityBounds(float(low[known].mean()), float(high[known].mean()), possible)


def unanimous_probability(sizes: npt.ArrayLike, *, shares: npt.ArrayLike = 0.5) -> FloatArray:
    """Return the probability that all of n independent images show one label: sum over labels of share^n.

    Parameters
    ----------
    sizes
        Number of images n, shape (prompts,); 0 images are never unanimous.
    shares
        Share of each label, shape (labels,), summing to 1; a single number is the share of one of two labels.

    Raises
    ------
    ValueError
        If the sizes are not whole numbers of at least 0, or the shares are negative or do not sum to 1.
    """
    size = as_whole_numbers(sizes, name="sizes")
    share = np.atleast_1d(np.asarray(shares, dtype=np.float64))
    if share.shape == (1,):
        share = np.array([share[0], 1 - share[0]])
    if share.ndim != 1 or share.min() < 0 or abs(share.sum() - 1) > 1e-9:
        raise ValueError(f"shares must be non-negative and sum to 1, got {share.tolist()}")
    probability: FloatArray = (share[np.newaxis, :] ** size[:, np.newaxis]).sum(axis=1)
    return np.where(size > 0, np.minimum(probability, 1.0), 0.0)


def unanimity_null(sizes: npt.ArrayLike, *, observed: int, shares: npt.ArrayLike = 0.5) -> UnanimityNull:
    """Return what a generator with fixed label shares shows by chance, and how unlikely the observed count is then.

    The number of unanimous prompts is a sum of independent coins, one per prompt, each with the probability that
    belongs to that prompt's number of images (Poisson-binomial). Its distribution is computed by convolution, which
    adds and multiplies positive numbers only, so that very small p-values keep their digits.

    Parameters
    ----------
    sizes
        Number of images in each prompt's set, shape (prompts,).
    observed
        Number of prompts that were unanimous.
    shares
        Label shares of the generator, see `unanimous_probability`; a fair coin by default.

    Raises
    ------
    ValueError
        As `unanimous_probability`, and if more prompts were unanimous than there are.

    References
    ----------
    Hong, Y. (2013). On computing the distribution function for the Poisson binomial distribution. CSDA 59, 41-51.

    Examples
    --------
    >>> null = unanimity_null([4] * 20, observed=17)
    >>> null.expected_count, f"{null.p_value:.0e}"
    (2.5, '3e-13')
    """
    probability = unanimous_probability(sizes, shares=shares)
    prompts = len(probability)
    if not 0 <= observed <= prompts:
        raise ValueError(f"observed must lie between 0 and the number of prompts {prompts}, got {observed}")
    count = float(probability.sum())
    tail = float(poisson_binomial(probability)[observed:].sum()) if observed else 1.0
    return UnanimityNull(count / prompts if prompts else None, count, min(tail, 1.0))


def poisson_binomial(probabilities: npt.ArrayLike) -> FloatArray:
    """Return the distribution of the number of successes of independent, unequal coins, shape (coins + 1,).

    Coins of equal probability are taken together as one binomial, so the usual case of a few different set sizes
    costs a few convolutions.

    Parameters
    ----------
    probabilities
        Of success, 0 to 1, shape (coins,).
    """
    given = np.asarray(probabilities, dtype=np.float64)
    # scipy's binomial overflows on probabilities near the smallest number there is; they are nothing
    different, times = np.unique(np.where(given < 1e-300, 0.0, given), return_counts=True)
    distribution: FloatArray = np.ones(1)
    for probability, number in zip(different, times, strict=True):
        binomial = binom_pmf(np.arange(number + 1), number, probability)
        distribution = np.convolve(distribution, binomial)
    return distribution


def share_tests(
    successes: npt.ArrayLike, *, trials: npt.ArrayLike, reference: npt.ArrayLike = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Test every prompt's share against a reference share.

    Parameters
    ----------
    successes, trials
        Images with the label and labelled images, shape (prompts,).
    reference
        Share under the null hypothesis (a fair coin, or a labour statistic), one number or shape (prompts,).

    Returns
    -------
    Exact two-sided binomial p-values, and the same adjusted for the number of prompts (Benjamini-Hochberg, which
    bounds the share of false discoveries); nan where a prompt has no labelled image or no reference.

    Raises
    ------
    ValueError
        If the numbers are not whole, of different lengths or successes exceed trials, or a reference lies outside 0 to 1.
    """
    total = as_whole_numbers(trials, name="trials")
    hits = as_whole_numbers(successes, name="successes", length=len(total))
    if (hits > total).any():
        raise ValueError("successes must not exceed trials")
    share = np.broadcast_to(np.asarray(reference, dtype=np.float64), total.shape)
    cache: dict[tuple[int, int, float], float] = {}
    p_values = np.full(len(total), np.nan)
    for row, key in enumerate(zip(hits.tolist(), total.tolist(), share.tolist(), strict=True)):
        if key[1] and not np.isnan(key[2]):
            if key not in cache:
                cache[key] = binom_test(*key)
            p_values[row] = cache[key]
    return p_values, benjamini_hochberg(p_values)


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """Return p-values adjusted so that rejecting below a level bounds the false discovery rate at that level.

    Missing tests (nan) stay nan and do not count.

    Raises
    ------
    ValueError
        If a p-value lies outside 0 to 1.

    References
    ----------
    Benjamini, Y., Hochberg, Y. (1995). Controlling the false discovery rate. JRSS B 57, 289-300.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(raw.shape, np.nan)
    known = np.isfinite(raw)
    if known.any():
        tested = raw[known]
        if not ((tested >= 0) & (tested <= 1)).all():
            raise ValueError("p-values must lie within 0 to 1")
        order = np.argsort(tested)
        scaled = tested[order] * (len(tested) / np.arange(1.0, len(tested) + 1))
        ordered = np.empty_like(tested)
        ordered[order] = np.minimum.accumulate(scaled[::-1])[::-1]
        adjusted[known] = np.clip(ordered, 0.0, 1.0)
    return adjusted


def _resolved(counts: npt.ArrayLike, unresolved: npt.ArrayLike, resolve: Resolve) -> tuple[IntArray, IntArray]:
    """Return label counts and numbers of images after the unresolved ones were treated."""
    table = as_counts(counts).copy()
    missing = as_whole_numbers(unresolved, name="unresolved", length=len(table))
    images = table.sum(axis=1)
    if resolve == "for" and len(table):
        table[np.arange(len(table)), table.argmax(axis=1)] += missing
    elif resolve not in ("against", "for", "exclude"):
        raise ValueError(f"resolve must be against, for or exclude, got {resolve!r}")
    return table, images if resolve == "exclude" else images + missing


def _even_split_unanimity(images: int, *, labels: int, set_size: int) -> float:
    """Return the lowest unanimity that a prompt with this many labelled images can have."""
    each, over = divmod(images, labels)
    return float(subset_unanimity([[each + (label < over) for label in range(labels)]], set_size=set_size)[0])
