"""The pixels of a picture as an array, without a copy, and places along its sides."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.int16]


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """[height, width, channels] of an RGB picture, without a copy where it lies in one piece of memory."""
    try:
        found = pa.array(image)
    except (ValueError, TypeError, AttributeError, pa.ArrowException):  # in several pieces, as large ones are
        return np.asarray(image)
    return np.asarray(found.values.to_numpy()).reshape(image.height, image.width, -1)


@functools.lru_cache(maxsize=256)
def nearest(length: int, count: int) -> NDArray[np.intp]:
    """So many places along a line, as Pillow's nearest neighbour takes them: in the middle of equal parts."""
    step = length / count
    middles = np.full(count, step)
    middles[0] = step * 0.5
    return np.add.accumulate(middles).astype(np.intp)


class PictureLines:
    """Lines of one picture, along either axis."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image

    @functools.cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        """[height, width, 3 or 4] of the picture, of which the first three channels count."""
        return pixels_of(self.image)

    def few(self, axis: int, start: int, stop: int, *, places: int) -> NDArray[np.uint8]:
        """As `lines`, at a few places along them."""
        at = nearest(self.image.size[axis], places)
        if axis == 0:
            return self._pixels[start:stop].take(at, axis=1)[..., :3]
        return self._pixels[at, start:stop][..., :3].swapaxes(0, 1)

    def strip(self, axis: int, start: int, stop: int) -> Pixels:
        """Lines of the picture [line, place, channel]."""
        if axis == 0:
            return self._pixels[start:stop].astype(np.int16)[..., :3]
        return self._pixels[:, start:stop].astype(np.int16)[..., :3].swapaxes(0, 1)

    def lines(self, axis: int, start: int, stop: int) -> NDArray[np.uint8]:
        """As `strip`, as the picture has them."""
        if axis == 0:
            return self._pixels[start:stop, :, :3]
        # a copy lies together: it is gone through line by line
        return self._pixels[:, start:stop].copy()[..., :3].swapaxes(0, 1)
