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
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.pipeline.archives.seam_lines import BESIDE, SeamLine
from allfour.pipeline.archives.seam_pixels import nearest, pixels_of
from allfour.pipeline.archives.seam_rules import (
    is_clear_at_a_quarter,
    is_square_of_four,
    is_strip_by_repeats,
    is_strip_by_seams,
    is_strip_uncrossed,
    may_repeat,
)
from allfour.pipeline.archives.seam_strips import shows_four

Pixels = NDArray[np.int16]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom."""

MAX_PARTS = 4
"""Rows or columns of a grid that is found without being asked for."""
_MIN_TILE, _MIN_FINE_TILE = 24, 40
"""Pixels on a side that are looked for: of four pictures, and of more."""
_TILE_ASPECT = 2.0
"""Longest to shortest side of one picture of a grid."""
_MAX_GUTTER = 0.12
"""Of a tile's side."""
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
_UNEVEN = 14.0
"""Levels by which a gutter's lines may be off its colour on average, after compression."""
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
    return Grid(rows, columns, boxes or _equal_parts(image.size, rows, columns))


def _equal_parts(size: tuple[int, int], rows: int, columns: int) -> tuple[Box, ...]:
    width, height = size
    across = [round(n * height / rows) for n in range(rows + 1)]
    down = [round(n * width / columns) for n in range(columns + 1)]
    return tuple((left, top, right, bottom) for top, bottom in pairwise(across) for left, right in pairwise(down))


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
        least = _MIN_TILE if count == 4 else _MIN_FINE_TILE
        if count >= 4 and min(across, down) >= least and max(across, down) <= _TILE_ASPECT * min(across, down):
            yield rows, columns


@dataclass(frozen=True, slots=True)
class _Gutter:
    start: int
    stop: int
    """Behind its last line."""
    colour: NDArray[np.floating]


