"""How much a classifier's errors differ from prompt to prompt, from images of the run that people labelled, and unanimity without them.

A calibration gives error rates for all its images together. Where people labelled some of the run's own images, prompt by prompt, their
labels beside the decisions show how the rates differ: each prompt's odds of the first decision are pulled by exp(d) with

    d = shift + lean * side + spread * z,  z normal

where side is 1 for a prompt that has most of the first label and -1 for one that has most of the second. `spread` is error that differs
for reasons of its own, `lean` error that follows the prompt's own side (a stereotype cue), `shift` a run that is read otherwise than the
calibration throughout. The three are found by marginal likelihood over all decisions and all labels, the prompts' shares averaged out,
and unanimity is averaged over what they may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts
from allfour.pipeline.statistics.confusion import Confusion, as_decisions, decision_scores
from allfour.pipeline.statistics.correction import SMALLEST_DISCRIMINATION, corrected_unanimity, decision_weights
from allfour.pipeline.statistics.intervals import Interval

PRIOR = (0.5, 0.7, 0.7)
"""Standard deviations, on the logit, that shift, lean and spread have before anything is seen; the spread's is that of a half-normal."""
FEWEST_LABELLED = 30
"""Labelled images, and a third of them with either label, below which nothing is said of the spread."""
FEWEST_PROMPTS = 10
SPREAD_SHOWN = 0.05
"""Level of the test whether errors are alike in every prompt."""
_SHARES = np.linspace(0, 1, 41)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_STEPS, _PROPOSALS, _FREEDOM = 15, 240, 5
_LONG = 300
"""Steps of EM after which nothing moves any more."""


@dataclass(frozen=True)
class MeasuredError:
    """How much error differs between prompts, and unanimity with that taken out."""

    unanimity: Interval
    """The corrected figure, averaged over what shift, lean and spread may be."""
    spread: Interval
    """Standard deviation of a prompt's pull on the logit, lean and spread together: what `varying_error` takes as given."""
    lean: Interval
    """Mean pull towards the label that a prompt has most of, on the logit."""
    shift: Interval
    """Mean pull towards the first label, on the logit."""
    images: int
    """That people labelled."""
    prompts: int
    """That these are of."""
    agrees: float
    """p-value that people's labels go with the calibration's rates: that its errors are as common here, whatever prompts they are in."""
    alike: float
    """p-value that errors are alike in every prompt, those of the calibration: no lean and no spread."""


def recentred(at: Interval, *, width: float) -> Interval:
    """Return the same value with limits drawn together around it, in proportion, to at most `width`.

    An estimate that is drawn towards what is known beforehand is nearer to the truth on average than one that is not, so that limits as wide
    as before, placed around it, cover no less often: Hwang, J. T., Casella, G. (1982). Minimax confidence sets for the mean of a
    multivariate normal distribution. Ann. Statist. 10, 868-881. That theorem is about three normal means and more; here it is a rule
    whose coverage is simulated (docs/validation.md).
    """
    if at.value is None or at.high - at.low <= width:
        return at
    part = width / (at.high - at.low)
    return Interval(at.value, at.value - part * (at.value - at.low), at.value + part * (at.high - at.value), at.method)


