"""A calibration of several groups, weighted to the mix of groups that a run shows.

Where error rates differ by group, those over all images of a calibration are those of its own mix. A run of another mix has other rates,
and which ones can be told from its decisions alone where there are more cells (what was decided, and how surely) than groups times
labels: the run's cells are then a mixture of the rows of every label in every group, and what is left over tests whether that is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts
from allfour.pipeline.statistics.calibration_fit import CalibrationFit, calibration_fit
from allfour.pipeline.statistics.confusion import Confusion

FEWEST_LEFT_OVER = 2
"""Directions that no mix of groups can move, below which the mix is not tested and so not used."""
FEWEST_IMAGES = 20
"""Images that the rates of a label must be worth, the mix being an estimate, for them to be used."""
_STEPS, _DRAWS = 400, 200


@dataclass(frozen=True)
class GroupMix:
    """Error rates of a run whose mix of groups was estimated."""

    weights: FloatArray
    """Share of each group among images of each true label, shape (labels, groups)."""
    counts: IntArray
    """Images per true label and cell, shape (labels, cells): the run's rates, times the number of images that they are worth."""
    fit: CalibrationFit
    """Whether the run's cells are such a mixture."""
    own: float
    """p-value that the mix is that of the calibration's images; at most as good as `fit`, which has to hold for it to mean that."""
    draws: FloatArray
    """Rates as they may be, shape (draws, labels, cells): where the mix is another, those of all labels move together."""

    def confusion(self) -> Confusion:
        """Return the rates of decisions, however surely they were taken: cells are every label in each band of leads, and one for none."""
        labels = len(self.counts)

        def merged(cells: FloatArray | IntArray) -> FloatArray | IntArray:
            bands = cells[..., :-1].reshape(*cells.shape[:-1], -1, labels).sum(axis=-2)
            return np.concatenate([bands, cells[..., -1:]], axis=-1)

        return Confusion(merged(self.counts).astype(np.int64), merged(self.draws).astype(np.float64))


def group_mix(run: npt.ArrayLike, groups: Sequence[npt.ArrayLike], *, seed: int = 0) -> GroupMix | None:
    """Estimate a run's mix of groups, and the error rates that it has by it.

    The mix of greatest likelihood is found by EM. How much it and the groups' rates are uncertain is measured by 200 draws, in each of
    which prompts are drawn again and every row of rates comes from its Jeffreys posterior; a row of the result has as many images as a
    binomial of the same variance would have.

    Parameters
    ----------
    run
        Images per prompt and cell, shape (prompts, cells).
    groups
        Images of each group per true label and cell, shape (labels, cells) each.
    seed
        Of the draws.

    Returns
    -------
    None where the mix is not identified: fewer than `FEWEST_LEFT_OVER` cells with an image more than groups times labels, or rates of a label that
    are worth fewer than `FEWEST_IMAGES` images.

    References
    ----------
    Mixtures of known components: Dempster, Laird and Rubin (1977), JRSS B 39, 1-38. Label shift within groups that are known by
    their decisions alone: Lipton, Wang and Smola (2018), ICML, PMLR 80, 3122-3130.
    """
    table = as_counts(run, name="run")
    known = np.stack([as_counts(group, name="groups") for group in groups])
    number, labels, cells = known.shape
    table = table[table.sum(axis=1) > 0]
    seen = int(((table.sum(axis=0) + known.sum(axis=(0, 1))) > 0).sum())
    if number < 2 or seen - number * labels < FEWEST_LEFT_OVER:
        return None
    fit, whole = (calibration_fit(table, rows) for rows in (known.reshape(-1, cells), known.sum(axis=0)))
    if fit is None or whole is None:
        return None
    weights, rates = _fitted(table.sum(axis=0), (known + 0.5) / (known + 0.5).sum(axis=-1, keepdims=True))
    random = np.random.default_rng(seed)
    even = np.full(len(table), 1 / len(table))
    again = np.stack([random.multinomial(len(table), even) @ table for _ in range(_DRAWS)])
    gamma = random.standard_gamma(known + 0.5, size=(_DRAWS, *known.shape))
    drawn = _fitted(again, gamma / gamma.sum(axis=-1, keepdims=True))[1]
    variance = drawn.var(axis=0, ddof=1).sum(axis=1)
    worth = (rates * (1 - rates)).sum(axis=1) / np.maximum(variance, 1e-12)
    worth = np.minimum(worth, known.sum(axis=(0, 2)))
    if worth.min() < FEWEST_IMAGES:
        return None
    counts: IntArray = np.round(rates * worth[:, np.newaxis]).astype(np.int64)
    return GroupMix(weights, counts, fit, _own(whole, beside=fit), drawn)


def _own(whole: CalibrationFit, *, beside: CalibrationFit) -> float:
    """Test the directions that a mix of groups can move and the calibration's own cannot, beside those that neither can.

    Rao's test of additional information, of the difference of two T squared; see Rao, C. R. (1973). Linear Statistical Inference and Its
    Applications, section 8c. It looks at fewer directions than the test of the calibration as a whole, and so sees another mix more often.
    """
    from scipy import stats

    moved, left = whole.contrasts - beside.contrasts, whole.prompts - whole.contrasts
    gain = max(whole.statistic - beside.statistic, 0.0) / (whole.prompts - 1 + beside.statistic)
    return float(stats.f.sf(gain * left / moved, moved, left))


def _fitted(total: IntArray, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights of groups within labels, (..., labels, groups), and rates per label, (..., labels, cells), for which counts are likeliest.

    `total` has shape (..., cells) and `rates` (..., groups, labels, cells).
    """
    *_, number, labels, cells = rates.shape
    rows = rates.reshape(*rates.shape[:-3], number * labels, cells)
    part = total / total.sum(axis=-1, keepdims=True)
    shares = np.full(rows.shape[:-1], 1 / (number * labels))
    for _ in range(_STEPS):
        mixture = np.einsum("...r,...rc->...c", shares, rows)
        shares = shares * np.einsum("...rc,...c->...r", rows, part / np.maximum(mixture, 1e-12))
    joint = shares.reshape(*shares.shape[:-1], number, labels) + 1e-9
    weights = joint / joint.sum(axis=-2, keepdims=True)
    return np.swapaxes(weights, -1, -2), np.einsum("...gk,...gkc->...kc", weights, rates)
