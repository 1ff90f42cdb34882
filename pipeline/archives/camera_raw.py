"""Raw files of cameras: what a sensor measured, which becomes a picture only when a program develops it.

Many are TIFFs that begin with a small preview, so a reader of TIFF returns the preview, or noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

RAW = "no image: it looks like a camera's raw file, which a program for that must develop to JPEG or PNG"
RAW_HEADS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
"""How those begin that are no TIFF: Olympus, Panasonic, Fujifilm, Sigma, Minolta, Canon's oldest."""

_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_REDUCED = 1
"""Bit of NewSubfileType: a smaller copy of another picture of the file."""
_OF_A_SENSOR = (32803, 34892)
"""Values of PhotometricInterpretation: a colour filter array, and what is made of one before development."""
_MAX_ENTRIES, _MAX_SUB_IFDS = 512, 16


def is_raw(data: bytes) -> bool:
    """Whether a file is a camera's raw file.

    A TIFF is one where it says so itself (DNG, Canon), where its first picture or one below it is of a sensor, or where the first is
    a reduced copy of one below it: there is no other picture in reach than a preview.
    """
    if data.startswith(RAW_HEADS) or data[4:12] == b"ftypcrx ":
        return True
    if not data.startswith((b"II*\0", b"MM\0*")):
        return False
    if data[8:10] == b"CR":
        return True
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    first = _entries(data, int.from_bytes(data[4:8], order), order)
    if _DNG_VERSION in first or first.get(_PHOTOMETRIC, (0,))[0] in _OF_A_SENSOR:
        return True
    below = [_entries(data, at, order) for at in first.get(_SUB_IFDS, ())[:_MAX_SUB_IFDS]]
    if any(each.get(_PHOTOMETRIC, (0,))[0] in _OF_A_SENSOR for each in below):
        return True
    return bool(below and first.get(_NEW_SUBFILE_TYPE, (0,))[0] & _REDUCED)


def _entries(data: bytes, at: int, order: Literal["little", "big"]) -> dict[int, tuple[int, ...]]:
    """Tag -> whole numbers, of one directory of a TIFF; of a damaged one what can be read."""
    count = min(int.from_bytes(data[at : at + 2], order), _MAX_ENTRIES)
    entries = (data[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(count))
    return {
        int.from_bytes(entry[:2], order): tuple(_values(data, entry, order)) for entry in entries if len(entry) == 12
    }


def _values(data: bytes, entry: bytes, order: Literal["little", "big"]) -> Iterator[int]:
    size = {1: 1, 3: 2, 4: 4, 13: 4}.get(int.from_bytes(entry[2:4], order), 4)
    count = min(int.from_bytes(entry[4:8], order), _MAX_SUB_IFDS)
    held = entry[8:12]
    if size * count > 4:
        start = int.from_bytes(held, order)
        held = data[start : start + size * count]
    for n in range(0, min(size * count, len(held)), size):
        yield int.from_bytes(held[n : n + size], order)