def measured_error(
    unlabelled: npt.ArrayLike,
    labelled: npt.ArrayLike,
    *,
    confusion: Confusion,
    set_size: int = 4,
    confidence: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> MeasuredError | None:
    """Return unanimity with errors that differ by prompt taken out, from the labels of some of a run's images; for two labels.

    The distribution of shares is the one that fits best for each shift, lean and spread (EM on a grid: Laird, N. (1978). JASA 73, 805-811).
    These three have normal priors, a fourth (blur) is how common the calibration, by its size, leaves errors to be; their posterior is drawn
    from by importance sampling. For each draw, what the moment
    estimate of `corrected_unanimity` is expected to be off by is taken from it, so that limits hold prompts, the calibration's size and
    what is not known of the spread. Which images were labelled may depend on what was decided, and on nothing else.

    Parameters
    ----------
    unlabelled
        Images that nobody labelled, per prompt and decision, shape (prompts, decisions).
    labelled
        Images that people labelled, per prompt, label and decision, shape (prompts, 2, decisions).
    confusion
        The calibration.
    set_size, confidence, draws, seed
        See `corrected_unanimity`.

    Returns
    -------
    None where too few images are labelled, there are more than two labels, or the classifier tells them apart hardly better than a coin.

    References
    ----------
    Rates of error that vary between units, on the logit: Chu, H., Cole, S. R. (2006). Bivariate meta-analysis of sensitivity and
    specificity. J. Clin. Epidemiol. 59, 1331-1332. Labels for a part of the units: Little, R. J. A., Rubin, D. B. (2002). Statistical
    Analysis with Missing Data, chapter 6. Importance sampling around a mode: Geweke, J. (1989). Econometrica 57, 1317-1339.
    """
    rest = as_decisions(unlabelled, confusion)
    known = np.asarray(labelled, dtype=np.int64)
    if confusion.labels != 2 or known.shape != (len(rest), 2, rest.shape[1]):
        return None
    if confusion.discrimination < SMALLEST_DISCRIMINATION:
        return None
    as_counts(known.reshape(len(known), -1), name="labelled")
    by_label, touched = known.sum(axis=(0, 2)), int((known.sum(axis=(1, 2)) > 0).sum())
    if by_label.sum() < FEWEST_LABELLED or by_label.min() * 3 < FEWEST_LABELLED or touched < FEWEST_PROMPTS:
        return None
    table = rest + known.sum(axis=1)
    model = _Model(rest, known, confusion)
    random = np.random.default_rng(seed)
    points, weights, priors, agrees, alike = _posterior(model, random)
    scores = decision_scores(confusion.rates, weights=decision_weights(table[table.sum(axis=1) >= set_size]))
    bias = np.array([model.bias(p, prior, scores, set_size) for p, prior in zip(points, priors, strict=True)])
    picked = random.choice(len(points), size=draws, p=weights)
    # how often the calibration's two labels are taken for each other is in the bias; what is left of its size is who is unclear
    rates = confusion.draw_rates(draws, random)
    rates[..., :2] = rates[..., :2].sum(axis=-1, keepdims=True) * (
        confusion.rates[:, :2] / np.maximum(confusion.rates[:, :2].sum(axis=1, keepdims=True), 1e-9)
    )
    found = corrected_unanimity(
        table, confusion=confusion, set_size=set_size, confidence=confidence, seed=seed, rates=rates, bias=bias[picked]
    )
    if found.interval.value is None:
        return None
    shift, lean, spread = (
        _summary(column[picked], confidence) for column in (points[:, 0], points[:, 1], _total(points))
    )
    return MeasuredError(found.interval, spread, lean, shift, int(by_label.sum()), touched, agrees, alike)


class _Model:
    """The likelihood of what was decided and labelled, of images that got one of the two labels.

    Which images did not may have been chosen (a sample in strata of decisions holds more of them), and depends on the label alone.
    """

    def __init__(self, rest: IntArray, known: IntArray, confusion: Confusion) -> None:
        self._rest = rest[:, :2].astype(np.float64)
        self._known = known[:, :, :2].reshape(len(known), 4).astype(np.float64)
        counts = confusion.counts + 0.5
        self._counts = counts[:, :2]
        self._logits: FloatArray = np.log(counts[:, 0] / counts[:, 1])
        self._rates: FloatArray = counts / counts.sum(axis=1, keepdims=True)
        self._side = np.sign(_SHARES - 0.5)[:, np.newaxis]
        self._share = np.clip(np.stack([_SHARES, 1 - _SHARES], axis=1), 1e-9, 1)
        decided = self._share * self._rates[:, :2].sum(axis=1)
        self._decided: FloatArray = decided / decided.sum(axis=1, keepdims=True)
        """Share of either label among images with a decision, shape (shares, 2)."""

    def split(self, point: FloatArray) -> FloatArray:
        """Return how often either label is decided, by share, node of the spread and true label, shape (shares, nodes, 2, 2).

        The fourth number of a point is a blur: the odds of being taken for the other label, of both labels alike, are multiplied by its
        exponential.
        """
        pull = point[0] + point[1] * self._side + abs(point[2]) * _NODES
        first = special.expit(pull[..., np.newaxis] + self._logits + point[3] * np.array([-1, 1]))
        rates: FloatArray = np.stack([first, 1 - first], axis=-1)
        return rates

    def calibration_at(self, blur: float, shift: float = 0.0) -> float:
        """Return the log likelihood of the calibration itself with a blur, and a shift that it has of its own."""
        first = special.expit(self._logits + shift + blur * np.array([-1, 1]))
        return float((self._counts * np.log(np.stack([first, 1 - first], axis=-1))).sum())

    def fit(self, point: FloatArray, start: FloatArray, steps: int = _STEPS) -> tuple[float, FloatArray]:
        """Return the log likelihood, and the distribution of shares that is likeliest."""
        joint = self._decided[:, np.newaxis, :, np.newaxis] * self.split(point)
        shape = joint.shape[:2]
        logs = self._rest @ np.log(joint.sum(axis=2)).reshape(-1, 2).T
        logs += self._known @ np.log(joint).reshape(-1, 4).T
        logs = logs.reshape(-1, *shape)
        most = logs.max(axis=(1, 2))
        likely = np.exp(logs - most[:, np.newaxis, np.newaxis]) @ _WEIGHTS
        prior = start
        for _ in range(steps):
            posterior = likely * prior
            prior = (posterior / posterior.sum(axis=1, keepdims=True)).mean(axis=0)
        return float((np.log(likely @ prior) + most).sum()), prior

    def bias(self, point: FloatArray, prior: FloatArray, scores: FloatArray, set_size: int) -> float:
        """Return what the moment estimate is expected to be off by."""
        whole = np.tile(self._rates, (len(_SHARES), len(_NODES), 1, 1))
        whole[..., :2] = self.split(point) * self._rates[:, :2].sum(axis=1, keepdims=True)
        mixed = (self._share[:, np.newaxis, :, np.newaxis] * whole).sum(axis=2)
        expected = ((mixed @ scores.T) ** set_size).sum(axis=-1) @ _WEIGHTS
        return float(prior @ (expected - (self._share**set_size).sum(axis=1)))


def _posterior(
    model: _Model, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, list[FloatArray], float, float]:
    """Draw shift, lean, spread and blur: points of shape (proposals, 4), their weights, the distribution of shares at each, `agrees`, `alike`.

    Those last two are of likelihood-ratio tests. Proposals are from a t distribution around the mode, and once more from one with the mean and the covariance of what came of that.
    """
    from scipy import optimize

    _, at = model.fit(np.array([0.0, 0.0, 0.3, 0.0]), np.full(len(_SHARES), 1 / len(_SHARES)), 100)

    def log_density(point: FloatArray) -> tuple[float, FloatArray]:
        likelihood, prior = model.fit(point, at)
        before = 0.5 * float(((point[:3] / np.array(PRIOR)) ** 2).sum())
        return likelihood + model.calibration_at(point[3]) - before, prior

    def likeliest(start: FloatArray, calibrated: bool) -> tuple[FloatArray, float]:
        """Of all points, with the calibration's own images or without them."""

        def loss(point: FloatArray) -> float:
            return (0.0 if calibrated else model.calibration_at(point[3])) - log_density(point)[0]

        simplex = start + np.vstack([np.zeros(4), 0.3 * np.eye(4)])
        options = {"xatol": 0.02, "fatol": 0.02, "maxiter": 200, "initial_simplex": simplex}
        found = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
        return np.asarray(found.x, dtype=np.float64), -float(found.fun)

    mode, together = likeliest(np.array([0.0, 0.0, 0.4, 0.0]), calibrated=True)
    _, apart = likeliest(mode, calibrated=False)
    gain = apart + model.calibration_at(0.0) - together  # twice this is chi-squared where one blur is that of both
    agrees = float(special.chdtrc(1, 2 * max(gain, 0.0)))
    alike = _alike(model, mode, at)
    _, at = model.fit(mode, at, 100)
    centre, covariance = mode, _covariance(lambda point: log_density(point)[0], mode)
    for _ in range(2):
        root = np.linalg.cholesky(covariance)
        scale = np.sqrt(_FREEDOM / random.chisquare(_FREEDOM, size=(_PROPOSALS, 1)))
        points = centre + (random.standard_normal((_PROPOSALS, 4)) * scale) @ root.T
        logs, priors = zip(*map(log_density, points), strict=True)
        inverse = np.linalg.inv(root)
        mirrored = points * np.array([1, 1, -1, 1])  # the sign of the spread says nothing: a point stands for both
        proposed = sum(
            (1 + (((p - centre) @ inverse.T) ** 2).sum(axis=1) / _FREEDOM) ** (-(_FREEDOM + 4) / 2)
            for p in (points, mirrored)
        )
        weights = np.array(logs) - np.log(proposed)
        weights = np.exp(weights - weights.max())
        weights /= weights.sum()
        points[:, 2] = np.abs(points[:, 2])
        centre = weights @ points
        covariance = 1.3 * np.cov(points, rowvar=False, aweights=weights) + 0.02**2 * np.eye(4)
    return points, weights, list(priors), agrees, alike


def _alike(model: _Model, mode: FloatArray, at: FloatArray) -> float:
    """Return the p-value of no lean and no spread, the shift and the blur being those of run and calibration together.

    Twice the gain in log likelihood is chi-squared with two degrees of freedom, or with one where the spread, which cannot be less than
    nothing, is fitted as none: half of the time each (Self, S. G., Liang, K.-Y. (1987). JASA 82, 605-610).
    """
    from scipy import optimize

    def likeliest(free: list[int]) -> float:
        def point_of(values: FloatArray) -> FloatArray:
            point = np.zeros(4)
            point[free] = values
            return point

        def loss(values: FloatArray) -> float:
            point = point_of(values)
            return -(model.fit(point, at)[0] + model.calibration_at(point[3], point[0]))

        start = mode[free]
        simplex = start + np.vstack([np.zeros(len(free)), 0.3 * np.eye(len(free))])
        options = {"xatol": 0.02, "fatol": 0.02, "maxiter": 200, "initial_simplex": simplex}
        best = point_of(optimize.minimize(loss, start, method="Nelder-Mead", options=options).x)
        # `at` is the shares' distribution where errors differ: one that fits equal errors is further away, and has to be reached
        return model.fit(best, at, _LONG)[0] + model.calibration_at(best[3], best[0])

    gain = max(2 * (likeliest([0, 1, 2, 3]) - likeliest([0, 3])), 0.0)
    return float(special.chdtrc(1, gain) + special.chdtrc(2, gain)) / 2


def _covariance(log_density: Callable[[FloatArray], float], mode: FloatArray) -> FloatArray:
    """Return the inverse of the curvature at the mode; a direction that has hardly any gets a standard deviation of 0.7."""
    step, size = 0.1, len(mode)
    centre, axes = log_density(mode), step * np.eye(size)
    ahead, behind = [log_density(mode + axis) for axis in axes], [log_density(mode - axis) for axis in axes]
    curve = np.empty((size, size))
    for i in range(size):
        curve[i, i] = 2 * centre - ahead[i] - behind[i]
        for j in range(i):
            curve[i, j] = curve[j, i] = ahead[i] + ahead[j] - log_density(mode + axes[i] + axes[j]) - centre
    values, vectors = np.linalg.eigh(curve / step**2)
    covariance: FloatArray = (vectors / np.maximum(values, 2.0)) @ vectors.T
    return covariance


def _total(points: FloatArray) -> FloatArray:
    total: FloatArray = np.hypot(points[:, 1], points[:, 2])
    return total


def _summary(values: FloatArray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return Interval(float(np.median(values)), low, high, "posterior")
