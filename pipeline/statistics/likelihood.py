"""Shares that are most likely under misclassification: the version of the corrected share that cannot leave 0 to 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, check_confidence
from allfour.pipeline.statistics.confusion import Confusion, as_decisions
from allfour.pipeline.statistics.intervals import Interval


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
