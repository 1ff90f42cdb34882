"""Estimates that hold whatever the classifier's error, from a sample that people labelled.

The classifier's decisions are known for every unit, people's labels for a random sample. The estimate is the mean of
the decisions plus the mean of what people corrected in the sample (prediction-powered inference; in survey sampling
the difference or regression estimator). It needs no model of the errors; a good classifier makes it narrow, a bad one
merely useless.

A unit is what was sampled: an image for shares, and for unanimity a whole set of images, because labels of single
images do not say whether a set is unanimous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import BoolArray, FloatArray, IntArray, as_counts, check_confidence
from allfour.pipeline.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class PoweredEstimate:
    """A mean from a labelled sample and predictions for all."""

    interval: Interval
    """The prediction-powered estimate."""
    labels_only: Interval
    """What the labelled sample says without the predictions."""
    predictions_only: float
    """Mean prediction, biased by the classifier's error."""
    power: float
    """Weight of the predictions, 0 to 1 (lambda)."""
    labelled: int
    """Units with a label."""
    units: int
    """All units."""


@dataclass(frozen=True)
class Agreement:
    """How far people and the classifier agree."""

    agreement: Interval
    """Share of images with the same label."""
    kappa: Interval
    """Cohen's kappa, agreement beyond chance; its value is None where one side always gave the same label."""


