"""What a line that may lie between two pictures looks like from close by: whether the picture breaks off there, or goes on.

The places along a line are taken in windows. In a window the picture breaks where the step across the line is larger than across every
line beside it; it goes on where there is detail, and the step is like those beside it. Plain ground says neither. Places for themselves
are counted too: sharper where pictures are large and clean, and blind where compression has blurred the seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEAR, FAR = 2, 8
"""Distances of the lines that a seam is held against; those next to it are blurred by compression."""
BESIDE = FAR + 1
"""Lines on either side of a seam that are looked at."""
_PLACES, _WINDOWS = 256, 24
"""Places along a line that are looked at, about, and windows that they are taken in."""
_STEP = 9
"""Levels, over three channels, by which a seam must be steeper than every line beside it, to count at a place."""
_STEEPER, _ABOVE = 1.25, 2.0
"""Factor and levels a channel by which the mean step of a window must be above those of every line beside it."""
_DETAIL = 6.0
"""Levels of variation along the line, or across the lines beside it, that a window must have to be no plain ground."""
_LIKE, _OFF = 1.6, 1.0
"""Factor and levels by which the step of a window in which the picture goes on may be above the usual one beside it."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Shares of the windows along a line, 0 to 1."""

    broken: float
    """In which the picture breaks off."""
    whole: float
    """In which the picture goes on across the line."""

    @property
    def balance(self) -> float:
        """Evidence for a seam less evidence against one, -1 to 1."""
        return self.broken - self.whole


class SeamLine:
    """One line that may lie between two pictures.

    Parameters
    ----------
    strip
        [2 * BESIDE, places, 3] lines of a picture, of which the middle two meet at the line.
    """

    def __init__(self, strip: NDArray[np.int16] | NDArray[np.uint8]) -> None:
        some = strip[:, :: max(1, strip.shape[1] // _PLACES)]
        # [channel, line, place]: places lie side by side, along which numpy is quick
        self._planes = np.ascontiguousarray(some.transpose(2, 0, 1), dtype=np.int16)
        steps = self._planes[:, 1:] - self._planes[:, :-1]
        np.abs(steps, out=steps)
        self._summed = steps[0]  # [2 * FAR + 1, places], the line's own at FAR
        self._summed += steps[1]
        self._summed += steps[2]
        most = np.maximum(self._summed[: FAR - NEAR + 1].max(axis=0), self._summed[FAR + NEAR :].max(axis=0))
        self.steps = int(np.count_nonzero(self._summed[FAR] > most + _STEP)) / len(most)
        """Share of the places at which it is a step that none of the lines beside it has, 0 to 1."""

    @cached_property
    def windows(self) -> Windows:
        """What is seen where places are taken together."""
        places = self._summed.shape[1]
        count = max(1, min(_WINDOWS, places // 2))
        size = places // count
        used = count * size

        def means(values: NDArray[np.int16]) -> NDArray[np.floating]:
            """[line, place] -> [line, window], a channel."""
            shaped = values[:, :used].reshape(len(values), count, -1)
            return np.asarray(np.add.reduce(shaped, axis=2, dtype=np.float32)) / np.float32(3 * size)

        summed = means(self._summed)
        own, near = summed[FAR], np.sort(np.concatenate((summed[: FAR - NEAR + 1], summed[FAR + NEAR :])), axis=0)
        usual = near[len(near) // 2]
        broken = own > _STEEPER * near[-1] + _ABOVE
        lines = self._planes[:, FAR : FAR + 2, :used].astype(np.float32).reshape(3, 2, count, size)
        squares = (lines * lines).sum(axis=3) / size - (lines.sum(axis=3) / size) ** 2
        along = np.sqrt(squares.clip(0)).mean(axis=0).max(axis=0)
        whole = ~broken & (np.maximum(along, usual) > _DETAIL) & (own <= _LIKE * usual + _OFF)
        return Windows(float(broken.mean()), float(whole.mean()))
