"""Do a calibration's error rates fit a run? This much can be told without a single true label.

Given the true label, an image falls into a cell (what was decided, and how surely) with rates that the calibration knows. Over the
run's images the cells are then a mixture of its rows, whatever the shares are. K rows leave cells - K directions in which no mixture
can move: contrasts whose expectation is 0 in every prompt. Whether their means over prompts are near 0 is the test. It needs no
model of how shares differ between prompts, and errors that vary between prompts only widen its variance, since prompts are its units.
It sees no change of rates along the rows: a calibration that passes is not shown to be right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, as_counts


@dataclass(frozen=True)
class CalibrationFit:
    """A test of goodness of fit."""

    p_value: float
    """Probability of so large a distance from every mixture of the calibration's rows, if the rates hold."""
    statistic: float
    """Hotelling's T squared."""
    contrasts: int
    """Directions that were looked at: cells less labels."""
    prompts: int
    images: int


def calibration_fit(run: npt.ArrayLike, calibration: npt.ArrayLike) -> CalibrationFit | None:
    """Test whether the cells of a run can be a mixture of the calibration's rows.

    T^2 = s' (S + V)^-1 s with s the mean over prompts of the contrasts' values, S its covariance between prompts, and V what the
    calibration's own size adds; against F with as many degrees of freedom as contrasts, and prompts less contrasts.

    Parameters
    ----------
    run
        Images per prompt and cell, shape (prompts, cells).
    calibration
        Images per true label and cell, shape (labels, cells), every label with one image or more.

    Returns
    -------
    None where nothing can be tested: no more cells than labels, or hardly more prompts than contrasts.

    Raises
    ------
    ValueError
        If the tables do not have the same cells.

    References
    ----------
    Hotelling, H. (1931). The generalization of Student's ratio. Ann. Math. Stat. 2, 360-378. Mixtures of known rows as what label shift
    leaves possible: Lipton, Z. C., Wang, Y.-X., Smola, A. (2018). Detecting and correcting for label shift with black box predictors.
    ICML, PMLR 80, 3122-3130.
    """
    from scipy import linalg, stats

    table, known = as_counts(run, name="run"), as_counts(calibration, name="calibration")
    if table.shape[1] != known.shape[1]:
        raise ValueError(f"run has {table.shape[1]} cells and calibration {known.shape[1]}; both need the same ones")
    seen = (table.sum(axis=0) + known.sum(axis=0)) > 0
    rows = table.sum(axis=1) > 0
    table, known = table[rows][:, seen], known[:, seen]
    labels, cells = known.shape
    contrasts, prompts = cells - labels, len(table)
    if contrasts < 1 or prompts < contrasts + 4:
        return None
    size = known.sum(axis=1).astype(np.float64)
    rates: FloatArray = (known + 0.5 / cells) / (size + 0.5)[:, np.newaxis]
    basis: FloatArray = linalg.null_space(rates)
    basis = basis[:, :contrasts]
    images = table.sum(axis=1)
    frequency = table / images[:, np.newaxis]
    values = frequency @ basis
    mean = values.mean(axis=0)
    between = np.atleast_2d(np.cov(values, rowvar=False)) / prompts
    shares = _mixture(rates, frequency.mean(axis=0))
    within = np.einsum("k,kc,ca,cb->ab", shares**2 / size, rates, basis, basis)
    covariance = between + within
    statistic = float(mean @ np.linalg.solve(covariance, mean))
    f = statistic * (prompts - contrasts) / (contrasts * (prompts - 1))
    p = float(stats.f.sf(f, contrasts, prompts - contrasts))
    return CalibrationFit(p, statistic, contrasts, prompts, int(images.sum()))


def _mixture(rates: FloatArray, frequency: FloatArray) -> FloatArray:
    """Return the shares whose mixture of the rows comes nearest the frequencies, weighted least squares, within 0 and 1."""
    weighted = rates / np.maximum(frequency, 0.01)
    shares: FloatArray = np.clip(np.linalg.lstsq(weighted @ rates.T, weighted @ frequency, rcond=None)[0], 0.0, 1.0)
    total = float(shares.sum())
    return shares / total if total > 0 else np.full(len(rates), 1 / len(rates))
