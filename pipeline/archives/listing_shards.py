"""Pieces of a listing: where shards end, and the part of the listing that each carries."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.archives.listing import Directory, Listing
from allfour.pipeline.archives.naming import NAMELESS
from allfour.pipeline.archives.text import escape_name


class ChunkPart(NamedTuple):
    """Images of one folder that belong to one shard."""

    path: str
    names: list[str]
    sizes: list[int]
    indexes: list[int]
    lacks: str = ""
    """Why these have no prompt, where they have none."""
    prompts: list[str | None] | None = None
    """Their prompts, where a table beside them says which."""
    captions: str | None = None
    """The folder that their captions lie in, where that is another one."""


def cut(listing: Listing, size: int) -> Iterator[list[tuple[Directory, int, int]]]:
    """Pieces of `size` images in reading order: (folder, start, stop)."""
    piece: list[tuple[Directory, int, int]] = []
    room = size
    for directory in listing.directories:
        start = 0
        while start < len(directory.names):
            stop = min(len(directory.names), start + room)
            piece.append((directory, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece


def shard_of(
    piece: list[tuple[Directory, int, int]],
    *,
    id_: str,
    ordinal: int,
    salt: str = "",
    by_folder: bool = True,
    prompt: Callable[[str], str | None] | None = None,
) -> Shard:
    """A shard with its fingerprint over path, size, stamp and index, and its own part of the listing as payload.

    `by_folder` is whether folders name the prompts; `prompt` gives those of a table beside the images, by their path.
    """
    digest = hashlib.sha256(salt.encode())
    parts = []
    for directory, start, stop in piece:
        sizes, indexes = directory.sizes[start:stop].tolist(), list(directory.indexes[start:stop])
        names = directory.names[start:stop]
        part: list[Any] = [directory.path, names, sizes, indexes]
        lacks = directory.lacks
        if by_folder and directory.nameless:
            lacks = lacks or NAMELESS.format(name=escape_name(directory.path.rpartition("/")[2]))
        if prompt is not None:
            part += [lacks, [prompt(directory.join(name)) for name in names]]
        elif directory.captions is not None:
            part += [lacks, None, directory.captions]
        elif lacks:
            part.append(lacks)
        parts.append(part)
        digest.update(json.dumps([*parts[-1], list(directory.stamps[start:stop])]).encode())
    payload = zlib.compress(json.dumps(parts, separators=(",", ":")).encode(), 1)
    images = sum(stop - start for _, start, stop in piece)
    return Shard(id=id_, ordinal=ordinal, fingerprint=digest.hexdigest(), images=images, payload=payload)


def chunk_of(shard: Shard) -> list[ChunkPart]:
    """The part of the listing that a shard carries."""
    try:
        return [ChunkPart(*part) for part in json.loads(zlib.decompress(shard.payload))]
    except (zlib.error, ValueError, TypeError) as error:
        raise ArchiveError(f"shard {shard.id} does not carry a readable listing; list the archive again") from error
