"""Estimators that no command uses, beside which docs/validation.md and docs/method.md lay those that are used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics import Confusion, Interval, corrected_prompt_shares, subset_unanimity, unanimity
from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts, as_values, check_confidence
from allfour.pipeline.statistics.confusion import as_decisions
from allfour.pipeline.statistics.intervals import wilson_limit


def cluster_bootstrap(values: npt.ArrayLike, *, draws: int = 2000, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean of per-prompt values with percentile limits from resampling whole prompts.

    The textbook method: with few prompts it covers too seldom, and where all values agree its
    limits meet. `mean_over_prompts` has neither fault.

    Parameters
    ----------
    values
        One finite number per prompt, of any range; no prompts give the value None and infinite limits.
    draws
        Number of resamples.
    seed
        Seed of the resampling.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        If the values are no vector of finite numbers, or confidence is out of range.

    References
    ----------
    Davison, A. C., Hinkley, D. V. (1997). Bootstrap Methods and their Application, section 3.8 (resample clusters,
    leave what is inside them alone).
    """
    check_confidence(confidence)
    vector = as_values(values, name="values")
    if not len(vector):
        return Interval(None, -np.inf, np.inf, "bootstrap over prompts")
    weights = np.random.default_rng(seed).multinomial(len(vector), np.full(len(vector), 1 / len(vector)), size=draws)
    tail = (1 - confidence) / 2
    low, high = np.quantile(weights @ vector / len(vector), [tail, 1 - tail])
    return Interval(float(vector.mean()), float(low), float(high), "bootstrap over prompts")


def two_stage_bootstrap(
    counts: npt.ArrayLike, *, set_size: int = 4, draws: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Return mean unanimity with percentile limits from resampling prompts, then images within them.

    It counts the spread within prompts twice, because that is already in the spread between
    their estimates, and a resample holds images more than once, which reads as unanimity: its limits are too wide
    and too high. docs/validation.md shows by how much.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels); prompts with fewer images than a set are left out.
    set_size, draws, seed, confidence
        See `subset_unanimity` and `cluster_bootstrap`.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, or confidence is out of range.
    """
    check_confidence(confidence)
    table = as_counts(counts)
    table = table[table.sum(axis=1) >= set_size]
    if not len(table):
        return Interval(None, 0.0, 1.0, "bootstrap over prompts and images")
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    images = table.sum(axis=1)
    for draw in range(draws):
        prompts = random.integers(len(table), size=len(table))
        resampled = random.multinomial(images[prompts], table[prompts] / images[prompts, np.newaxis])
        means[draw] = subset_unanimity(resampled, set_size=set_size).mean()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    value = float(subset_unanimity(table, set_size=set_size).mean())
    return Interval(value, float(low), float(high), "bootstrap over prompts and images")


def fixed_unanimity(counts: npt.ArrayLike, *, set_size: int = 4, confidence: float = 0.95) -> Interval:
    """Return mean unanimity with an interval for the given prompts alone, whose images would be made anew.

    Only the chance of the images counts as uncertainty. That takes at least 2 * set_size images in every prompt; prompts with fewer
    are treated as if they were a sample, and where every prompt has exactly one set the interval is Wilson's of the count.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels); prompts with fewer images than a set are left out.
    set_size, confidence
        See `unanimity`.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, or confidence is out of range.

    Notes
    -----
    The variance of the mean is the sum over prompts of U_i^2 - W_i, over prompts^2, where U_i is the prompt's unanimity and W_i the
    unbiased estimate of (sum of share^set_size)^2 from two sets that have no image in common.
    """
    check_confidence(confidence)
    table = as_counts(counts)
    table = table[table.sum(axis=1) >= set_size]
    images = table.sum(axis=1)
    if (images == set_size).all():
        return unanimity(table, set_size=set_size, confidence=confidence).interval
    values = subset_unanimity(table, set_size=set_size)
    prompts, mean = len(values), float(values.mean())
    sets = float((images / set_size).sum())
    within = values**2 - _squared_unanimity(table, images, set_size=set_size)
    few = images < 2 * set_size
    within[few] = mean * (1 - mean)
    variance = max(float(within.sum()), 0.0) / prompts**2
    size = mean * (1 - mean) / variance if variance > 0 else sets
    z = float(special.ndtri((1 + confidence) / 2))
    low, high = (float(wilson_limit(mean, max(size, prompts), side)) for side in (-z, z))
    return Interval(mean, 0.0 if mean == 0 else low, 1.0 if mean == 1 else high, "wilson-fixed-prompts")


def rogan_gladen(
    positives: int,
    images: int,
    *,
    sensitivity: tuple[int, int],
    specificity: tuple[int, int],
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return one corrected proportion of independent images: (positives / images + specificity - 1) / J, clipped.

    Parameters
    ----------
    positives, images
        Images decided as the label, of how many.
    sensitivity, specificity
        Right decisions and calibration images of the label and of the other label.
    confidence, draws, seed
        See `corrected_unanimity`.

    Raises
    ------
    ValueError
        If more images are right or decided than there are, a label has no calibration image, or confidence is out of range.

    Examples
    --------
    >>> round(rogan_gladen(30, 100, sensitivity=(90, 100), specificity=(80, 100)).value, 3)
    0.143
    """
    confusion = Confusion.from_rates(sensitivity=sensitivity, specificity=specificity)
    row = [[positives, images - positives]]
    return corrected_prompt_shares(row, confusion=confusion, confidence=confidence, draws=draws, seed=seed)[0]


