"""What the shares and unanimity would be without the classifier's errors.

A calibration set says how often the classifier takes each label for each decision. That inverts: give an image that
was decided as d the score A[k, d] for every label k, with A chosen so that the expected score is 1 for images of
label k and 0 for others. Then the mean score is an unbiased share of k (Rogan and Gladen's estimate, for two labels),
and the mean over all sets of images of the product of their scores is an unbiased estimate of share^set_size, because
images of a prompt are independent. No prompt's own share is estimated on the way, so nothing is biased by having few
images: a power of an estimated share overshoots.

Decisions may include more than the labels, such as "ambiguous"; the calibration then says how often each label is
ambiguous, and abstentions are part of the model instead of missing. Images without a person are of no label and must
be left out of the decisions.

Intervals carry both uncertainties. Limits over prompts are those of `mean_over_prompts`, taken as a confidence
distribution; error rates are drawn from their Jeffreys (Dirichlet) distribution given the calibration counts; the
interval is between the quantiles of the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, check_confidence
from allfour.pipeline.statistics.compositions import apportion, compositions, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import Confusion, as_decisions, decision_scores
from allfour.pipeline.statistics.intervals import Interval, effective_size, wilson_limit
from allfour.pipeline.statistics.unanimity import UnanimityEstimate

SMALLEST_DISCRIMINATION = 0.02
"""Below this the classifier tells labels apart hardly better than a coin, and nothing is corrected."""
RAREST_DECISION = 0.05
"""Floor of a decision's frequency in the weights. In 150 simulated audits each of four ways to abstain (20 prompts of 9 images, 200
calibration images) it gave the smallest root mean square error or came within 2% of it; without it, intervals were up to 40% wider."""
CORRECTED = "error-corrected"
"""Method of an interval from here."""
CONTRADICTED = "error-corrected, calibration contradicted"
"""Its method where the whole interval would lie beyond what shares can be: the error rates are not those at work."""
_CELLS = 4_000_000


def confidence_draws(
    mean: FloatArray,
    variance: FloatArray,
    *,
    lowest: FloatArray,
    highest: FloatArray,
    z: FloatArray,
    prompts: int,
    independent: float,
    most: float = np.inf,
    confidence: float = 0.95,
) -> FloatArray:
    """Return draws from the confidence distribution of a mean over prompts, elementwise.

    Parameters
    ----------
    mean, variance
        Mean and variance of the per-prompt estimates, one pair per draw of the error rates.
    lowest, highest
        The range that a per-prompt estimate can have at those error rates.
    z
        Standard normal draws.
    prompts, independent, most, confidence
        See `effective_size`.
    """
    lowest = np.minimum(lowest, mean)
    span = np.maximum(highest, mean) - lowest
    span = np.where(span > 0, span, 1.0)
    position = np.clip((mean - lowest) / span, 0.0, 1.0)
    size = effective_size(
        position, variance / span**2, prompts=prompts, independent=independent, most=most, confidence=confidence
    )
    return lowest + span * wilson_limit(position, size, z)


def corrected_unanimity(
    decisions: npt.ArrayLike,
    *,
    confusion: Confusion,
    set_size: int = 4,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
    bias: npt.ArrayLike = 0.0,
    rates: FloatArray | None = None,
) -> UnanimityEstimate:
    """Return mean unanimity over prompts with the classifier's errors taken out.

    The estimand is E[sum over labels of share^set_size] over prompts like these. The estimate is unbiased for given
    error rates; its value is clipped to what is possible, labels^(1 - set_size) to 1.

    Parameters
    ----------
    decisions
        Images per prompt and decision, shape (prompts, decisions), columns as in `confusion`.
    confusion
        The calibration.
    set_size
        Images per set; prompts with fewer are left out and counted.
    confidence
        Wanted coverage.
    draws
        Number of draws of the error rates.
    seed
        Seed of the draws; the same seed gives the same limits.
    bias
        What the estimate is expected to be off by where error rates differ between prompts, one value or one per draw; taken from it.
    rates
        Draws of the error rates, shape (draws, labels, decisions), in place of those from the calibration's posterior.

    Returns
    -------
    The estimate; its value is None, with the limits 0 and 1, where no prompt has enough images or the classifier
    tells the labels apart hardly better than a coin.

    Raises
    ------
    ValueError
        If the columns do not fit the confusion, a set can be composed in too many ways, or confidence is out of range.
    """
    lowest = float(confusion.labels) ** (1 - set_size)
    return _corrected(
        decisions,
        confusion=confusion,
        label=None,
        set_size=set_size,
        floor=lowest,
        confidence=confidence,
        draws=draws,
        seed=seed,
        bias=np.asarray(bias, dtype=np.float64),
        rates=rates,
    )


def corrected_share(
    decisions: npt.ArrayLike,
    *,
    confusion: Confusion,
    label: int = 0,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return the mean over prompts of a label's share with the classifier's errors taken out, clipped to 0 and 1.

    Parameters
    ----------
    label
        Column of the label.
    decisions, confusion, confidence, draws, seed
        See `corrected_unanimity`.

    Returns
    -------
    The estimate; its value is None, with the limits 0 and 1, where no prompt has an image or the classifier tells the
    labels apart hardly better than a coin.

    Raises
    ------
    ValueError
        If the columns do not fit the confusion, or confidence is out of range.

    References
    ----------
    Rogan, W. J., Gladen, B. (1978). Estimating prevalence from the results of a screening test. Am. J. Epidemiol.
    107, 71-76. On carrying the calibration's uncertainty: Lang, Z., Reiczigel, J. (2014). Confidence limits for
    prevalence of disease adjusted for estimated sensitivity and specificity. Prev. Vet. Med. 113, 13-22.
    """
    return _corrected(
        decisions,
        confusion=confusion,
        label=label,
        set_size=1,
        floor=0.0,
        confidence=confidence,
        draws=draws,
        seed=seed,
    ).interval


