"""The pixels of a picture as an array, without a copy, and places along its sides."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image


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
