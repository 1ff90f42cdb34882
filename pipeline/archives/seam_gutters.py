"""The gutters of a grid of pictures: bands of one colour that cross the whole picture, with sharp edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allfour.pipeline.archives.seam_pixels import PictureLines
from allfour.pipeline.archives.seam_places import MIN_TILE, Box, Place, equal_parts, places, reduced

_MAX_GUTTER = 0.12
"""Of a tile's side."""
_UNEVEN = 14.0
"""Levels by which a gutter's lines may be off its colour on average, after compression."""


@dataclass(frozen=True, slots=True)
class _Gutter:
    start: int
    stop: int
    """Behind its last line."""
    colour: NDArray[np.floating]


class Gutters:
    """The gutters of one picture, with what was looked at: every line costs once."""

    def __init__(self, lines: PictureLines) -> None:
        self._lines = lines
        self._size = lines.image.size
        self._even: dict[Place, bool] = {}
        self._gutters: dict[Place, _Gutter | None] = {}

    def boxes(self, rows: int, columns: int, steps: Callable[[int, int, int], float]) -> tuple[Box, ...] | None:
        """The pictures between gutters of one colour and width; None where there are none. `steps` tells at how much of a line the picture
        is a step, as where two touch.

        One gutter at least has sharp edges; the others may lie beside pictures that are hardly brighter or darker.
        """
        all_places, first = places(rows, columns)
        if not all(self._plain(*place) for place in first):
            return None
        sharp = next((found for place in first if (found := self._sharp_gutter(*place)) is not None), None)
        if sharp is None:
            return None
        middles = [axis for axis, parts in ((0, rows), (1, columns)) if parts % 2 == 0]
        if sharp.stop - sharp.start > 2 and any(steps(axis, 1, 2) >= 0.1 for axis in middles):
            return None  # two rims of one shade, and the pictures touch between them
        gutters: tuple[list[_Gutter], list[_Gutter]] = ([], [])
        for axis, number, parts in all_places:
            gutter = self._gutter_like(sharp, axis, number, parts)
            if gutter is None:
                return None
            gutters[axis].append(gutter)
        across, down = (sorted(each, key=lambda gutter: gutter.start) for each in gutters)
        return self._between(across, down, sharp.colour)

    def _sharp_gutter(self, axis: int, number: int, parts: int) -> _Gutter | None:
        number, parts = reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._gutters:
            self._gutters[key] = self._look_for_gutter(axis, number, parts)
        return self._gutters[key]

    def _reach(self, axis: int, number: int, parts: int) -> tuple[float, int, int]:
        """Where a line between parts should lie, how far a frame may have moved it, and how wide a gutter may be."""
        length = self._size[1 - axis]
        tile = length / parts
        return (
            length * number / parts,
            1 if 2 * number == parts else round(0.06 * tile) + 1,
            round(_MAX_GUTTER * tile) + 1,
        )

    def _plain(self, axis: int, number: int, parts: int) -> bool:
        """Whether a line where a gutter may be is of one colour, roughly: in most pictures none is."""
        number, parts = reduced(number, parts)
        key = (axis, number, parts)
        if key not in self._even:
            centre, moved, _ = self._reach(axis, number, parts)
            middle = int(centre)
            some = self._lines.few(axis, max(0, middle - moved - 1), middle + moved + 2, places=48).astype(np.float32)
            some -= np.add.reduce(some, axis=1, keepdims=True) / some.shape[1]
            uneven = np.add.reduce(np.abs(some, out=some), axis=(1, 2)) / (some.shape[1] * 3)
            self._even[key] = bool(uneven.min() <= 2 * _UNEVEN)
        return self._even[key]

    def _look_for_gutter(self, axis: int, number: int, parts: int) -> _Gutter | None:
        centre, moved, widest = self._reach(axis, number, parts)
        reach = widest // 2 + moved + 4
        length = self._size[1 - axis]
        first, last = max(0, int(centre) - reach), min(length, int(np.ceil(centre)) + reach)
        strip = self._lines.strip(axis, first, last)
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
        length = self._size[1 - axis]
        first = max(0, round(centre - width / 2) - moved - 1)
        last = min(length, first + width + 2 * moved + 3)
        away = np.abs(self._lines.strip(axis, first, last) - sharp.colour).mean(axis=(1, 2))
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
        width, height = self._size
        (left, right), (top, bottom) = self._frame(1, colour), self._frame(0, colour)
        thin = min(left, right, top, bottom)  # a frame is as wide on all sides; pictures may begin in its colour
        gutter = min(each.stop - each.start for each in (*across, *down))
        rims = [side for side in (left, right, top, bottom) if side > 0]
        if (
            len(rims) >= 3 and min(rims) >= 0.3 * gutter and max(rims) <= gutter - max(2.0, 0.1 * gutter)
        ):  # of pictures, half of a gutter each
            return equal_parts(self._size, len(across) + 1, len(down) + 1)
        for l, t, r, b in dict.fromkeys([(thin,) * 4, (left, top, right, bottom), (0, 0, 0, 0)]):  # noqa: E741
            rows, columns = _spans(across, t, height - b), _spans(down, l, width - r)
            if _alike(rows) and _alike(columns):
                return tuple((x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns)
        return None

    def _frame(self, axis: int, colour: NDArray[np.floating]) -> tuple[int, int]:
        """Lines of a colour at either end."""
        size = self._size[1 - axis]
        reach = max(2, size // 4)
        found = []
        for strip in (self._lines.strip(axis, 0, reach), self._lines.strip(axis, size - reach, size)[::-1]):
            away = np.abs(strip - colour).mean(axis=(1, 2))
            beyond = np.flatnonzero(away > max(6.0, 0.4 * float(np.median(away[reach // 2 :]))))
            found.append(int(beyond[0]) if len(beyond) else 0)
        return found[0], found[1]


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
    return min(sizes) >= MIN_TILE // 2 and max(sizes) - min(sizes) <= max(2, 0.02 * max(sizes))
