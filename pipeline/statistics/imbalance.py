"""Label shares, how far they are from even, and how much of that is chance.

With few images even a fair generator looks uneven: four fair coins are on average 0.1875 away from one half. Every
score here comes with that floor, its expectation under the reference shares at the same number of images, and with
the floor taken off.

All scores are 0 for shares equal to the reference and grow with imbalance. A prompt without labelled images has no
score; it is left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, as_counts, check_confidence
from allfour.pipeline.statistics.binomial import binom_pmf, binom_span
from allfour.pipeline.statistics.intervals import Interval, mean_over_prompts
from allfour.pipeline.statistics.rates import rate_over_prompts

Measure = Literal["mean_absolute_deviation", "total_variation", "kl_divergence", "entropy_deficit"]
"""How a distance is measured; p are the observed shares, r the reference shares, K the number of labels.

mean_absolute_deviation: sum |p - r| / K, at most 1/2 for two labels;
total_variation: sum |p - r| / 2, the share of images that would have to change label;
kl_divergence: sum p log(p / r), in nats;
entropy_deficit: the same over its maximum. For even reference shares that is 1 - H(p) / log K, that is 1 - evenness.
"""

MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class Imbalance:
    """Mean imbalance over prompts, beside what chance gives."""

    measure: Measure
    """What was measured."""
    score: Interval
    """Mean over prompts of each prompt's score; its interval is about prompts like these."""
    floor: float | None
    """Mean score of a generator with the reference shares at the same numbers of images; None without prompts."""
    excess: Interval
    """Score less floor; below 0 where prompts are more even than chance makes them."""
    prompts: int
    """Prompts with a score."""
    left_out: int
    """Prompts without labelled images."""


@dataclass(frozen=True)
class AbsentLabel:
    """A label that no image shows."""

    label: int
    """Column of the label."""
    high: float
    """Upper confidence limit of its share."""
    chance: float
    """Probability that a generator with the reference shares never shows it in this many images."""


