"""Limits of a mean difference between two runs, for few prompts of which some kind may not have been drawn.

Student's limits come from the spread of the differences that were seen. Where most prompts did not change and a few did, that spread
says nothing of the few as long as none of them was drawn. A difference of two shares lies between -1 and 1, so the limits are those of
`bounded_mean` on that range.
"""

from __future__ import annotations

import numpy as np

from allfour.pipeline.statistics.arrays import FloatArray
from allfour.pipeline.statistics.bounded_mean import bounded_mean, chance_below


def bounded_difference(difference: FloatArray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return limits of the mean of differences between -1 and 1, whatever kinds of prompts were not drawn.

    For either limit half a prompt counts as drawn that changed as much as a prompt can, and half a prompt that changed as the one
    furthest from it that was seen; see `bounded_mean`.

    Parameters
    ----------
    difference
        One per prompt, shape (prompts,).
    confidence
        Wanted coverage.

    Examples
    --------
    Ten prompts that did not change may leave out one kind of five that did:

    >>> low, high = bounded_difference(np.zeros(10))
    >>> round(low, 2), round(high, 2)
    (-0.22, 0.22)
    """
    found = bounded_mean(_unit(difference), confidence=confidence)
    return 2 * found.low - 1, 2 * found.high - 1


def difference_beyond(difference: FloatArray, margin: float) -> float:
    """Return the p-value that a mean difference is as large as a margin or larger, either way: two one-sided tests, by these limits."""
    return max(
        chance_below(_unit(difference), (1 - margin) / 2),
        chance_below(_unit(-difference), (1 - margin) / 2),
    )


def difference_from_zero(difference: FloatArray) -> float:
    """Return the two-sided p-value that a mean difference is 0: twice the tail beyond which these limits do not hold 0.

    For differences that are not symmetric where nothing changed, so that signs may not be flipped.
    """
    if not np.any(np.abs(difference) > 1e-9):
        return 1.0
    tails = chance_below(_unit(difference), 0.5), chance_below(_unit(-difference), 0.5)
    return min(1.0, 2 * min(tails))


def drawn_means(
    differences: FloatArray, times: FloatArray, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return a mean under random weights per row, for the lower limit and for the upper one.

    Parameters
    ----------
    differences
        Shape (draws, kinds): what differs between rows is the error rates that are taken out. They may lie beyond -1 and 1.
    times
        Prompts of each kind, shape (kinds,).
    random
        Where the weights come from.
    """
    weights = random.standard_gamma(times, size=differences.shape)
    far, end = random.standard_gamma(0.5, size=(2, len(differences)))
    total = weights.sum(axis=1) + far + end
    seen = (weights * differences).sum(axis=1)
    least, most = differences.min(axis=1), differences.max(axis=1)
    low: FloatArray = (seen + end * np.minimum(least, -1.0) + far * most) / total
    high: FloatArray = (seen + end * np.maximum(most, 1.0) + far * least) / total
    return low, high


def _unit(difference: FloatArray) -> FloatArray:
    """Differences on the range from 0 to 1."""
    scaled: FloatArray = (1 + np.clip(difference, -1.0, 1.0)) / 2
    return scaled
