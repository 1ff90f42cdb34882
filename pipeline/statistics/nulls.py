"""What a generator with given shares would show: unanimity by chance, and how far shares are beyond a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from allfour.pipeline.statistics.arrays import FloatArray, as_whole_numbers, check_confidence, check_set_size
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts
from allfour.pipeline.statistics.unanimity import UnanimityNull, poisson_binomial


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
    return float(stats.binom.sf(observed - 1, prompts, probability)) if observed else 1.0


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
    """Mean over prompts of the absolute difference."""
    floor: float | None
    """What draws with exactly the reference shares would give at the same numbers of images."""
    prompts: int


def reference_distance(
    successes: npt.ArrayLike, *, trials: npt.ArrayLike, reference: npt.ArrayLike, confidence: float = 0.95
) -> ReferenceDistance:
    """Return the mean absolute difference of one label's shares from reference shares.

    Parameters
    ----------
    successes, trials
        Images with the label and labelled images, shape (prompts,).
    reference
        Shares, shape (prompts,).
    confidence
        Of the interval over prompts.
    """
    total = as_whole_numbers(trials, name="trials")
    hits = as_whole_numbers(successes, name="successes", length=len(total))
    share = np.asarray(reference, dtype=np.float64)
    known = (total > 0) & np.isfinite(share)
    total, hits, share = total[known], hits[known], share[known]
    if not len(total):
        return ReferenceDistance(Interval(None, 0.0, 1.0, "wilson-clustered"), None, 0)
    floor = np.mean([_floor(int(n), float(r)) for n, r in zip(total, share, strict=True)])
    found = mean_over_prompts(np.abs(hits / total - share), confidence=confidence)
    return ReferenceDistance(found, float(floor), len(total))


def _floor(images: int, share: float) -> float:
    """Return the expected absolute difference of a binomial share from its own expectation."""
    counts: FloatArray = np.arange(images + 1, dtype=np.float64)
    return float(stats.binom.pmf(counts, images, share) @ np.abs(counts / images - share))
