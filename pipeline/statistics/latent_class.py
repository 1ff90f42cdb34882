"""Each reader's errors without labels: the latent classes of Dawid and Skene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, check_confidence
from allfour.pipeline.statistics.intervals import Interval, wilson_limit

FEWEST_READERS = 3
"""With two, other errors and other shares explain the same decisions: nothing is known of either without labels."""
FEWEST_PROMPTS = 5
"""Below, resampling prompts tells little of how they differ."""
_PRIOR = 0.01
"""Images of each decision that every reader is taken to have made besides, so that what was not seen is not impossible."""
_STEPS, _CLOSE = 2000, 1e-8
_SAME = 1e-3
"""Solutions whose log likelihoods are nearer are as good as each other."""
_APART = 0.05
"""Solutions of which some rate differs by more are not the same."""
METHOD = "latent class, bootstrap over prompts"


@dataclass(frozen=True, eq=False)
class LatentClasses:
    """What readers' decisions say of their errors if, given what an image shows, they err independently."""

    shares: tuple[Interval, ...]
    """Of images that show each label."""
    rates: tuple[tuple[tuple[Interval, ...], ...], ...]
    """[readers][labels shown][decisions]: how often a reader decides so on images that show a label."""
    errors: tuple[Interval, ...]
    """Per reader: share of the images to which it gives a label that get a wrong one."""
    expected_agreement: FloatArray
    """[readers, readers] share of images on which two that both give a label give the same, as independent errors would have it."""
    log_likelihood: float
    starts: int
    reached: int
    """Starts that came to the best solution."""
    settled: bool
    """False where another solution, with other rates, fits as well."""


@dataclass(frozen=True, eq=False)
class _Fit:
    shares: FloatArray
    """[labels]"""
    rates: FloatArray
    """[readers, labels, decisions]"""
    log_likelihood: float


def latent_classes(
    patterns: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    labels: int,
    confidence: float = 0.95,
    starts: int = 10,
    draws: int = 200,
    seed: int = 0,
) -> LatentClasses:
    """Estimate the errors of three or more readers, and the shares of the labels, from their decisions alone.

    Parameters
    ----------
    patterns
        Distinct decisions of all readers on an image, shape (patterns, readers): a label's position, or `labels` for none.
    counts
        Images of each pattern, shape (prompts, patterns).
    labels
        Number of labels.
    starts
        Of the EM algorithm: the votes of most, and those disturbed at random.
    draws
        Of the bootstrap over prompts.

    Raises
    ------
    ValueError
        There are fewer than three readers, two labels, or no image.

    Notes
    -----
    An image shows one of the labels, and given which, each reader decides by itself with rates of its own. Under that, and where each
    reader is right more often than not by chance and every label occurs, the decisions of three readers determine their rates and
    the shares up to the order of the labels (Kruskal 1977; Allman, Matias and Rhodes 2009), which is settled by taking the readers to
    be right as often as they can be. Two readers do not: other rates and shares give the same table. What readers get wrong together
    is taken for what images show, and their errors come out too low.

    Limits are percentiles over resampled prompts, and reach at least as far as Wilson's for the images that are taken to show the
    label: resampling alone would hold an error that was not seen for impossible.

    References
    ----------
    Dawid, A. P. and Skene, A. M. (1979). Maximum likelihood estimation of observer error-rates using the EM algorithm. Applied
    Statistics 28, 20-28.
    """
    check_confidence(confidence)
    seen, table = np.asarray(patterns, dtype=np.int64), np.asarray(counts, dtype=np.float64)
    if seen.ndim != 2 or seen.shape[1] < FEWEST_READERS or labels < 2:
        raise ValueError(f"three readers and two labels are needed, got decisions of shape {seen.shape} and {labels}")
    weights = table.sum(axis=0)
    if not weights.sum():
        raise ValueError("there is no image")
    onehot = _onehot(seen, labels)
    random = np.random.default_rng(seed)
    votes = _votes(onehot, labels)
    fits = [_fit(onehot, weights, start) for start in _starts(votes, starts, random)]
    best = max(fits, key=lambda fit: fit.log_likelihood)
    reached = [fit for fit in fits if best.log_likelihood - fit.log_likelihood < _SAME]
    settled = all(np.abs(fit.rates - best.rates).max() < _APART for fit in reached)
    begin = _posterior(onehot, best)
    drawn = [_resampled(onehot, table, begin, random) for _ in range(draws if len(table) > 1 else 0)]
    return _estimates(best, drawn, onehot, weights, confidence, starts=(len(fits), len(reached)), settled=settled)


def _onehot(patterns: IntArray, labels: int) -> FloatArray:
    """[readers, patterns, decisions]"""
    result: FloatArray = np.eye(labels + 1)[patterns.T]
    return result


def _votes(onehot: FloatArray, labels: int) -> FloatArray:
    """[patterns, labels] the share of votes for each label; equal parts where nobody gave one."""
    votes = onehot[:, :, :labels].sum(axis=0)
    most = (votes == votes.max(axis=1, keepdims=True)).astype(np.float64)
    result: FloatArray = most / most.sum(axis=1, keepdims=True)
    return result


