"""What a generator with given shares would show: unanimity by chance, and how far shares are beyond a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_whole_numbers, check_confidence, check_set_size
from allfour.pipeline.statistics.binomial import binom_pmf, binom_sf
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts
from allfour.pipeline.statistics.unanimity import UnanimityNull, poisson_binomial

_MAX_DRAWN = 3_000_000
"""Prompts drawn for one test."""


def null_of_shares(shares: npt.ArrayLike, *, set_size: int, observed: int) -> UnanimityNull:
    """Return what complete sets show if the images of every prompt are drawn from that prompt's given shares.

    The number of unanimous sets is a sum of unequal coins (Poisson-binomial), as in `unanimity_null`.

    Parameters
    ----------
    shares
        Shape (prompts, labels), one row per complete set; every row sums to 1.
    set_size
        Images per set.
    observed
        Sets that were unanimous.

    Raises
    ------
    ValueError
        If a row does not sum to 1, or more sets were unanimous than there are.
    """
    check_set_size(set_size)
    table = np.asarray(shares, dtype=np.float64)
    if table.ndim != 2 or (table.size and (table.min() < 0 or np.abs(table.sum(axis=1) - 1).max() > 1e-6)):
        raise ValueError("shares must have shape (prompts, labels), and every row must sum to 1")
    if not 0 <= observed <= len(table):
        raise ValueError(f"observed must lie between 0 and the number of sets {len(table)}, got {observed}")
    coins = np.minimum((table**set_size).sum(axis=1), 1.0)
    count = float(coins.sum())
    tail = float(poisson_binomial(coins)[observed:].sum()) if observed else 1.0
    return UnanimityNull(count / len(table) if len(table) else None, count, min(tail, 1.0))


def at_least(observed: int, *, prompts: int, probability: float) -> float:
    """Return the probability of `observed` or more unanimous sets, where each is so with at most this probability.

    It bounds the p-value of even draws whatever the images without a label show: a set that lacks a label counts as not unanimous,
    and can but lower the count.
    """
    return float(binom_sf(observed - 1, prompts, probability)) if observed else 1.0


@dataclass(frozen=True)
class Amplification:
    """How much further than a reference shares lean towards the label that is the commoner one there."""

    interval: Interval
    """Mean over prompts; from -1 to 1. Above 0: the reference's lean is exaggerated."""
    prompts: int


def amplification(counts: npt.ArrayLike, reference: npt.ArrayLike, *, confidence: float = 0.95) -> Amplification:
    """Return the mean over prompts of share less reference share, of the label that the reference has most of.

    Unbiased for any number of images, unlike an absolute difference. A reference that is even takes no side and is left out.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels); prompts without any are left out.
    reference
        Shares, same shape.
    confidence
        Of the interval: Student's t over prompts, with one more pair of differences of plus and minus one image (as in `paired_difference`).

    References
    ----------
    Zhao, J., Wang, T., Yatskar, M., Ordonez, V., Chang, K.-W. (2017). Men also like shopping: reducing gender bias amplification using
    corpus-level constraints. EMNLP, 2979-2989.
    """
    check_confidence(confidence)
    table, shares = np.asarray(counts, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    images = table.sum(axis=1)
    lead = np.sort(shares, axis=1)
    known = (images > 0) & (lead[:, -1] - lead[:, -2] > 1e-9)
    table, shares, images = table[known], shares[known], images[known]
    prompts = len(table)
    if prompts < 2:
        return Amplification(Interval(None, -1.0, 1.0, "t"), prompts)
    rows, side = np.arange(prompts), shares.argmax(axis=1)
    values = table[rows, side] / images - shares[rows, side]
    mean = float(values.mean())
    step = 1 / float(images.min())
    variance = (float(((values - mean) ** 2).sum()) + 2 * step**2) / (prompts + 1)
    half = float(special.stdtrit(prompts - 1, (1 + confidence) / 2)) * float(np.sqrt(variance / prompts))
    return Amplification(Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0), "t"), prompts)


@dataclass(frozen=True)
class ReferenceDistance:
    """How far shares lie from reference shares, and how far they would by chance alone."""

    distance: Interval
    """Mean over prompts of the total variation distance: for two labels the absolute difference of either's share."""
    floor: float | None
    """What draws with exactly the reference shares would give at the same numbers of images."""
    excess: Interval
    """Distance less floor, mean over prompts, with limits of its own; 0 is expected where the shares are the reference's."""
    p_value: float | None
    """Probability that draws with exactly the reference shares lie as far away, or farther."""
    prompts: int


