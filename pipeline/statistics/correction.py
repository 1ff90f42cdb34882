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
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from pipeline.statistics.arrays import FloatArray, IntArray, as_counts, check_confidence
from pipeline.statistics.intervals import Interval, effective_size, wilson_limit
from pipeline.statistics.unanimity import UnanimityEstimate

MOST_COMPOSITIONS = 20_000
"""Ways to divide a set over the decisions; above this the exact sum over them is refused."""
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


@dataclass(frozen=True, eq=False)
class Confusion:
    """How a classifier decided on images whose label is known."""

    counts: IntArray
    """Calibration images, shape (labels, decisions). The first decisions are the labels, in the same order; further
    ones are other outcomes, such as ambiguous."""

    def __post_init__(self) -> None:
        """Check the shape, and that every label was seen."""
        table = as_counts(self.counts, name="confusion counts")
        if table.shape[1] < table.shape[0]:
            raise ValueError(f"a confusion needs one decision per label or more, got shape {table.shape}")
        if len(table) < 2 or (table.sum(axis=1) == 0).any():
            raise ValueError("every label, of two or more, needs at least one calibration image")
        object.__setattr__(self, "counts", table)

    @classmethod
    def from_rates(cls, *, sensitivity: tuple[int, int], specificity: tuple[int, int]) -> Confusion:
        """Return the confusion of two labels from right decisions and images: (right, of how many) for each label."""
        rows = [[sensitivity[0], sensitivity[1] - sensitivity[0]], [specificity[1] - specificity[0], specificity[0]]]
        return cls(np.array(rows))

    @property
    def labels(self) -> int:
        """Number of labels."""
        return int(self.counts.shape[0])

    @property
    def rates(self) -> FloatArray:
        """Observed share of each decision per label, shape (labels, decisions)."""
        rates: FloatArray = self.counts / self.counts.sum(axis=1, keepdims=True)
        return rates

    @property
    def discrimination(self) -> float:
        """How much more often a label is decided when it is right than when another one is, for the worst label.

        For two labels this is Youden's J, sensitivity + specificity - 1: 1 is perfect, 0 is guessing.
        """
        square = self.rates[:, : self.labels]
        others = np.where(np.eye(self.labels, dtype=bool), -np.inf, square).max(axis=0)
        return float((np.diagonal(square) - others).min())

    def draw_rates(self, draws: int, random: np.random.Generator) -> FloatArray:
        """Return rates drawn from their Jeffreys posterior, shape (draws, labels, decisions)."""
        shape = self.counts.astype(np.float64) + 0.5
        gamma = random.standard_gamma(shape, size=(draws, *self.counts.shape))
        rates: FloatArray = gamma / gamma.sum(axis=-1, keepdims=True)
        return rates


def decision_scores(rates: FloatArray, *, weights: FloatArray | None = None) -> FloatArray:
    """Return the score of every decision for every label: A with A rates^T = identity.

    With as many decisions as labels this is the inverse of the transposed rates; for two labels the scores for the
    first are specificity / J and -(1 - specificity) / J. With more decisions it is the least-squares solution with
    the given weights, which is efficient for weights of one over the decision's frequency.

    Parameters
    ----------
    rates
        Share of each decision per label, shape (..., labels, decisions).
    weights
        Shape (decisions,), above 0; equal by default.

    Returns
    -------
    Shape (..., labels, decisions).
    """
    labels, decisions = rates.shape[-2:]
    if labels == decisions:
        inverse: FloatArray = np.swapaxes(np.linalg.inv(rates), -1, -2)
        return inverse
    weighted: FloatArray = rates * (np.ones(decisions) if weights is None else weights)
    return np.asarray(np.linalg.solve(weighted @ np.swapaxes(rates, -1, -2), weighted), dtype=np.float64)


@lru_cache(maxsize=64)
def compositions(parts: int, total: int) -> IntArray:
    """Return every way to divide `total` images over `parts` decisions, shape (ways, parts).

    Raises
    ------
    ValueError
        If there are more than `MOST_COMPOSITIONS`.
    """
    ways = int(special.comb(parts + total - 1, total, exact=True))
    if ways > MOST_COMPOSITIONS:
        raise ValueError(
            f"sets of {total} images over {parts} decisions have {ways} outcomes, more than {MOST_COMPOSITIONS}; "
            "take a smaller set_size or merge labels"
        )
    rows = np.zeros((1, 0), dtype=np.int64)
    for part in range(parts):
        left = total - rows.sum(axis=1)
        if part == parts - 1:
            return np.column_stack([rows, left])
        rows = np.concatenate(
            [np.column_stack([rows[left >= n], np.full((left >= n).sum(), n)]) for n in range(total + 1)]
        )
    return rows


