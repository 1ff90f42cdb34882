"""Tells from a picture's pixels whether it is a grid of several: by gutters, by seams, and by what repeats.

It looks at a few lines near the places where the pictures of a grid of equal parts would meet:

- a gutter is a band of one colour that crosses the whole picture there, with sharp edges;
- where two pictures touch without one, the line between them is a step that none of the lines beside it has, and hardly anything goes on
  across it. In a single picture edges lie anywhere, and hardly ever along an exact fraction of its side, in both directions at once;
- pictures of one prompt before one backdrop may touch without a step; then what they show repeats, from picture to picture.

A picture is a grid where every place shows one of these. `scripts/validate_grids.py` measures how often that is right.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.pipeline.archives.seam_gutters import Gutters
from allfour.pipeline.archives.seam_lines import BESIDE, SeamLine
from allfour.pipeline.archives.seam_pixels import PictureLines
from allfour.pipeline.archives.seam_places import MIN_TILE, Box, Place, equal_parts, places, reduced
from allfour.pipeline.archives.seam_rules import (
    is_clear_at_a_quarter,
    is_square_of_four,
    is_strip_by_repeats,
    is_strip_by_seams,
    is_strip_uncrossed,
    may_repeat,
)
from allfour.pipeline.archives.seam_strips import shows_four

MAX_PARTS = 4
"""Rows or columns of a grid that is found without being asked for."""
_MIN_FINE_TILE = 40
"""Pixels on a side of more than four that are looked for."""
_TILE_ASPECT = 2.0
"""Longest to shortest side of one picture of a grid."""
_SHOWN = ((0.22, 0.14, 0.42), (0.38, 0.06, 0.30), (0.30, 1.1, 0.36))
"""What shows the lines of a grid of four: how much all of them show together, and each the share of the places along it at which it is a
step of its own, or the correlation of the detail on its two sides. Each way suffices; single photographs come near none."""
_TRACE = 0.05
"""Share of the places along one line at least, before it is looked at more closely."""
_CONTRADICTED = 0.2
"""The least share of a line across which the picture goes on at more windows than it breaks off in."""
_STRONG = 0.5
"""Share of the places along a line of a strip of four, two of which suffice; or one of 0.8 in a strip of a rare shape."""
_RARE = (3.0, 5.6)
"""Long to short side of strips of four squares, portraits or landscapes, which single pictures hardly ever have."""
_ROUGH = 0.2
"""Correlation of roughly the same, below which nothing repeats."""
_CONTENT, _STRIP_CONTENT = 8.0, 16.0
"""Levels that the brightness of each part must vary by, for it to show something: of two rows of two, and of a strip."""
_SEAM_FINE = 0.35
"""Share of the places along each line of a grid of more than four."""
_PATCH, _RIM, _BLUR = 32, 3, 4
"""Pixels of a picture that is compared with the next, those at its rim that are left out, and the radius of what is no detail."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A picture of several pictures."""

    rows: int
    columns: int
    boxes: tuple[Box, ...]
    """Of every picture, row by row."""


def find_grid(image: Image.Image) -> Grid | None:
    """The grid that a picture is, or None for a single picture.

    Parameters
    ----------
    image
        Mode RGB, any size.
    """
    looked = _Looked(image)
    for rows, columns in _layouts(image.size):
        boxes = looked.by_gutters(rows, columns) or looked.by_seams(rows, columns)
        if boxes is not None:
            return Grid(rows, columns, boxes)
    return None


def even_grid(image: Image.Image, rows: int, columns: int) -> Grid:
    """A grid that a picture is known to be: cut at its gutters where it has some, else into equal parts."""
    boxes = _Looked(image).by_gutters(rows, columns)
    return Grid(rows, columns, boxes or equal_parts(image.size, rows, columns))


