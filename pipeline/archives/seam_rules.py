"""When lines on which a picture breaks off, goes on or shows nothing are those of a grid of four pictures that touch.

The thresholds were chosen on grids of four sources and on 1,510 pieces cut at random from their pictures, of which none is taken for two
rows of two. `scripts/validate_grids.py` measures them on grids and pictures that they were not chosen on.
"""

from __future__ import annotations

from collections.abc import Sequence

from allfour.pipeline.archives.seam_lines import Windows

_LEAST = -0.3
"""Balance of every line: across a seam the picture goes on at few places."""
_BALANCE, _BROKEN = 0.24, 0.29
"""Mean balance of the two lines of two rows of two, and the share of broken windows of one of them."""
_BALANCE_UNCROSSED = 0.15
"""Mean balance that suffices where both are broken somewhere, and the picture goes on across neither."""
_BROKEN_ALONE = 0.4
"""Share of broken windows of one line that suffices where nothing at all crosses either."""
_STRIP_BALANCE, _STRIP_BROKEN = 0.2, 0.2
"""Mean balance of the three lines of a strip, and the share of broken windows of two of them."""
_CLEAR = 0.8
"""Share of broken windows of a line that is a seam whatever the others are, at an exact quarter of a strip."""
_QUIET = 0.13
"""Share of windows in which the picture goes on, of lines that nothing crosses."""
_QUIET_MEAN, _QUIET_MOST = 0.08, 0.25
"""Mean and most of them, in a strip of a rare shape."""
_ALIKE = 0.3
"""Correlation of neighbours of which every part of a strip repeats the next."""
_ALIKE_MEAN, _ALIKE_LEAST = 0.2, 0.08
"""Mean and least of them, in a strip of a rare shape."""


def is_square_of_four(lines: Sequence[Windows]) -> bool:
    """Whether the two middle lines of a picture, of either direction, are seams: plain ground on one of them is none against it."""
    balance = [line.balance for line in lines]
    if max(line.broken for line in lines) < _BROKEN:
        return False
    if sum(balance) >= _BALANCE * len(lines) and min(balance) >= _LEAST:
        return True
    crossed = max(line.whole for line in lines)
    if crossed <= 0.05 <= min(line.broken for line in lines):
        return sum(balance) >= _BALANCE_UNCROSSED * len(lines)
    return crossed <= 0.02 and max(line.broken for line in lines) >= _BROKEN_ALONE


def is_strip_by_seams(lines: Sequence[Windows]) -> bool:
    """Whether the three lines at the quarters of a strip are seams."""
    broken = sorted(line.broken for line in lines)
    if min(line.balance for line in lines) < _LEAST:
        return False
    return sum(line.balance for line in lines) >= _STRIP_BALANCE * len(lines) and broken[-2] >= _STRIP_BROKEN


def is_clear_at_a_quarter(lines: Sequence[Windows]) -> bool:
    """Whether one of the lines is a seam whatever the others are, in a strip of a rare shape."""
    return min(line.balance for line in lines) >= _LEAST and max(line.broken for line in lines) >= _CLEAR


def is_strip_uncrossed(lines: Sequence[Windows]) -> bool:
    """Whether hardly anything crosses the three lines at the quarters of a strip of a rare shape: it may be four pictures before plain ground."""
    broken, whole = [line.broken for line in lines], [line.whole for line in lines]
    if min(line.balance for line in lines) < _LEAST:
        return False
    if max(broken) >= _STRIP_BROKEN and max(whole) <= _QUIET:
        return True
    traces = sum(broken) >= 0.1 and sum(whole) <= 0.45
    return traces or (sum(whole) <= _QUIET_MEAN * len(lines) and max(whole) <= _QUIET_MOST)


def is_strip_by_repeats(repeats: Sequence[float]) -> bool:
    """Whether every quarter of a strip shows what the next one shows; `repeats` are correlations of neighbours."""
    return min(repeats) >= _ALIKE


def may_repeat(repeats: Sequence[float]) -> bool:
    """Whether the quarters of a strip of a rare shape may show the same, each a little of what the next one does."""
    return min(repeats) >= _ALIKE_LEAST and sum(repeats) >= _ALIKE_MEAN * len(repeats)