def set_probabilities(counts: IntArray, ways: IntArray) -> FloatArray:
    """Return how likely a random set of each row's images is composed in each way, shape (rows, ways).

    Multivariate hypergeometric: product of C(count, part) over decisions, over C(images, set_size).
    """
    product = np.ones((len(counts), len(ways)))
    for decision in range(counts.shape[1]):
        product *= special.comb(counts[:, decision, np.newaxis], ways[np.newaxis, :, decision])
    total: FloatArray = special.comb(counts.sum(axis=1), int(ways[0].sum()))[:, np.newaxis]
    return product / total


def set_scores(scores: FloatArray, ways: IntArray) -> FloatArray:
    """Return the product of the scores in a set of each composition, summed over labels.

    Parameters
    ----------
    scores
        Shape (..., labels, decisions).
    ways
        Shape (ways, decisions).

    Returns
    -------
    Shape (..., ways).
    """
    product = np.ones((*scores.shape[:-1], len(ways)))
    for decision in range(ways.shape[1]):
        score = scores[..., decision]
        powers = [np.ones_like(score)]
        for _ in range(int(ways[:, decision].max())):
            powers.append(powers[-1] * score)
        product *= np.stack(powers, axis=-1)[..., ways[:, decision]]
    total: FloatArray = product.sum(axis=-2)
    return total


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

    Returns
    -------
    The estimate; its value is None, with the limits 0 and 1, where no prompt has enough images or the classifier
    tells the labels apart hardly better than a coin.

    Raises
    ------
    ValueError
        If the columns do not fit the confusion, or a set can be composed in too many ways.
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

    Parameters and references are those of `corrected_share`. A prompt without images gets the value None.
    """
    table = _as_decisions(decisions, confusion)
    check_confidence(confidence)
    unknown = Interval(None, 0.0, 1.0, CORRECTED)
    if confusion.discrimination < SMALLEST_DISCRIMINATION:
        return [unknown] * len(table)
    random = np.random.default_rng(seed)
    weights = _weights(table)
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
    One interval per label.

    References
    ----------
    Dempster, A. P., Laird, N. M., Rubin, D. B. (1977). Maximum likelihood from incomplete data via the EM algorithm.
    JRSS B 39, 1-38.
    """
    table = _as_decisions(decisions, confusion)
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


def estimate_range(observed: IntArray, *, set_size: int, confusion: Confusion) -> IntArray:
    """Return rows of decisions whose estimates span the range that a prompt's estimate can have.

    The observed rows, the sets of every composition scaled up to the least number of images, and the row that even
    shares would give, which is where unanimity is lowest.
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
) -> UnanimityEstimate:
    """Estimate the mean of sum over labels of share^set_size, or of one label's share."""
    table = _as_decisions(decisions, confusion)
    check_confidence(confidence)
    images = table.sum(axis=1)
    known = images >= set_size
    prompts, left_out = int(known.sum()), int((~known).sum())
    if not prompts or confusion.discrimination < SMALLEST_DISCRIMINATION:
        return UnanimityEstimate(Interval(None, 0.0, 1.0, CORRECTED), prompts, left_out)
    table, images = table[known], images[known]
    chosen = slice(None) if label is None else slice(label, label + 1)
    weights = _weights(table)
    ways = compositions(table.shape[1], set_size)

    rows, times = np.unique(table, axis=0, return_counts=True)
    probabilities = set_probabilities(rows, ways)
    reach = set_probabilities(estimate_range(rows, set_size=set_size, confusion=confusion), ways)
    point = set_scores(decision_scores(confusion.rates, weights=weights)[chosen], ways)
    value = float(times @ (probabilities @ point)) / prompts

    random = np.random.default_rng(seed)
    rates, z = confusion.draw_rates(draws, random), normal_draws(draws, random)
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


def _as_decisions(decisions: npt.ArrayLike, confusion: Confusion) -> IntArray:
    table = as_counts(decisions, name="decisions")
    if table.shape[1] != confusion.counts.shape[1]:
        raise ValueError(
            f"decisions have {table.shape[1]} columns and the confusion has {confusion.counts.shape[1]}; "
            "both need the same decisions in the same order"
        )
    return table


def _weights(table: IntArray) -> FloatArray:
    """Return one over the frequency of each decision, no frequency taken as less than `RAREST_DECISION`.

    Without the floor, a decision that the audit hardly shows gets a score so large that the estimate hangs on how often the
    calibration, with a handful of images, happened to show it.
    """
    smoothed = table.sum(axis=0) + 0.5
    weights: FloatArray = 1 / np.maximum(smoothed / smoothed.sum(), RAREST_DECISION)
    return weights


def apportion(shares: FloatArray, images: int) -> IntArray:
    """Return whole images that come closest to each row's shares and add up to `images` (largest remainder)."""
    exact = shares * images
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(np.argsort(-(exact - whole), axis=1, kind="stable"), axis=1)
    whole += order < (images - whole.sum(axis=1))[:, np.newaxis]
    return whole


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
