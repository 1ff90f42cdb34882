"""What becomes of each listed image: read, hashed, told from its twins, decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from allfour.models.detectors.base import Box
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.archives.decoding import UnreadableImage, decode_image
from allfour.pipeline.archives.seams import find_grid
from allfour.pipeline.archives.tiles import grid_error
from allfour.pipeline.scoring.people import Skin


@dataclass(slots=True)
class Row:
    """What became of one listed image."""

    image: ArchivedImage
    sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None
    single: bool = True
    """Whether it is known to be one picture, and not looked at for seams."""
    twin: Row | None = None
    """An earlier row with the same bytes: that one is decoded and encoded, and both keep its scores."""
    vector: int = -1
    """Position among the shard's embeddings; -1 where there is none. Those of its persons follow it."""
    boxes: tuple[Box, ...] = ()
    """Of the persons found in it, where somebody looked."""
    skins: tuple[Skin, ...] = ()
    """Of the same persons, where pixels answer an attribute."""

    def take(self, other: Row) -> None:
        """Be read as another row of the same bytes was."""
        self.width, self.height, self.error = other.width, other.height, other.error
        self.vector, self.boxes, self.skins = other.vector, other.boxes, other.skins


def listed_row(item: ArchiveItem, first_of: dict[str, Row]) -> Row:
    row = Row(image=item.image, error=item.error, single=item.single)
    if item.data is None:
        row.error = item.error or "no data"
        return row
    row.sha256 = hashlib.sha256(item.data).hexdigest()
    row.size = len(item.data)
    if row.error is None:
        first = first_of.setdefault(row.sha256, row)
        row.twin = first if first is not row else None
    return row


def settle(rows: Iterable[Row]) -> None:
    """Give every twin what was found of the first."""
    for row in rows:
        if row.twin is not None:
            row.take(row.twin)


_STRIP = 50
"""Sides to one another from which on a failing crop is laid to the shape, such as one row of pixels."""


def decode_row(row: Row, data: bytes, finish: Callable[[Image.Image], Any], max_pixels: int) -> Any:
    """The decoded and prepared image; None, and the reason in the row, where it cannot be read."""
    try:
        decoded = decode_image(data, max_pixels=max_pixels)
    except UnreadableImage as error:
        row.error = error.reason
        return None
    except (ValueError, OSError, MemoryError) as error:
        row.error = f"cannot be decoded: {type(error).__name__}"
        return None
    row.width, row.height = decoded.width, decoded.height
    grid = find_grid(decoded.image) if not row.single else None
    if grid is not None:
        row.error = grid_error(grid)
        return None
    try:
        return finish(decoded.image)
    except (ValueError, OSError, MemoryError) as error:
        strip = max(decoded.image.size) > _STRIP * min(decoded.image.size)
        why = "cannot be resized for the classifier" if strip else "the classifier could not take it"
        row.error = f"{why}: {type(error).__name__}" + ("" if strip else f": {' '.join(str(error).split())[:200]}")
    return None