@functools.lru_cache(maxsize=1024)
def _layouts(size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Rows and columns that a picture of this size may have, the finest first."""
    return tuple(_possible(size))


def _possible(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    width, height = size
    pairs = [(rows, columns) for rows in range(1, MAX_PARTS + 1) for columns in range(1, MAX_PARTS + 1)]
    for rows, columns in sorted(pairs, key=lambda pair: -pair[0] * pair[1]):
        count = rows * columns
        across, down = width / columns, height / rows
        least = MIN_TILE if count == 4 else _MIN_FINE_TILE
        if count >= 4 and min(across, down) >= least and max(across, down) <= _TILE_ASPECT * min(across, down):
            yield rows, columns


class _Looked:
    """One picture, with what was looked at: every line costs once."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._lines = PictureLines(image)
        self._seams: dict[Place, SeamLine] = {}
        self._hints: dict[Place, bool] = {}
        self._gutters = Gutters(self._lines)

    def by_gutters(self, rows: int, columns: int) -> tuple[Box, ...] | None:
        """The pictures between gutters; None where there are none."""
        return self._gutters.boxes(rows, columns, lambda *place: self._seam(*place).steps)

    def by_seams(self, rows: int, columns: int) -> tuple[Box, ...] | None:
        """Equal parts that touch, where seams, and what repeats in grids of up to four, show them; None where they do not."""
        lines, _ = places(rows, columns)
        if rows * columns > 4:
            if not self._may_break(*lines[0]):
                return None  # most pictures
            seen = (self._seam(*line).steps for line in lines)
            shares = list(takewhile(lambda share: share >= _SEAM_FINE, seen))
            shown = len(shares) == len(lines) and sum(shares) >= _SHOWN[0][0] * len(shares)
        else:
            shown = self._shown(rows, columns, lines)
        return equal_parts(self._image.size, rows, columns) if shown else None

    def _shown(self, rows: int, columns: int, lines: Sequence[Place]) -> bool:
        seen = [self._seam(*line) for line in lines]
        shares = [line.steps for line in seen]
        if min(rows, columns) == 1:
            return self._strip_shown(rows, columns, seen)
        if self._breaks_off(seen):
            return self._filled(rows, columns, _CONTENT)
        if sum(shares) < 0.2 * len(lines) and min(self._repeats(rows, columns, rough=True).values()) < _ROUGH:
            return False  # most pictures
        repeats = self._repeats(rows, columns)
        pairs = [(share, repeats[axis, number]) for share, (axis, number, _) in zip(shares, lines, strict=True)]
        strength = sum(share + 0.6 * max(0.0, repeat - 0.2) for share, repeat in pairs) / len(pairs)
        shown = any(
            strength >= least
            and all(
                share >= (seam if line.windows.balance >= 0 else max(seam, _CONTRADICTED)) or repeat >= like
                for (share, repeat), line in zip(pairs, seen, strict=True)
            )
            for least, seam, like in _SHOWN
        )
        return shown and self._filled(rows, columns, _CONTENT)

    def _may_break(self, axis: int, number: int, parts: int) -> bool:
        """Whether a line of a fine grid is a step at some of a few places."""
        number, parts = reduced(number, parts)
        key = (axis, number, parts)
        if parts == 2:
            return self._seam(*key).steps >= _SEAM_FINE  # which is looked at in any case
        if key not in self._hints:
            centre = self._image.size[1 - axis] * number / parts
            lines = {int(centre), int(np.ceil(centre))}
            few = [SeamLine(self._lines.few(axis, line - BESIDE, line + BESIDE, places=64)).steps for line in lines]
            self._hints[key] = max(few) >= _SEAM_FINE / 2
        return self._hints[key]

    def _breaks_off(self, seen: Sequence[SeamLine]) -> bool:
        """Whether the picture breaks off along the lines, and hardly goes on across any of them."""
        if max(line.steps for line in seen) < _TRACE:
            return False  # most pictures
        return is_square_of_four([line.windows for line in seen])

    def _strip_shown(self, rows: int, columns: int, seen: Sequence[SeamLine]) -> bool:
        """Whether a strip is of four pictures, which before plain ground may touch without a trace."""
        strong = sum(line.steps >= _STRONG for line in seen)
        width, height = self._image.size
        rare = _RARE[0] <= max(width, height) / min(width, height) <= _RARE[1]
        if strong >= 2 or (strong == 1 and rare and max(line.steps for line in seen) >= 0.8):
            return True
        if not self._filled(rows, columns, _STRIP_CONTENT):
            return False
        windows = [line.windows for line in seen]
        repeats = list(self._repeats(rows, columns).values())
        if is_strip_by_seams(windows) or is_strip_by_repeats(repeats):
            return True
        if not rare:
            return False
        return is_clear_at_a_quarter(windows) or (
            (is_strip_uncrossed(windows) or may_repeat(repeats)) and shows_four(self._image)
        )

    def _filled(self, rows: int, columns: int, least: float) -> bool:
        """Whether every part shows something: two plain halves are no four pictures."""
        small = self._image.resize((_PATCH * columns, _PATCH * rows), Image.Resampling.NEAREST).convert("L")
        parts = np.asarray(small, dtype=np.float32).reshape(rows, _PATCH, columns, _PATCH)
        return bool(parts.std(axis=(1, 3)).min() >= least)

    def _seam(self, axis: int, number: int, parts: int) -> SeamLine:
        number, parts = reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._seams:
            centre = self._image.size[1 - axis] * number / parts
            seen = [
                SeamLine(self._lines.lines(axis, line - BESIDE, line + BESIDE))
                for line in {int(centre), int(np.ceil(centre))}
            ]
            self._seams[key] = max(seen, key=lambda line: line.steps)
        return self._seams[key]

    def _repeats(self, rows: int, columns: int, *, rough: bool = False) -> dict[tuple[int, int], float]:
        """By axis and number of a line: the mean correlation of the detail of parts on one side with those on the other."""
        patches = self._patches(rows, columns, rough=rough)
        found = {(0, at): float((patches[at - 1] * patches[at]).sum()) / columns for at in range(1, rows)}
        return found | {(1, at): float((patches[:, at - 1] * patches[:, at]).sum()) / rows for at in range(1, columns)}

    def _patches(self, rows: int, columns: int, *, rough: bool) -> NDArray[np.floating]:
        """Detail of every part, small and of unit length [row, column, y, x]."""
        side, finer = (_PATCH // 2, 2) if rough else (_PATCH, 4)
        small = self._image.resize((finer * side * columns, finer * side * rows), Image.Resampling.NEAREST)
        pixels = np.asarray(small.convert("L").reduce(finer), dtype=np.float32)
        detail = pixels - _blurred(pixels, _BLUR * side // _PATCH)
        rim = _RIM * side // _PATCH
        tiles = detail.reshape(rows, side, columns, side).swapaxes(1, 2)[:, :, rim:-rim, rim:-rim]
        tiles = tiles - tiles.mean(axis=(2, 3), keepdims=True)
        length = np.sqrt((tiles**2).sum(axis=(2, 3), keepdims=True))
        return np.asarray(tiles / (length + 20))  # so that noise on plain ground repeats nothing


def _blurred(pixels: NDArray[np.float32], radius: int) -> NDArray[np.floating]:
    """Means of the squares about every pixel."""
    side = 2 * radius + 1
    rows, columns = (_beyond(length, radius) for length in pixels.shape)
    summed = np.zeros((len(rows) + 1, len(columns) + 1), dtype=pixels.dtype)
    pixels[rows[:, None], columns].cumsum(axis=0).cumsum(axis=1, out=summed[1:, 1:])
    return np.asarray(
        (summed[side:, side:] - summed[:-side, side:] - summed[side:, :-side] + summed[:-side, :-side]) / side**2
    )


@functools.lru_cache(maxsize=64)
def _beyond(length: int, radius: int) -> NDArray[np.intp]:
    """Places of a line, the first and the last repeated beyond its ends."""
    return np.arange(-radius, length + radius).clip(0, length - 1)