def _starts(votes: FloatArray, starts: int, random: np.random.Generator) -> list[FloatArray]:
    disturbed = [
        0.3 * votes + 0.7 * random.dirichlet(np.ones(votes.shape[1]), size=len(votes)) for _ in range(starts - 1)
    ]
    return [0.98 * votes + 0.02 / votes.shape[1], *disturbed]


def _fit(onehot: FloatArray, weights: FloatArray, posterior: FloatArray) -> _Fit:
    """EM from a posterior [patterns, labels]; labels in the order in which readers are right most."""
    from scipy.optimize import linear_sum_assignment

    before = -np.inf
    fit = _maximised(onehot, weights, posterior)
    for _ in range(_STEPS):
        posterior, likelihood = _expected(onehot, weights, fit)
        if likelihood - before < _CLOSE * max(1.0, abs(likelihood)):
            break
        before, fit = likelihood, _maximised(onehot, weights, posterior)
    right = fit.rates[:, :, :-1].sum(axis=0)
    _, order = linear_sum_assignment(-right.T)  # label -> class that it is
    return _Fit(fit.shares[order], fit.rates[:, order], before if np.isfinite(before) else likelihood)


def _maximised(onehot: FloatArray, weights: FloatArray, posterior: FloatArray) -> _Fit:
    belongs = posterior * weights[:, None]
    shares = belongs.sum(axis=0) + _PRIOR
    rates = np.einsum("pk,rpd->rkd", belongs, onehot) + _PRIOR
    return _Fit(shares / shares.sum(), rates / rates.sum(axis=2, keepdims=True), -np.inf)


def _joint(onehot: FloatArray, fit: _Fit) -> FloatArray:
    """[patterns, labels] log probability of a pattern together with each label."""
    result: FloatArray = np.log(fit.shares)[None, :] + np.einsum("rpd,rkd->pk", onehot, np.log(fit.rates))
    return result


def _expected(onehot: FloatArray, weights: FloatArray, fit: _Fit) -> tuple[FloatArray, float]:
    joint = _joint(onehot, fit)
    most = joint.max(axis=1, keepdims=True)
    total = most[:, 0] + np.log(np.exp(joint - most).sum(axis=1))
    return np.exp(joint - total[:, None]), float(weights @ total)


def _posterior(onehot: FloatArray, fit: _Fit) -> FloatArray:
    return _expected(onehot, np.zeros(onehot.shape[1]), fit)[0]


def _resampled(onehot: FloatArray, table: FloatArray, begin: FloatArray, random: np.random.Generator) -> _Fit:
    chosen = random.integers(0, len(table), size=len(table))
    return _fit(onehot, table[chosen].sum(axis=0), begin)


def _wrong(fit: _Fit) -> FloatArray:
    """[readers] share of the labels given that are wrong."""
    given = np.einsum("k,rkd->rkd", fit.shares, fit.rates[:, :, :-1])
    right = np.einsum("rkk->r", given)
    result: FloatArray = 1 - right / given.sum(axis=(1, 2))
    return result


def _agreement(fit: _Fit) -> FloatArray:
    labelled = fit.rates[:, :, :-1]
    same = np.einsum("k,rkd,skd->rs", fit.shares, labelled, labelled)
    both = np.einsum("k,rk,sk->rs", fit.shares, labelled.sum(axis=2), labelled.sum(axis=2))
    result: FloatArray = same / both
    return result


def _estimates(
    best: _Fit,
    drawn: list[_Fit],
    onehot: FloatArray,
    weights: FloatArray,
    confidence: float,
    *,
    starts: tuple[int, int],
    settled: bool,
) -> LatentClasses:
    images = float(weights.sum())

    def limits(value: float, others: list[float], size: float) -> Interval:
        tail = (1 - confidence) / 2
        low, high = np.quantile(others, [tail, 1 - tail]).tolist() if others else (0.0, 1.0)
        from scipy import special

        z = float(special.ndtri(1 - tail))
        if others:
            low = min(low, value, float(wilson_limit(value, max(size, 1.0), -z)))
            high = max(high, value, float(wilson_limit(value, max(size, 1.0), z)))
        return Interval(value, max(0.0, low), min(1.0, high), METHOD)

    readers, labels, decisions = best.rates.shape
    wrong, labelled = _wrong(best), (onehot[:, :, :-1].sum(axis=2) * weights).sum(axis=1)
    wrongs = [_wrong(fit) for fit in drawn]
    return LatentClasses(
        shares=tuple(
            limits(float(best.shares[k]), [float(fit.shares[k]) for fit in drawn], images) for k in range(labels)
        ),
        rates=tuple(
            tuple(
                tuple(
                    limits(
                        float(best.rates[r, k, d]),
                        [float(fit.rates[r, k, d]) for fit in drawn],
                        images * float(best.shares[k]),
                    )
                    for d in range(decisions)
                )
                for k in range(labels)
            )
            for r in range(readers)
        ),
        errors=tuple(
            limits(float(wrong[r]), [float(each[r]) for each in wrongs], float(labelled[r])) for r in range(readers)
        ),
        expected_agreement=_agreement(best),
        log_likelihood=best.log_likelihood,
        starts=starts[0],
        reached=starts[1],
        settled=settled,
    )
