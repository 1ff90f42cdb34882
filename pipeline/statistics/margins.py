"""The abstention margin that keeps the error among labelled images below a wanted rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class MarginChoice:
    """A margin and what a labelled set says of it."""

    margin: float
    labelled: float
    """Share of images that keep a label."""
    images: int
    """Those that do."""
    error: Interval
    """Among these."""


def margin_for_error(
    gaps: npt.ArrayLike, wrong: npt.ArrayLike, *, max_error: float, confidence: float = 0.95
) -> MarginChoice | None:
    """Return the smallest margin at which the error among labelled images is shown to be at most `max_error`.

    Shown: the upper limit of Wilson's interval is at most that, and not its value alone. The margin is the best of many on one set, which is
    optimistic by a little; docs/method.md says by how much.

    Parameters
    ----------
    gaps
        Most probable label's probability less the second's, shape (images,).
    wrong
        Whether the most probable label is not the true one.

    Returns
    -------
    None where no margin does it: too many errors among the surest images, or too few images.
    """
    gap, error = np.asarray(gaps, dtype=np.float32), np.asarray(wrong, dtype=bool)
    order = np.argsort(-gap, kind="stable")
    gap, errors = gap[order], np.cumsum(error[order])
    kept = np.arange(1, len(gap) + 1)
    z = float(special.ndtri((1 + confidence) / 2))
    rate = errors / kept
    upper = (rate + z**2 / (2 * kept) + z * np.sqrt(rate * (1 - rate) / kept + (z / (2 * kept)) ** 2)) / (
        1 + z**2 / kept
    )
    whole = np.append(np.diff(gap) != 0, True)  # images with one gap are kept or left together
    good = np.flatnonzero((upper <= max_error) & whole & (gap > 0))
    if not len(good):
        return None
    last = int(good[-1])
    margin = 0.0 if last == len(gap) - 1 else float(np.nextafter(gap[last], np.float32(0)))
    found = wilson(int(errors[last]), last + 1, confidence=confidence)
    return MarginChoice(margin, (last + 1) / len(gap), last + 1, found)