def mean_share(counts: npt.ArrayLike, *, label: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean over prompts of a label's share of the labelled images; every prompt counts the same.

    Prompts without labelled images are left out. The interval is about prompts like these (`rate_over_prompts`).

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    label
        Column of the label.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, or confidence is out of range.
    """
    table = as_counts(counts)
    table = table[table.sum(axis=1) > 0]
    return rate_over_prompts(table[:, label], trials=table.sum(axis=1), confidence=confidence)


def imbalance_scores(counts: npt.ArrayLike, *, measure: Measure, reference: npt.ArrayLike | None = None) -> FloatArray:
    """Return the imbalance of every row, shape (rows,); nan for a row without images.

    Parameters
    ----------
    counts
        Labelled images, shape (rows, labels).
    measure
        See `Measure`.
    reference
        Shares to compare with, shape (labels,), all above 0 and summing to 1; even by default.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, the reference does not fit, or there is no such measure.
    """
    table = as_counts(counts)
    shares = _reference(reference, table.shape[1])
    images = table.sum(axis=1, keepdims=True)
    observed = np.divide(table, images, out=np.full(table.shape, np.nan), where=images > 0)
    scores: FloatArray = _terms(observed, shares, measure).sum(axis=1) * _scale(shares, measure)
    return scores


def imbalance_floor(images: int, *, labels: int, measure: Measure, reference: npt.ArrayLike | None = None) -> float:
    """Return the expected score when `images` independent images are drawn with the reference shares.

    Every measure is a sum over labels of a function of that label's share, whose count is binomial, so the
    expectation is exact for any number of labels: sum over labels of E f(X / n), X ~ Binomial(n, r).

    Parameters
    ----------
    images
        Number of images, at least 1.
    labels
        Number of labels.
    measure, reference
        See `imbalance_scores`.

    Raises
    ------
    ValueError
        If there is no image, the reference does not fit the labels, or there is no such measure.

    Examples
    --------
    >>> imbalance_floor(4, labels=2, measure="mean_absolute_deviation")
    0.1875
    """
    if images < 1:
        raise ValueError(f"images must be at least 1, got {images}")
    return _floor(images, measure, tuple(_reference(reference, labels).tolist()))


def imbalance(
    counts: npt.ArrayLike,
    *,
    measure: Measure,
    reference: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> Imbalance:
    """Return mean imbalance over prompts, its floor, and the score with the floor taken off.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels). An intersection (gender and race) is a label like any other.
    measure, reference
        See `imbalance_scores`.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        As `imbalance_scores`, and if confidence is out of range.
    """
    check_confidence(confidence)
    table = as_counts(counts)
    shares = _reference(reference, table.shape[1])
    images = table.sum(axis=1)
    scores = imbalance_scores(table, measure=measure, reference=shares)
    known = images > 0
    left_out = int((~known).sum())
    most = _maximum(shares, measure)
    if not known.any():
        nothing = Interval(None, 0.0, most, "wilson-clustered")
        return Imbalance(measure, nothing, None, Interval(None, -most, most, "wilson-clustered"), 0, left_out)
    unit = mean_over_prompts(
        np.clip(scores[known] / most, 0.0, 1.0), independent=float(images.sum()), confidence=confidence
    )
    value = float(scores[known].mean())
    checked = tuple(shares.tolist())
    floors = [_floor(n, measure, checked) for n in images[known].tolist()]
    floor = float(np.mean(floors))
    score = Interval(value, unit.low * most, unit.high * most, unit.method)
    excess = Interval(value - floor, score.low - floor, score.high - floor, unit.method)
    return Imbalance(measure, score, floor, excess, int(known.sum()), left_out)


def absent_labels(
    counts: npt.ArrayLike, *, reference: npt.ArrayLike | None = None, confidence: float = 0.95
) -> list[AbsentLabel]:
    """Return the labels that never appear, with how common they may still be.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    reference
        Shares under which the chance of never appearing is computed; even by default.
    confidence
        Wanted coverage of the upper limit, which has half the error on its side.

    Raises
    ------
    ValueError
        If the counts are no table of whole numbers of at least 0, the reference does not fit, or confidence is out of
        range.
    """
    table = as_counts(counts)
    shares = _reference(reference, table.shape[1])
    images = table.sum(axis=1)
    known = table[images > 0]
    upper = mean_over_prompts(np.zeros(len(known)), independent=float(images.sum()) or None, confidence=confidence).high
    return [
        AbsentLabel(label, upper, float((1 - shares[label]) ** images.sum()))
        for label in np.flatnonzero(table.sum(axis=0) == 0).tolist()
    ]


def _reference(reference: npt.ArrayLike | None, labels: int) -> FloatArray:
    if reference is None:
        return np.full(labels, 1 / labels)
    shares = np.asarray(reference, dtype=np.float64)
    if shares.shape != (labels,) or shares.min() <= 0 or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(
            f"reference must hold {labels} shares above 0 that sum to 1, got {np.asarray(reference).tolist()}"
        )
    return shares


def _terms(observed: FloatArray, reference: FloatArray, measure: Measure) -> FloatArray:
    """Return what each label adds to the score, before `_scale`."""
    if measure in ("mean_absolute_deviation", "total_variation"):
        return np.abs(observed - reference)
    if measure in ("kl_divergence", "entropy_deficit"):
        # rel_entr is p log(p / r) with 0 at p = 0.
        terms: FloatArray = special.rel_entr(observed, np.broadcast_to(reference, observed.shape))
        return terms
    raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")


def _scale(reference: FloatArray, measure: Measure) -> float:
    if measure == "mean_absolute_deviation":
        return 1 / len(reference)
    if measure == "total_variation":
        return 0.5
    return 1 / float(-np.log(reference.min())) if measure == "entropy_deficit" else 1.0


def _maximum(reference: FloatArray, measure: Measure) -> float:
    """Return the highest score: all images of the label that is rarest in the reference."""
    extreme = np.zeros((1, len(reference)))
    extreme[0, reference.argmin()] = 1
    return float(_terms(extreme, reference, measure).sum() * _scale(reference, measure))


def _floor(images: int, measure: Measure, reference: tuple[float, ...]) -> float:
    return _floors(images, reference)[measure]


@lru_cache(maxsize=4096)
def _floors(images: int, reference: tuple[float, ...]) -> dict[Measure, float]:
    """Of every measure: the chances, which take longest where a prompt has many images, are theirs together.

    Chances far from the mean are 0, and there is no need to compute them. Their places are kept, since a shorter sum is rounded
    otherwise.
    """
    shares = np.array(reference)
    totals: dict[Measure, float] = dict.fromkeys(MEASURES, 0.0)
    for share in np.unique(shares):
        first, last = binom_span(images, float(share))
        inside, count = slice(first, last + 1), np.arange(first, last + 1)
        probability, terms = np.zeros(images + 1), np.zeros(images + 1)
        probability[inside] = binom_pmf(count, images, share)
        observed, alike = count[:, np.newaxis] / images, int((shares == share).sum())
        for measure in MEASURES:
            terms[inside] = _terms(observed, np.array([share]), measure)[:, 0]
            totals[measure] += float(probability @ terms) * alike
    return {measure: total * _scale(shares, measure) for measure, total in totals.items()}
