"""Where the pictures of a grid of equal parts meet."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

Box = tuple[int, int, int, int]
"""Left, top, right and bottom."""
Place = tuple[int, int, int]
"""Axis, number of a line between parts, and number of parts."""

MIN_TILE = 24
"""Pixels on a side of four pictures that are looked for."""


def equal_parts(size: tuple[int, int], rows: int, columns: int) -> tuple[Box, ...]:
    """The pictures of a grid of equal parts, row by row."""
    width, height = size
    across = [round(n * height / rows) for n in range(rows + 1)]
    down = [round(n * width / columns) for n in range(columns + 1)]
    return tuple((left, top, right, bottom) for top, bottom in pairwise(across) for left, right in pairwise(down))


@functools.lru_cache(maxsize=256)
def _middle_first(parts: int) -> tuple[int, ...]:
    """Numbers of the lines between parts, the middle first: it tells most pictures apart."""
    return tuple(sorted(range(1, parts), key=lambda number: abs(2 * number - parts)))


@functools.lru_cache(maxsize=256)
def places(rows: int, columns: int) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Every line between the pictures of a grid, and those that are looked at first: of most pictures the middle of either direction
    says enough."""
    found = tuple((axis, number, parts) for axis, parts in ((0, rows), (1, columns)) for number in _middle_first(parts))
    middles = tuple({place[0]: place for place in reversed(found)}.values())
    return found, middles if min(rows, columns) > 1 else found


def reduced(number: int, parts: int) -> tuple[int, int]:
    """The same place with the fewest parts."""
    divisor = math.gcd(number, parts)
    return number // divisor, parts // divisor