def powered_mean(
    predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    strata: npt.ArrayLike | None = None,
    prompts: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> PoweredEstimate:
    """Return the mean label over all units, from the labels of a random sample and the predictions for all.

    Within stratum h with N_h units, n_h of them labelled at random, and W_h = N_h / N, the estimate is
    sum W_h [power * mean of all predictions + mean of (label - power * prediction) over the labelled].

    Parameters
    ----------
    predictions
        What the classifier says of every unit, 0 to 1, shape (units,).
    labels
        What people say, 0 to 1, nan where a unit was not labelled, shape (units,).
    strata
        The stratum that each unit was sampled in; one stratum by default. Every stratum needs a labelled unit.
    prompts
        The prompt of each unit. If given, the interval is about prompts like these: its variance is that between the
        prompts' means of power * prediction + (N_h / n_h) (label - power * prediction). If not, it is about these
        very units, and nothing remains uncertain once all are labelled.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        If shapes differ, a value lies outside 0 to 1, a stratum has no labelled unit, or confidence is out of range.

    Notes
    -----
    The power minimises the estimated variance, sum W_h^2 (1/n_h - 1/N_h) cov_h / sum W_h^2 (1/n_h - 1/N_h) var_h.
    Variances count one correction each way that was not seen, shared out over the strata by their weight, so that a
    sample without any correction does not make the interval a point.

    References
    ----------
    Angelopoulos, A. N., Duchi, J. C., Zrnic, T. (2023). PPI++: Efficient prediction-powered inference.
    arXiv:2311.01453. Stratified: Fisch, A. et al. (2024). Stratified prediction-powered inference for hybrid language
    model evaluation. arXiv:2406.04291. With a sample out of the very units: Cochran, W. G. (1977). Sampling Techniques,
    chapters 7 and 12.
    """
    check_confidence(confidence)
    guess, truth, stratum = _as_sample(predictions, labels, strata)
    known = ~np.isnan(truth)
    sizes = np.bincount(stratum)
    sampled = np.bincount(stratum[known], minlength=len(sizes))
    if (sampled == 0).any():
        raise ValueError("every stratum needs a labelled unit; label more, or merge strata")
    weight = sizes / sizes.sum()
    scale = weight**2 * (1 / sampled - 1 / sizes)
    unseen = 2 * weight
    power = _power(guess[known], truth[known], stratum[known], scale=scale)

    def estimate(strength: float) -> tuple[float, float, int]:
        residual = truth[known] - strength * guess[known]
        mean = np.bincount(stratum[known], weights=residual, minlength=len(sizes)) / sampled
        value = float(strength * guess.mean() + weight @ mean)
        if prompts is None:
            spread = float(scale @ _variances(residual, stratum[known], sampled=sampled, unseen=unseen))
            return value, spread, max(int((sampled - 1).sum()), int(known.sum()) // 2)
        pseudo = strength * guess
        pseudo[known] += (sizes / sampled)[stratum[known]] * residual
        _, owner = np.unique(np.asarray(prompts), return_inverse=True)
        if len(owner) != len(pseudo):
            raise ValueError(f"prompts must name the prompt of each of {len(pseudo)} units, got {len(owner)}")
        number = int(owner.max()) + 1
        # Deviations of the prompts' totals, so that a prompt with more images weighs more, as it does in the mean.
        totals = np.bincount(owner, weights=pseudo - value) / len(pseudo)
        spread = float((totals**2).sum()) * number / max(number - 1, 1) + float(scale @ (unseen / sampled))
        return value, spread, number - 1

    return PoweredEstimate(
        interval=_interval(*estimate(power), confidence=confidence, method="prediction-powered"),
        labels_only=_interval(*estimate(0.0), confidence=confidence, method="labels only"),
        predictions_only=float(guess.mean()),
        power=power,
        labelled=int(known.sum()),
        units=len(guess),
    )


def agreement(table: npt.ArrayLike, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0) -> Agreement:
    """Return agreement of people's labels with the classifier's, and Cohen's kappa.

    Parameters
    ----------
    table
        Images by people's label (rows) and the classifier's (columns), shape (labels, labels).
    confidence
        Wanted coverage.
    draws, seed
        Resamples of the images for kappa's percentile limits, and their seed.

    Raises
    ------
    ValueError
        If the table is not square, holds anything but whole numbers of at least 0, or confidence is out of range.

    References
    ----------
    Cohen, J. (1960). A coefficient of agreement for nominal scales. Educ. Psychol. Meas. 20, 37-46.
    """
    from sklearn.metrics import cohen_kappa_score

    counts = as_counts(table, name="table")
    if counts.shape[0] != counts.shape[1]:
        raise ValueError(f"table must be square, got {counts.shape}")
    images = int(counts.sum())
    same = wilson(int(np.trace(counts)), images, confidence=confidence)
    nothing = Interval(None, -1.0, 1.0, "bootstrap")
    # With all labels of one side equal, agreement beyond chance is not defined.
    if min((counts.sum(axis=0) > 0).sum(), (counts.sum(axis=1) > 0).sum()) < 2:
        return Agreement(same, nothing)
    people, machine = np.indices(counts.shape)
    value = float(cohen_kappa_score(people.ravel(), machine.ravel(), sample_weight=counts.ravel()))
    drawn = np.random.default_rng(seed).multinomial(images, counts.ravel() / images, size=draws)
    resampled = drawn.reshape(draws, *counts.shape) / images
    observed = np.trace(resampled, axis1=1, axis2=2)
    chance = (resampled.sum(axis=1) * resampled.sum(axis=2)).sum(axis=1)
    kappas = (observed[chance < 1] - chance[chance < 1]) / (1 - chance[chance < 1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(kappas, [tail, 1 - tail]).tolist()
    return Agreement(same, Interval(value, min(low, value), max(high, value), "bootstrap"))


def _as_sample(
    predictions: npt.ArrayLike, labels: npt.ArrayLike, strata: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, IntArray]:
    guess, truth = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if guess.ndim != 1 or guess.shape != truth.shape or not len(guess):
        raise ValueError(f"predictions and labels must be vectors of one length, got {guess.shape} and {truth.shape}")
    values = np.concatenate([guess, truth[~np.isnan(truth)]])
    if np.isnan(guess).any() or values.min() < 0 or values.max() > 1:
        raise ValueError("predictions and labels must lie between 0 and 1; only labels may be nan, where there is none")
    group = np.zeros(len(guess)) if strata is None else np.asarray(strata)
    if group.shape != guess.shape:
        raise ValueError(f"strata must name the stratum of each of {len(guess)} units, got shape {group.shape}")
    stratum: IntArray = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return guess, truth, stratum


def _power(guess: FloatArray, truth: FloatArray, stratum: IntArray, *, scale: FloatArray) -> float:
    """Return the weight of the predictions that minimises the estimated variance, within 0 and 1."""
    together = apart = 0.0
    for group, factor in enumerate(scale):
        inside: BoolArray = stratum == group
        if inside.sum() > 1:
            covariance = np.cov(guess[inside], truth[inside])
            together += factor * covariance[0, 1]
            apart += factor * covariance[0, 0]
    return float(np.clip(together / apart, 0, 1)) if apart > 0 else 1.0


def _variances(residual: FloatArray, stratum: IntArray, *, sampled: IntArray, unseen: FloatArray) -> FloatArray:
    """Return the variance of the residuals per stratum; where only one was labelled, that over all strata."""
    mean = np.bincount(stratum, weights=residual, minlength=len(sampled)) / sampled
    squares = np.bincount(stratum, weights=(residual - mean[stratum]) ** 2, minlength=len(sampled))
    overall = (((residual - residual.mean()) ** 2).sum() + 2) / (len(residual) + 1)
    within: FloatArray = (squares + unseen) / (sampled - 1 + unseen)
    return np.where(sampled > 1, within, overall)


def _interval(value: float, variance: float, freedom: int, *, confidence: float, method: str) -> Interval:
    if freedom < 1:
        return Interval(value, 0.0, 1.0, method)
    margin = float(special.stdtrit(freedom, (1 + confidence) / 2)) * float(np.sqrt(variance))
    value = min(max(value, 0.0), 1.0)
    return Interval(value, max(value - margin, 0.0), min(value + margin, 1.0), method)
