"""What becomes of a corrected figure if error rates differ by prompt, which no calibration over all its images shows.

Every prompt's odds of being decided as the first label are pulled by a factor exp(d), for both labels alike. A pull that differs between
prompts looks like shares that differ, so unanimity comes out too high even after correction; the more so if a cue in the pictures
pulls each prompt towards the label that it has most of. How far, for a stated spread of d, is computed here. It is a sensitivity
analysis: the spread is assumed, or taken from how much error differs between the groups of a calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray
from allfour.pipeline.statistics.confusion import Confusion, as_decisions, decision_scores

DEFAULT_SPREAD = 0.6
"""Standard deviation of the pull, on the logit, where nothing is known of it: the error of 10% is then 5% to 18% in two prompts of three."""
PRIOR_SPREAD = 0.7
"""Standard deviation of the half-normal that the spread between a calibration's groups has before anything is seen; its median is 0.47."""
_MOST_SPREAD = 2.5
_GRID = 61
_STEPS = 200
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


@dataclass(frozen=True)
class SpreadEffect:
    """Corrected unanimity if error rates differ by prompt with a given spread."""

    spread: float
    value: float
    """With pulls that have nothing to do with the shares."""
    least: float
    most: float
    """The range over such pulls, none, and pulls that all go with, or against, the label that a prompt has most of."""


def spread_effects(
    decisions: npt.ArrayLike, *, confusion: Confusion, value: float, spreads: tuple[float, ...], set_size: int = 4
) -> list[SpreadEffect]:
    """Return what a corrected unanimity becomes for each spread of error between prompts; for two labels.

    Parameters
    ----------
    decisions, confusion, spreads, set_size
        See `spread_biases`.
    value
        The estimate of `corrected_unanimity`.

    Returns
    -------
    One per spread; nothing for more than two labels.
    """
    lowest = 0.5 ** (set_size - 1)
    found = []
    biases = spread_biases(decisions, confusion=confusion, spreads=spreads, set_size=set_size)
    for spread, apart in zip(spreads, biases, strict=False):
        at = [min(max(value - bias, lowest), 1.0) for bias in (0.0, *apart.tolist())]
        found.append(SpreadEffect(spread, at[1], min(at), max(at)))
    return found


def spread_biases(
    decisions: npt.ArrayLike, *, confusion: Confusion, spreads: Sequence[float], set_size: int = 4
) -> FloatArray:
    """Return what a corrected unanimity is expected to be off by for each spread of error between prompts.

    The expectation of the estimate, less the truth, is over the distribution of shares that fits the decisions best when pulled (found by
    EM on a grid: Laird, N. (1978). JASA 73, 805-811).

    Parameters
    ----------
    decisions, confusion, set_size
        See `corrected_unanimity`.
    spreads
        Standard deviations of the pull, on the logit, 0 or more.

    Returns
    -------
    Shape (spreads, 3): with pulls that have nothing to do with the shares, that go with the label that a prompt has most of, and against
    it. No row for more than two labels, or without a prompt that has a set.
    """
    table = as_decisions(decisions, confusion)
    table = table[table.sum(axis=1) >= set_size]
    if confusion.labels != 2 or not len(table):
        return np.empty((0, 3))
    scores = decision_scores(confusion.rates, weights=1 / np.maximum(table.sum(axis=0) / table.sum(), 0.05))
    share = np.linspace(0, 1, _GRID)
    truth = share**set_size + (1 - share) ** set_size
    lead = np.sign(share - 0.5)

    def expected(pull: FloatArray) -> FloatArray:
        """Of the estimate, per share of the grid, for pulls of shape (grid, pulls)."""
        mixed = _mixed(confusion.rates, share, pull)
        result: FloatArray = ((mixed @ scores.T) ** set_size).sum(axis=-1)
        return result

    def bias(pull: FloatArray, weight: FloatArray) -> float:
        """Over the shares that fit the decisions if errors are pulled so: other pulls would make other shares of the same decisions."""
        prior = _fitted(table, _mixed(confusion.rates, share, pull), weight)
        return float(prior @ (expected(pull) @ weight - truth))

    normal, sure = _WEIGHTS / _WEIGHTS.sum(), np.ones(1)
    found = []
    for spread in spreads:
        apart = [bias(np.broadcast_to(spread * _NODES, (_GRID, len(_NODES))), normal)]
        apart += [bias((sign * spread * lead)[:, np.newaxis], sure) for sign in (1, -1)]
        found.append(apart)
    return np.array(found)


