"""How far two classifiers agree over the same images, with the prompt as the unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import as_counts, check_confidence
from allfour.pipeline.statistics.intervals import Interval, effective_size, wilson_limit
from allfour.pipeline.statistics.ppi import Agreement


def clustered_agreement(tables: npt.ArrayLike, *, confidence: float = 0.95) -> Agreement:
    """Return the share of images with equal labels, and Cohen's kappa, for prompts like these.

    Parameters
    ----------
    tables
        Images by one side's label and the other's, shape (prompts, labels, labels).
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        The shape is another.

    Notes
    -----
    Images of one prompt are read alike, so the share's interval is Wilson's with the effective number of images
    (`effective_size`), from the variance of a ratio over prompts. Kappa's limits are those of the share, carried through
    (share - chance) / (1 - chance) at the observed chance: Cohen's own standard error, with Wilson's limits in place of
    Wald's, so that full agreement is no certainty. Kappa is not defined where one side always said the same.

    References
    ----------
    Cohen, J. (1960). A coefficient of agreement for nominal scales. Educ. Psychol. Meas. 20, 37-46. On the ratio:
    Cochran, W. G. (1977). Sampling Techniques, section 6.3.
    """
    check_confidence(confidence)
    counts = np.asarray(tables, dtype=np.int64)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2]:
        raise ValueError(f"tables must have the shape (prompts, labels, labels), got {counts.shape}")
    table = as_counts(counts.sum(axis=0), name="tables")
    images = counts.sum(axis=(1, 2))
    same = np.trace(counts, axis1=1, axis2=2)[images > 0]
    images = images[images > 0]
    total, prompts = int(images.sum()), len(images)
    method = "wilson-clustered"
    nothing = Interval(None, -1.0, 1.0, method)
    if not total:
        return Agreement(Interval(None, 0.0, 1.0, method), nothing)
    share = float(same.sum() / total)
    residual = same - share * images
    variance = float((residual**2).sum()) / total**2 * prompts / max(prompts - 1, 1)
    size = effective_size(
        share, variance * prompts, prompts=prompts, independent=total, most=total, confidence=confidence
    )
    z = float(special.ndtri((1 + confidence) / 2))
    low = 0.0 if share == 0 else float(wilson_limit(share, size, -z))
    high = 1.0 if share == 1 else float(wilson_limit(share, size, z))
    agreed = Interval(share, low, high, method)
    chance = float((table.sum(axis=0) * table.sum(axis=1)).sum() / total**2)
    if min(int((table.sum(axis=axis) > 0).sum()) for axis in (0, 1)) < 2:
        return Agreement(agreed, nothing)
    kappa = [(value - chance) / (1 - chance) for value in (share, low, high)]
    return Agreement(agreed, Interval(kappa[0], max(kappa[1], -1.0), kappa[2], method))
