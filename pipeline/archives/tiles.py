"""Grids cut into their pictures, each an image of its own; and grids that nobody asked to cut, to be kept out of sets."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem, ArchiveSource, ArchiveSummary, HasDoubts, Shard
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.archives.seam_places import Box
from allfour.pipeline.archives.seams import MAX_PARTS, Grid, even_grid, find_grid
from allfour.pipeline.archives.unprompted import NOT_ONE

AUTO = "auto"
ONE = "1x1"
MAX_SIDE = 8
"""Rows or columns that may be asked for."""
_VERSION = 1
"""Raise it when the same picture would be cut, or kept out, in another way."""
_BLANK = 8
"""Levels between the brightest and the darkest pixel of a part that holds no picture."""
_MAX_INDEX = 2**63 // MAX_SIDE**2 - 1


def layout_of(tiles: str) -> tuple[int, int] | None:
    """Rows and columns of `2x2`; None for `auto`.

    Raises
    ------
    ArchiveError
        For anything else.
    """
    if tiles == AUTO:
        return None
    match = re.fullmatch(rf"([1-{MAX_SIDE}])x([1-{MAX_SIDE}])", tiles)
    if match is None:
        raise ArchiveError(
            f"archive.tiles {tiles!r}: expected auto, or rows x columns such as 2x2 or 1x4 (at most {MAX_SIDE}x{MAX_SIDE}); 1x1 takes every "
            "picture as it is"
        )
    return int(match[1]), int(match[2])


def grid_error(grid: Grid) -> str:
    """Why a picture that looks like a grid is in no set."""
    return (
        f"{NOT_ONE}by its seams a grid of {grid.rows} x {grid.columns} (archive.tiles: auto cuts such pictures, 1x1 takes them "
        "as they are)"
    )


@dataclass(frozen=True, slots=True)
class TiledSource:
    """`ArchiveSource` of the pictures in another source's images.

    Without `tiles` images pass as they are, to be looked at for seams when they are decoded.
    """

    source: ArchiveSource
    tiles: str | None = None

    def identity(self) -> Mapping[str, str]:
        return {**self.source.identity()} | ({"tiles": self.tiles} if self.tiles is not None else {})

    def shards(self) -> Iterator[Shard]:
        layout = f"{self.tiles or 'looked at for seams'} {_VERSION}"
        for shard in self.source.shards():
            digest = hashlib.sha256(f"{shard.fingerprint}\n{layout}".encode()).hexdigest()
            cuts = self.tiles not in (None, ONE)
            yield replace(shard, fingerprint=digest, images=None if cuts else shard.images)

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        if self.tiles is None:
            return self.source.read(shard)
        return self._pictures(shard, self.tiles)

    def _pictures(self, shard: Shard, tiles: str) -> Iterator[ArchiveItem]:
        for item in self.source.read(shard):
            if tiles == ONE:
                yield replace(item, single=True)
            else:
                yield from _cut(item, layout_of(tiles))

    def summary(self) -> ArchiveSummary:
        summary = self.source.summary()
        if self.tiles is None and (grids := summary.probed.get("likely_grids")):
            note = (
                f"{grids} of the images looked at {'is a grid' if grids == 1 else 'are grids'} of several pictures, by the seams: such images "
                "are in no set. archive.tiles: auto cuts them, 1x1 takes them as they are"
            )
            return replace(summary, notes=(*summary.notes, note))
        if self.tiles in (None, ONE):
            return summary
        layout = layout_of(str(self.tiles))
        if layout is None:
            note = "pictures that are grids by their seams are cut into images, which are counted when they are read"
            return replace(
                summary, notes=(*summary.notes, note), images=None, images_per_prompt=None, without_copies=None
            )
        count = layout[0] * layout[1]
        note = f"every picture is cut into {layout[0]} x {layout[1]} images, which these counts are of"
        per_prompt, without = summary.images_per_prompt, summary.without_copies
        return replace(
            summary,
            notes=(*summary.notes, note),
            images=None if summary.images is None else summary.images * count,
            images_per_prompt=None if per_prompt is None else {n * count: found for n, found in per_prompt.items()},
            without_copies=None if without is None else {n * count: found for n, found in without.items()},
        )

    def doubts(self) -> list[str]:
        return list(self.source.doubts()) if isinstance(self.source, HasDoubts) else []


def _cut(item: ArchiveItem, layout: tuple[int, int] | None) -> Iterator[ArchiveItem]:
    """The images of one picture; the picture itself where it is not a grid, or cannot be read."""
    count = MAX_PARTS**2 if layout is None else layout[0] * layout[1]
    if item.image.index > _MAX_INDEX:
        raise ArchiveError(
            f"{item.image.path}: its index {item.image.index} is too large to be that of a grid's images"
        )
    whole = replace(item.image, index=item.image.index * count)
    try:
        picture = decode(item.data) if item.data is not None and item.error is None else None
    except UnreadableImage:  # said where it is scored
        picture = None
    grid = None if picture is None else find_grid(picture) if layout is None else even_grid(picture, *layout)
    if picture is None or grid is None or item.data is None:
        yield replace(item, image=whole, single=True)
        return
    of = hashlib.sha256(item.data).hexdigest()
    for number, box in enumerate(grid.boxes):
        tile = picture.crop(box)
        blank = int(np.ptp(np.asarray(tile), axis=(0, 1)).max()) <= _BLANK
        error = "nothing but one colour in this part of a grid" if blank else None
        yield ArchiveItem(_tile(whole, number, box, of), None if blank else png_of(tile), error, single=True)


def _tile(whole: ArchivedImage, number: int, box: Box, of: str) -> ArchivedImage:
    extra = {**whole.extra, "tile_of_sha256": of, "tile_box": ",".join(map(str, box))}
    if whole.seed is not None:
        extra["tile_of_seed"] = str(whole.seed)  # the seed of the job, and no image's own
    return replace(whole, index=whole.index + number, path=tile_path(whole.path, box), seed=None, extra=extra)


# --- again, by the path ----------------------------------------------------------------------------------------------

_MARK = "::tile-"
_PATH = re.compile(rf"(.+){_MARK}(\d{{1,6}})-(\d{{1,6}})-(\d{{1,6}})-(\d{{1,6}})", re.DOTALL)


def tile_path(path: str, box: Box) -> str:
    """Where an image lies that was cut from the picture at a path."""
    return f"{path}{_MARK}{'-'.join(map(str, box))}"


def split_tile(path: str) -> tuple[str, Box | None]:
    """The path of the picture that an image was cut from, and the box; the path itself and None for any other."""
    match = _PATH.fullmatch(path)
    if match is None:
        return path, None
    left, top, right, bottom = (int(number) for number in match.groups()[1:])
    return match[1], (left, top, right, bottom)


def cut_again(data: bytes, boxes: Iterable[Box]) -> Iterator[tuple[Box, bytes]]:
    """The images at boxes of a picture, as they were read before; none of a picture that cannot be read."""
    try:
        picture = decode(data)
    except UnreadableImage:
        return
    for box in boxes:
        if box[0] < box[2] <= picture.width and box[1] < box[3] <= picture.height:
            yield box, png_of(picture.crop(box))


def png_of(image: Image.Image) -> bytes:
    """A PNG of an RGB image whose bytes follow from its pixels alone, whatever compresses: it stores them."""
    width, height = image.size
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # a filter of 0 before every line
    lines[:, 1:] = np.asarray(image, np.uint8).reshape(height, 3 * width)
    raw = lines.tobytes()
    packed = bytearray(b"\x78\x01")
    for at in range(0, len(raw), 0xFFFF):
        part = raw[at : at + 0xFFFF]
        packed += struct.pack("<BHH", at + 0xFFFF >= len(raw), len(part), len(part) ^ 0xFFFF) + part
    packed += struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", bytes(packed)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