class _Looked:
    """One picture, with what was looked at: every line costs once."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._seams: dict[tuple[int, int, int], SeamLine] = {}
        self._even: dict[tuple[int, int, int], bool] = {}
        self._hints: dict[tuple[int, int, int], bool] = {}
        self._gutters: dict[tuple[int, int, int], _Gutter | None] = {}

    # --- gutters -----------------------------------------------------------------------------------------------------

    def by_gutters(self, rows: int, columns: int) -> tuple[Box, ...] | None:
        """The pictures between gutters of one colour and width; None where there are none.

        One gutter at least has sharp edges; the others may lie beside pictures that are hardly brighter or darker.
        """
        places, first = _places(rows, columns)
        if not all(self._plain(*place) for place in first):
            return None
        sharp = next((found for place in first if (found := self._sharp_gutter(*place)) is not None), None)
        if sharp is None:
            return None
        middles = [axis for axis, parts in ((0, rows), (1, columns)) if parts % 2 == 0]
        if sharp.stop - sharp.start > 2 and any(self._seam(axis, 1, 2).steps >= 0.1 for axis in middles):
            return None  # two rims of one shade, and the pictures touch between them
        gutters: tuple[list[_Gutter], list[_Gutter]] = ([], [])
        for axis, number, parts in places:
            gutter = self._gutter_like(sharp, axis, number, parts)
            if gutter is None:
                return None
            gutters[axis].append(gutter)
        across, down = (sorted(each, key=lambda gutter: gutter.start) for each in gutters)
        return self._between(across, down, sharp.colour)

    def _sharp_gutter(self, axis: int, number: int, parts: int) -> _Gutter | None:
        number, parts = _reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._gutters:
            self._gutters[key] = self._look_for_gutter(axis, number, parts)
        return self._gutters[key]

    def _reach(self, axis: int, number: int, parts: int) -> tuple[float, int, int]:
        """Where a line between parts should lie, how far a frame may have moved it, and how wide a gutter may be."""
        length = self._image.size[1 - axis]
        tile = length / parts
        return (
            length * number / parts,
            1 if 2 * number == parts else round(0.06 * tile) + 1,
            round(_MAX_GUTTER * tile) + 1,
        )

    def _plain(self, axis: int, number: int, parts: int) -> bool:
        """Whether a line where a gutter may be is of one colour, roughly: in most pictures none is."""
        number, parts = _reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._even:
            centre, moved, _ = self._reach(axis, number, parts)
            middle = int(centre)
            some = self._few(axis, max(0, middle - moved - 1), middle + moved + 2, places=48).astype(np.float32)
            some -= np.add.reduce(some, axis=1, keepdims=True) / some.shape[1]
            uneven = np.add.reduce(np.abs(some, out=some), axis=(1, 2)) / (some.shape[1] * 3)
            self._even[key] = bool(uneven.min() <= 2 * _UNEVEN)
        return self._even[key]

    def _look_for_gutter(self, axis: int, number: int, parts: int) -> _Gutter | None:
        centre, moved, widest = self._reach(axis, number, parts)
        reach = widest // 2 + moved + 4
        length = self._image.size[1 - axis]
        first, last = max(0, int(centre) - reach), min(length, int(np.ceil(centre)) + reach)
        strip = self._strip(axis, first, last)
        some = strip[:, :: max(1, strip.shape[1] // 48)]
        middle = int(centre) - first
        near = slice(max(0, middle - moved - 1), middle + moved + 2)
        own = np.median(some[near], axis=1)  # [line, channel]
        uneven = np.abs(some[near] - own[:, None, :]).mean(axis=(1, 2))
        evenest = int(np.argmin(uneven))
        if uneven[evenest] > _UNEVEN:
            return None
        colour = own[evenest]
        evenest += near.start
        away = np.abs(strip - colour).mean(axis=(1, 2))
        inside = float(away[evenest])
        beyond = away[away > inside + 6]
        if inside > _UNEVEN or len(beyond) < 4:
            return None
        outside = float(np.median(beyond))
        start, stop = _run(away <= inside + 0.4 * (outside - inside), evenest)
        if stop - start > widest or start < 2 or stop > len(away) - 2:
            return None
        if abs(first + (start + stop) / 2 - centre) > moved + 1:
            return None
        edges = [max(away[start - 2 : start]), max(away[stop : stop + 2])]
        if min(edges) < max(0.5 * outside, 3 * inside + 8):
            return None
        if max(away[start + 1 : stop - 1], default=0.0) > inside + 3 + 0.15 * (outside - inside):
            return None  # a shade that deepens, as at the rims of pictures
        return _Gutter(first + start, first + stop, colour)

    def _gutter_like(self, sharp: _Gutter, axis: int, number: int, parts: int) -> _Gutter | None:
        """The gutter between parts that has the colour and the width of another one; None where there is none."""
        centre, moved, _ = self._reach(axis, number, parts)
        width = sharp.stop - sharp.start
        length = self._image.size[1 - axis]
        first = max(0, round(centre - width / 2) - moved - 1)
        last = min(length, first + width + 2 * moved + 3)
        away = np.abs(self._strip(axis, first, last) - sharp.colour).mean(axis=(1, 2))
        # of all places that it may have, the one whose lines are nearest to the colour and whose neighbours are farthest
        best, start = 0.0, -1
        for at in range(len(away) - width + 1):
            inner = away[at + 1 : at + width - 1] if width > 2 else away[at : at + width]  # its rims are blurred
            off = float(away[at : at + width].mean())
            beside = [float(away[side]) for side in (at - 1, at + width) if 0 <= side < len(away)]
            if inner.max() <= _UNEVEN and beside and sum(beside) / len(beside) - off > best:
                best, start = sum(beside) / len(beside) - off, at
        if start < 0 or best < 3:
            return None
        return _Gutter(first + start, first + start + width, sharp.colour)

    def _between(
        self, across: Sequence[_Gutter], down: Sequence[_Gutter], colour: NDArray[np.floating]
    ) -> tuple[Box, ...] | None:
        """The pictures between gutters, without a frame of their colour; None where they are not of one size."""
        width, height = self._image.size
        (left, right), (top, bottom) = self._frame(1, colour), self._frame(0, colour)
        thin = min(left, right, top, bottom)  # a frame is as wide on all sides; pictures may begin in its colour
        gutter = min(each.stop - each.start for each in (*across, *down))
        rims = [side for side in (left, right, top, bottom) if side > 0]
        if (
            len(rims) >= 3 and min(rims) >= 0.3 * gutter and max(rims) <= gutter - max(2.0, 0.1 * gutter)
        ):  # of pictures, half of a gutter each
            return _equal_parts(self._image.size, len(across) + 1, len(down) + 1)
        for l, t, r, b in dict.fromkeys([(thin,) * 4, (left, top, right, bottom), (0, 0, 0, 0)]):  # noqa: E741
            rows, columns = _spans(across, t, height - b), _spans(down, l, width - r)
            if _alike(rows) and _alike(columns):
                return tuple((x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns)
        return None

    def _frame(self, axis: int, colour: NDArray[np.floating]) -> tuple[int, int]:
        """Lines of a colour at either end."""
        size = self._image.size[1 - axis]
        reach = max(2, size // 4)
        found = []
        for strip in (self._strip(axis, 0, reach), self._strip(axis, size - reach, size)[::-1]):
            away = np.abs(strip - colour).mean(axis=(1, 2))
            beyond = np.flatnonzero(away > max(6.0, 0.4 * float(np.median(away[reach // 2 :]))))
            found.append(int(beyond[0]) if len(beyond) else 0)
        return found[0], found[1]

    # --- seams and repetition ----------------------------------------------------------------------------------------

    def by_seams(self, rows: int, columns: int) -> tuple[Box, ...] | None:
        """Equal parts that touch, where seams, and what repeats in grids of up to four, show them; None where they do not."""
        lines, _ = _places(rows, columns)
        if rows * columns > 4:
            if not self._may_break(*lines[0]):
                return None  # most pictures
            seen = (self._seam(*line).steps for line in lines)
            shares = list(takewhile(lambda share: share >= _SEAM_FINE, seen))
            shown = len(shares) == len(lines) and sum(shares) >= _SHOWN[0][0] * len(shares)
        else:
            shown = self._shown(rows, columns, lines)
        return _equal_parts(self._image.size, rows, columns) if shown else None

    def _shown(self, rows: int, columns: int, lines: Sequence[tuple[int, int, int]]) -> bool:
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
        number, parts = _reduced(number, parts)
        key = (axis, number, parts)
        if parts == 2:
            return self._seam(*key).steps >= _SEAM_FINE  # which is looked at in any case
        if key not in self._hints:
            centre = self._image.size[1 - axis] * number / parts
            lines = {int(centre), int(np.ceil(centre))}
            few = [SeamLine(self._few(axis, line - BESIDE, line + BESIDE, places=64)).steps for line in lines]
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
        number, parts = _reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._seams:
            centre = self._image.size[1 - axis] * number / parts
            seen = [
                SeamLine(self._lines(axis, line - BESIDE, line + BESIDE))
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

    @functools.cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        """[height, width, 3 or 4] of the picture, of which the first three channels count."""
        return pixels_of(self._image)

    def _few(self, axis: int, start: int, stop: int, *, places: int) -> NDArray[np.uint8]:
        """As `_lines`, at a few places along them."""
        at = nearest(self._image.size[axis], places)
        if axis == 0:
            return self._pixels[start:stop].take(at, axis=1)[..., :3]
        return self._pixels[at, start:stop][..., :3].swapaxes(0, 1)

    def _strip(self, axis: int, start: int, stop: int) -> Pixels:
        """Lines of the picture [line, place, channel]."""
        if axis == 0:
            return self._pixels[start:stop].astype(np.int16)[..., :3]
        return self._pixels[:, start:stop].astype(np.int16)[..., :3].swapaxes(0, 1)

    def _lines(self, axis: int, start: int, stop: int) -> NDArray[np.uint8]:
        """As `_strip`, as the picture has them."""
        if axis == 0:
            return self._pixels[start:stop, :, :3]
        # a copy lies together: it is gone through line by line
        return self._pixels[:, start:stop].copy()[..., :3].swapaxes(0, 1)


@functools.lru_cache(maxsize=256)
def _middle_first(parts: int) -> tuple[int, ...]:
    """Numbers of the lines between parts, the middle first: it tells most pictures apart."""
    return tuple(sorted(range(1, parts), key=lambda number: abs(2 * number - parts)))


_Place = tuple[int, int, int]
"""Axis, number of a line between parts, and number of parts."""


@functools.lru_cache(maxsize=256)
def _places(rows: int, columns: int) -> tuple[tuple[_Place, ...], tuple[_Place, ...]]:
    """Every line between the pictures of a grid, and those that are looked at first: of most pictures the middle of either direction
    says enough."""
    places = tuple(
        (axis, number, parts) for axis, parts in ((0, rows), (1, columns)) for number in _middle_first(parts)
    )
    middles = tuple({place[0]: place for place in reversed(places)}.values())
    return places, middles if min(rows, columns) > 1 else places


def _reduced(number: int, parts: int) -> tuple[int, int]:
    divisor = math.gcd(number, parts)
    return number // divisor, parts // divisor


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


def _run(within: NDArray[np.bool_], at: int) -> tuple[int, int]:
    """The run of true values about a place: its start, and what comes behind it."""
    start = stop = at
    while start > 0 and within[start - 1]:
        start -= 1
    while stop < len(within) and within[stop]:
        stop += 1
    return start, stop


def _spans(gutters: Sequence[_Gutter], start: int, stop: int) -> list[tuple[int, int]]:
    edges = [start, *(edge for gutter in gutters for edge in (gutter.start, gutter.stop)), stop]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _alike(spans: Sequence[tuple[int, int]]) -> bool:
    sizes = [stop - start for start, stop in spans]
    return min(sizes) >= _MIN_TILE // 2 and max(sizes) - min(sizes) <= max(2, 0.02 * max(sizes))
