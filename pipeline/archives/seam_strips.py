"""Whether a strip that hardly anything crosses at its quarters is four pictures, or one wide one: by what the quarters show.

Pictures of one prompt are laid out alike, and show most in their middles. A part of a wide photograph is like the next one by chance, and
what it shows lies anywhere. How much each of that says was fitted (logistic regression) to 109 strips of four pictures without gutters and
361 pieces of that shape cut at random from single pictures, all of which show no seam: at the threshold 98% of those and 9% of these pass.
`scripts/validate_grids.py` measures it on others.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PARTS, _SIDE, _SMALL = 4, 64, 32
_NEAR = 3
"""Columns on either side of a line that are near it, of _SIDE."""
_SMOOTHED = 5
_LEVEL = 0.5
"""Levels below which differences say nothing."""
_WEIGHTS = {
    "most_near": -1.66, "near": 5.56, "alike": 1.94, "least_alike": 2.99, "middles": 4.8, "least_middle": 1.68, "outer": 1.71, "rank": 3.78,
}  # fmt: skip
_CONSTANT = -7.67
_THRESHOLD = -0.5


def shows_four(image: Image.Image) -> bool:
    """Whether the quarters of a strip show four pictures.

    Parameters
    ----------
    image
        Mode RGB, about four times as wide as high, or as high as wide.
    """
    found = _evidence(image)
    return sum(_WEIGHTS[name] * value for name, value in found.items()) + _CONSTANT >= _THRESHOLD


def _evidence(image: Image.Image) -> dict[str, float]:
    detail = _detail(image)  # [part, column]
    mean = float(detail.mean()) + _LEVEL
    near = [np.concatenate((left[-_NEAR:], right[:_NEAR])).mean() / mean for left, right in pairwise(detail)]
    rims = np.concatenate((detail[:, :_NEAR], detail[:, -_NEAR:]), axis=1).mean(axis=1) + _LEVEL
    middles = detail[:, _SIDE // 4 : -_SIDE // 4].mean(axis=1) / rims
    alike = _alike(image)
    return {
        "most_near": float(max(near)),
        "near": float(np.mean(near)),
        "alike": float(np.mean(alike)),
        "least_alike": float(min(alike)),
        "middles": float(np.log(middles.mean())),
        "least_middle": float(np.log(middles.min())),
        "outer": float((detail[0, :_NEAR].mean() + detail[-1, -_NEAR:].mean()) / 2 / mean),
        "rank": _rank(detail.ravel()),
    }


def _detail(image: Image.Image) -> NDArray[np.floating]:
    """How much the picture changes in every column, by part [part, column]; a standing strip is laid down."""
    wide = image.width > image.height
    length = _PARTS * _SIDE
    small = image.convert("L").resize((length, _SIDE) if wide else (_SIDE, length), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32)
    pixels = pixels if wide else pixels.T
    across = np.abs(np.diff(pixels, axis=1)).mean(axis=0)
    along = np.abs(np.diff(pixels, axis=0)).mean(axis=0)
    return np.asarray(np.append(across, across[-1]) + along).reshape(_PARTS, _SIDE)


def _rank(detail: NDArray[np.floating]) -> float:
    """Share of places at which three lines a part's width apart would lie where less changes than at the quarters."""
    smooth = np.convolve(detail, np.full(_SMOOTHED, 1 / _SMOOTHED), "same")
    sums = np.array([
        sum(smooth[_SIDE * part + off] for part in range(1, _PARTS)) for off in range(-_SIDE // 2, _SIDE // 2)
    ])  # fmt: skip
    return float((sums < sums[_SIDE // 2] - 1e-9).mean())


def _alike(image: Image.Image) -> list[float]:
    """Correlation of the colours of every two parts, place by place."""
    wide = image.width > image.height
    length = _PARTS * _SMALL
    small = image.resize((length, _SMALL) if wide else (_SMALL, length), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32)
    pixels = pixels if wide else pixels.swapaxes(0, 1)
    parts = pixels.reshape(_SMALL, _PARTS, _SMALL, 3).swapaxes(0, 1)
    parts = parts - parts.mean(axis=(1, 2), keepdims=True)
    parts = parts / (np.sqrt((parts**2).sum(axis=(1, 2, 3), keepdims=True)) + 1e-6)
    return [float((parts[one] * parts[other]).sum()) for one in range(_PARTS) for other in range(one)]