def group_spread(
    errors: npt.ArrayLike, images: npt.ArrayLike, *, draws: int = 4000, seed: int = 0
) -> FloatArray | None:
    """Return draws of the standard deviation between groups of the logit of an error rate.

    Errors of a group are binomial, with a rate whose logit is normal; the mean has a flat prior and the standard deviation a half-normal one
    with `PRIOR_SPREAD`. Few groups leave it nearly as open as it was, many that are alike make it small.

    Parameters
    ----------
    errors, images
        Wrong decisions and decided images of each group, shape (groups,); groups without an image are left out.
    draws, seed
        Of the posterior.

    Returns
    -------
    Standard deviations on the logit, shape (draws,); None with fewer than two groups.

    References
    ----------
    Chu, H., Cole, S. R. (2006). Bivariate meta-analysis of sensitivity and specificity with sparse data: a generalized linear mixed model
    approach. J. Clin. Epidemiol. 59, 1331-1332. The prior: Gelman, A. (2006). Bayesian Analysis 1, 515-534.
    """
    wrong, total = np.asarray(errors, dtype=np.float64), np.asarray(images, dtype=np.float64)
    wrong, total = wrong[total > 0], total[total > 0]
    if len(wrong) < 2:
        return None
    pooled = (wrong.sum() + 0.5) / (total.sum() + 1)
    spreads, around = np.linspace(0, _MOST_SPREAD, 51), np.linspace(-2, 2, 41)
    centre = np.log(pooled / (1 - pooled)) + around
    logit = centre[:, np.newaxis, np.newaxis] + spreads[:, np.newaxis] * _NODES
    right, false = -np.logaddexp(0, logit), -np.logaddexp(0, -logit)
    likely = np.zeros(logit.shape[:2])
    for events, trials in zip(wrong, total, strict=True):
        logs = events * false + (trials - events) * right
        most = logs.max()
        likely += np.log(np.maximum(np.exp(logs - most) @ (_WEIGHTS / _WEIGHTS.sum()), 1e-300)) + most
    mass = np.exp(likely - likely.max()).sum(axis=0) * np.exp(-0.5 * (spreads / PRIOR_SPREAD) ** 2)
    drawn: FloatArray = np.random.default_rng(seed).choice(spreads, size=draws, p=mass / mass.sum())
    return drawn


def _mixed(rates: FloatArray, share: FloatArray, pull: FloatArray) -> FloatArray:
    """Return decision rates of prompts with each share and pull, shape (shares, pulls, decisions)."""
    tilt = np.ones((*pull.shape, rates.shape[1]))
    tilt[..., 0] = np.exp(pull)
    pulled = rates * tilt[..., np.newaxis, :]
    pulled /= pulled.sum(axis=-1, keepdims=True)
    at = share[:, np.newaxis, np.newaxis]
    mixed: FloatArray = at * pulled[..., 0, :] + (1 - at) * pulled[..., 1, :]
    return mixed


def _fitted(table: npt.NDArray[np.int64], mixed: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the distribution over the grid of shares under which the decisions are likeliest, pulls averaged out."""
    rows, times = np.unique(table, axis=0, return_counts=True)
    logs = np.einsum("rd,gnd->rgn", rows, np.log(np.maximum(mixed, 1e-12)))
    likely = np.exp(logs - logs.max(axis=(1, 2), keepdims=True)) @ weight
    prior = np.full(mixed.shape[0], 1 / mixed.shape[0])
    for _ in range(_STEPS):
        posterior = likely * prior
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior = times @ posterior / times.sum()
    fitted: FloatArray = prior
    return fitted