def reference_distance(
    successes: npt.ArrayLike, *, trials: npt.ArrayLike, reference: npt.ArrayLike, confidence: float = 0.95
) -> ReferenceDistance:
    """Return the mean absolute difference of one label's shares from reference shares; see `distance_from_reference`.

    Parameters
    ----------
    successes, trials
        Images with the label and labelled images, shape (prompts,).
    reference
        Shares, shape (prompts,); nan where there is none.
    confidence
        Of the intervals over prompts.
    """
    total = as_whole_numbers(trials, name="trials")
    hits = as_whole_numbers(successes, name="successes", length=len(total))
    share = np.asarray(reference, dtype=np.float64)
    counts, shares = np.column_stack([hits, total - hits]), np.column_stack([share, 1 - share])
    return distance_from_reference(counts, shares, confidence=confidence)


def distance_from_reference(
    counts: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    independent: float | None = None,
    confidence: float = 0.95,
    draws: int = 1_999,
    seed: int = 0,
) -> ReferenceDistance:
    """Return how far shares lie from reference shares, beside what chance alone gives, and a test of the two.

    A distance is never negative, so that its mean is above 0 by chance alone: the floor, exact from the binomial for two labels and
    from draws for more, is what to read it beside. Distance less floor has Student limits over prompts, one unseen pair of differences
    of plus and minus one image counted in (as in `paired_difference`). The test draws every prompt's images from its reference shares.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels); prompts without any are left out.
    reference
        Shares, same shape; a row of nan is left out.
    independent
        See `mean_over_prompts`.
    confidence
        Of the intervals.
    draws, seed
        Of the test, and of the floor for more than two labels; fewer where there are very many prompts, 199 at least.
    """
    check_confidence(confidence)
    table, shares = np.asarray(counts, dtype=np.int64), np.asarray(reference, dtype=np.float64)
    images = table.sum(axis=1)
    known = (images > 0) & np.isfinite(shares).all(axis=1)
    table, shares, images = table[known], shares[known], images[known]
    prompts = len(table)
    if not prompts:
        nothing = Interval(None, 0.0, 1.0, "wilson-clustered")
        return ReferenceDistance(nothing, None, Interval(None, -1.0, 1.0, "t"), None, 0)
    values = np.abs(table / images[:, np.newaxis] - shares).sum(axis=1) / 2
    times = int(max(199, min(draws, _MAX_DRAWN // prompts)))
    random = np.random.default_rng(seed)
    total, floors = np.zeros(times), np.empty(prompts)
    for row in range(prompts):
        drawn = random.multinomial(int(images[row]), shares[row] / shares[row].sum(), size=times) / images[row]
        apart = np.abs(drawn - shares[row]).sum(axis=1) / 2
        total += apart
        floors[row] = _floor(int(images[row]), float(shares[row, 0])) if shares.shape[1] == 2 else apart.mean()
    mean = float(values.mean())
    p_value = (1 + int((total / prompts >= mean - 1e-12).sum())) / (times + 1)
    distance = mean_over_prompts(np.minimum(values, 1.0), independent=independent, confidence=confidence)
    excess = _excess(values - floors, step=1 / float(np.median(images)), confidence=confidence)
    return ReferenceDistance(distance, float(floors.mean()), excess, p_value, prompts)


def _excess(values: FloatArray, *, step: float, confidence: float) -> Interval:
    prompts, mean = len(values), float(values.mean())
    if prompts < 2:
        return Interval(mean, -1.0, 1.0, "t")
    variance = (float(((values - mean) ** 2).sum()) + 2 * step**2) / (prompts + 1)
    half = float(special.stdtrit(prompts - 1, (1 + confidence) / 2)) * float(np.sqrt(variance / prompts))
    return Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0), "t")


def _floor(images: int, share: float) -> float:
    """Return the expected absolute difference of a binomial share from its own expectation."""
    counts: FloatArray = np.arange(images + 1, dtype=np.float64)
    return float(binom_pmf(counts, images, share) @ np.abs(counts / images - share))