def corrected_prompt_shares(
    decisions: npt.ArrayLike,
    *,
    confusion: Confusion,
    label: int = 0,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """Return every prompt's own corrected share of a label; images are the independent units here.

    Parameters
    ----------
    decisions, confusion, label, confidence, draws, seed
        See `corrected_share`, where the references are too.

    Returns
    -------
    One interval per prompt; the value of a prompt without images is None, and so is every value where the classifier tells
    the labels apart hardly better than a coin.

    Raises
    ------
    ValueError
        If the columns do not fit the confusion, or confidence is out of range.
    """
    table = as_decisions(decisions, confusion)
    check_confidence(confidence)
    unknown = Interval(None, 0.0, 1.0, CORRECTED)
    if confusion.discrimination < SMALLEST_DISCRIMINATION:
        return [unknown] * len(table)
    random = np.random.default_rng(seed)
    weights = decision_weights(table)
    score = decision_scores(confusion.rates, weights=weights)[label]
    drawn = decision_scores(confusion.draw_rates(draws, random), weights=weights)[:, label]
    z = normal_draws(draws, random)
    found: dict[tuple[int, ...], Interval] = {}
    for row in np.unique(table, axis=0):
        images = int(row.sum())
        if not images:
            found[tuple(row.tolist())] = unknown
            continue
        mean = drawn @ row / images
        estimates = _Estimates(
            mean=mean,
            variance=np.maximum(drawn**2 @ row / images - mean**2, 0.0) * images / max(images - 1, 1),
            lowest=drawn.min(axis=1),
            highest=drawn.max(axis=1),
        )
        found[tuple(row.tolist())] = estimates.interval(
            float(score @ row) / images,
            z=z,
            floor=0.0,
            prompts=images,
            independent=images,
            most=images,
            confidence=confidence,
        )
    return [found[tuple(row)] for row in table.tolist()]


def estimate_range(observed: IntArray, *, set_size: int, confusion: Confusion) -> IntArray:
    """Return rows of decisions whose estimates span the range that a prompt's estimate can have.

    The observed rows, the sets of every composition scaled up to the least number of images, and the row that even
    shares would give, which is where unanimity is lowest.

    Parameters
    ----------
    observed
        Images per prompt and decision, shape (prompts, decisions), at least one prompt.
    set_size, confusion
        See `corrected_unanimity`.

    Raises
    ------
    ValueError
        If a set can be composed in too many ways.
    """
    images = int(observed.sum(axis=1).min())
    even = confusion.rates.mean(axis=0, keepdims=True)
    grid = compositions(observed.shape[1], set_size) / set_size
    return np.unique(np.concatenate([observed, apportion(np.concatenate([grid, even]), images)]), axis=0)


def _corrected(
    decisions: npt.ArrayLike,
    *,
    confusion: Confusion,
    label: int | None,
    set_size: int,
    floor: float,
    confidence: float,
    draws: int,
    seed: int,
    bias: FloatArray | None = None,
    rates: FloatArray | None = None,
) -> UnanimityEstimate:
    """Estimate the mean of sum over labels of share^set_size, or of one label's share."""
    table = as_decisions(decisions, confusion)
    check_confidence(confidence)
    images = table.sum(axis=1)
    known = images >= set_size
    prompts, left_out = int(known.sum()), int((~known).sum())
    if not prompts or confusion.discrimination < SMALLEST_DISCRIMINATION:
        return UnanimityEstimate(Interval(None, 0.0, 1.0, CORRECTED), prompts, left_out)
    table, images = table[known], images[known]
    chosen = slice(None) if label is None else slice(label, label + 1)
    weights = decision_weights(table)
    ways = compositions(table.shape[1], set_size)

    rows, times = np.unique(table, axis=0, return_counts=True)
    probabilities = set_probabilities(rows, ways)
    reach = set_probabilities(estimate_range(rows, set_size=set_size, confusion=confusion), ways)
    point = set_scores(decision_scores(confusion.rates, weights=weights)[chosen], ways)
    value = float(times @ (probabilities @ point)) / prompts

    random = np.random.default_rng(seed)
    rates = confusion.draw_rates(draws, random) if rates is None else rates
    draws = len(rates)
    z = normal_draws(draws, random)
    parts: list[tuple[FloatArray, ...]] = []
    step = max(1, _CELLS // max(len(reach) + len(rows), len(ways) * confusion.labels))
    for start in range(0, draws, step):
        scores = set_scores(decision_scores(rates[start : start + step], weights=weights)[:, chosen], ways)
        estimates, extremes = scores @ probabilities.T, scores @ reach.T
        mean = estimates @ times / prompts
        squares = (estimates - mean[:, np.newaxis]) ** 2 @ times
        parts.append((mean, squares / max(prompts - 1, 1), extremes.min(axis=1), extremes.max(axis=1)))
    interval = _Estimates(*(np.concatenate(column) for column in zip(*parts, strict=True))).interval(
        value,
        z=z,
        floor=floor,
        bias=bias,
        prompts=prompts,
        independent=float(images.sum()) / set_size,
        # A share of two decisions moves in steps of an image, so prompts cannot agree by chance as closely as elsewhere.
        most=np.inf if set_size == 1 and table.shape[1] == 2 else float(images.sum()),
        confidence=confidence,
    )
    return UnanimityEstimate(interval, prompts, left_out)


@dataclass(frozen=True)
class _Estimates:
    """What the decisions give under each draw of the error rates; all of shape (draws,)."""

    mean: FloatArray
    variance: FloatArray
    lowest: FloatArray
    highest: FloatArray

    def interval(
        self,
        value: float,
        *,
        z: FloatArray,
        floor: float,
        prompts: int,
        independent: float,
        most: float = np.inf,
        confidence: float,
        bias: FloatArray | None = None,
    ) -> Interval:
        """Return the interval between quantiles of the confidence distribution, within `floor` and 1."""
        tail = (1 - confidence) / 2
        draws = confidence_draws(
            self.mean,
            self.variance,
            lowest=self.lowest,
            highest=self.highest,
            z=z,
            prompts=prompts,
            independent=independent,
            most=most,
            confidence=confidence,
        )
        if bias is not None:
            draws, value = draws - bias, value - float(bias.mean())
        low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
        method = CONTRADICTED if low > 1 or high < floor else CORRECTED
        doubt = least_doubt(prompts=prompts, independent=independent, confidence=confidence) * (1 - floor)
        low, high = min(max(low, floor), 1 - doubt), max(min(high, 1.0), floor + doubt)
        value = min(max(value, floor), 1.0)
        return Interval(value, min(low, value), max(high, value), method)


def least_doubt(*, prompts: int, independent: float, confidence: float = 0.95) -> float:
    """Return how far from 0 and 1 an interval has to reach: as far as it would without errors if all images agreed.

    An unbiased estimate may lie beyond 0 or 1, and little or nothing of its interval within. No correction can make
    surer than a perfect classifier would, so the interval is extended to what that one would leave open.

    Parameters
    ----------
    prompts, independent, confidence
        See `effective_size`.
    """
    size = effective_size(1.0, 0.0, prompts=prompts, independent=independent, confidence=confidence)
    return 1 - float(wilson_limit(1.0, size, -special.ndtri((1 + confidence) / 2)))


def normal_draws(draws: int, random: np.random.Generator) -> FloatArray:
    """Return standard normal draws in random order, one from each of `draws` slices of equal probability."""
    quantiles: FloatArray = special.ndtri((random.permutation(draws) + 0.5) / draws)
    return quantiles


def decision_weights(table: IntArray) -> FloatArray:
    """Return one over the frequency of each decision, no frequency taken as less than `RAREST_DECISION`.

    Without the floor, a decision that the audit hardly shows gets a score so large that the estimate depends on how often the
    calibration, with a handful of images, happened to show it.
    """
    smoothed = table.sum(axis=0) + 0.5
    weights: FloatArray = 1 / np.maximum(smoothed / smoothed.sum(), RAREST_DECISION)
    return weights