def likelihood_shares(
    decisions: npt.ArrayLike,
    *,
    confusion: Confusion,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """Return the maximum-likelihood shares of all labels under misclassification; they are shares, and sum to 1.

    Where `corrected_share` takes one label at a time and may have to be clipped, this finds the one mixture of the
    confusion's rows that fits the decisions best (expectation-maximisation over the mean of the prompts' decision
    shares). Limits are bootstrap percentiles over prompts and calibration together; with few prompts they are too
    narrow, and `corrected_share` is to be preferred.

    Parameters
    ----------
    decisions, confusion, confidence, draws, seed
        See `corrected_unanimity`.

    Returns
    -------
    One interval per label; the values are None where no prompt has an image.

    Raises
    ------
    ValueError
        If the columns do not fit the confusion, or confidence is out of range.

    References
    ----------
    Dempster, A. P., Laird, N. M., Rubin, D. B. (1977). Maximum likelihood from incomplete data via the EM algorithm.
    JRSS B 39, 1-38.
    """
    table = as_decisions(decisions, confusion)
    check_confidence(confidence)
    images = table.sum(axis=1)
    shares = table[images > 0] / images[images > 0, np.newaxis]
    prompts = len(shares)
    if not prompts:
        return [Interval(None, 0.0, 1.0, "likelihood")] * confusion.labels
    random = np.random.default_rng(seed)
    value = _mixture(shares.mean(axis=0)[np.newaxis], confusion.rates[np.newaxis])[0]
    resampled = random.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws) @ shares / prompts
    drawn = _mixture(resampled, confusion.draw_rates(draws, random))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [
        Interval(float(v), min(float(lo), float(v)), max(float(hi), float(v)), "likelihood")
        for v, lo, hi in zip(value, low, high, strict=True)
    ]


def _squared_unanimity(table: IntArray, images: IntArray, *, set_size: int) -> FloatArray:
    """Return the unbiased estimate of (sum over labels of share^set_size)^2 per prompt."""
    labels = table.shape[1]
    total = np.zeros(len(table))
    with np.errstate(divide="ignore", invalid="ignore"):
        for first in range(labels):
            for second in range(labels):
                product = np.ones(len(table))
                for drawn in range(2 * set_size):
                    again = drawn - set_size if drawn >= set_size and first != second else drawn
                    label = first if drawn < set_size else second
                    product *= (table[:, label] - again) / (images - drawn)
                total += product
    return np.where(images >= 2 * set_size, total, np.nan)


def _mixture(observed: FloatArray, rates: FloatArray, *, steps: int = 500) -> FloatArray:
    """Return the shares that maximise the likelihood, shape (draws, labels), by expectation-maximisation."""
    shares = np.full((len(rates), rates.shape[1]), 1 / rates.shape[1])
    for _ in range(steps):
        joint = shares[:, :, np.newaxis] * rates
        total = joint.sum(axis=1, keepdims=True)
        posterior = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
        updated = (posterior * observed[:, np.newaxis, :]).sum(axis=2)
        updated /= updated.sum(axis=1, keepdims=True)
        if np.abs(updated - shares).max() < 1e-9:
            break
        shares = updated
    return shares
