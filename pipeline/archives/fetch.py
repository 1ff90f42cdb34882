"""Bytes of single images by the `path` that their row names: for reports and reviews, which show a few of many."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.budget import Budget, open_stored
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.remote import address_path, filesystem, open_binary, scheme_of
from allfour.pipeline.archives.seam_places import Box
from allfour.pipeline.archives.text import escape_name, unescape_name
from allfour.pipeline.archives.tiles import cut_again, split_tile, tile_path

DEFAULT_LIMIT = 64 * 2**20

_AT_ONCE = 8
"""Files at addresses that are read at a time, and so held at a time: each may have `limit` bytes."""
_STREAMED, _PICKED = 8 * 2**20, 256 * 2**10
"""Bytes to a request: of a tar, which is read through, and of a zip or parquet, where few places are read."""


def fetch(
    paths: Iterable[str],
    *,
    base: str | os.PathLike[str] = ".",
    limit: int = DEFAULT_LIMIT,
    remote: bool = False,
    options: ArchiveOptions | None = None,
    budget: Budget | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Read images by the paths in a table: files, addresses, and members of tars, zips and parquet files.

    Every container is read once, however many of its members are asked for. The images are read as they are taken: no
    more than `_AT_ONCE` of them are held.

    Parameters
    ----------
    paths
        Values of the column `path` of images.parquet, those that matter most first.
    base
        What relative paths are relative to, such as the run folder.
    limit
        Larger files are left out.
    remote
        Whether to go to addresses too.
    options
        The reading options of the archive; parquet files under other column names need them.
    budget
        What containers and addresses may cost; when it is spent, the rest is left out.

    Yields
    ------
    (path, bytes) of those that can be read, in no certain order. The others are left out, whatever a container or a
    storage has against them: this is for showing, the rows have the reasons.
    """
    tiles: dict[str, list[Box]] = {}
    whole: list[str] = []
    for path in dict.fromkeys(paths):
        source, box = split_tile(path)
        if box is not None:
            tiles.setdefault(source, []).append(box)
        else:
            whole.append(path)
    wanted = set(whole)
    for path, data in _fetch([*whole, *tiles], base, limit, remote=remote, options=options, budget=budget or Budget()):
        if path in wanted:
            yield path, data
        for box, tile in cut_again(data, tiles.get(path, ())):
            yield tile_path(path, box), tile


def _fetch(
    paths: Iterable[str],
    base: str | os.PathLike[str],
    limit: int,
    *,
    remote: bool,
    options: ArchiveOptions | None,
    budget: Budget,
) -> Iterator[tuple[str, bytes]]:
    """As `fetch`, for images as they lie."""
    addresses: dict[str | None, list[str]] = {}
    members: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        scheme = scheme_of(path)
        if scheme is not None and not remote:
            continue
        container, member = _split(path, base)
        if member:
            members.setdefault(container, []).append(member)
        elif scheme is not None:
            addresses.setdefault(scheme, []).append(path)
        else:
            content = read_file(_local(path, base), limit=limit)
            if not isinstance(content, str):
                yield path, content
    for files in addresses.values():
        with suppress(Exception):
            yield from _from_addresses(files, limit, budget)
    for container, names in members.items():
        if budget.spent:
            return
        with suppress(Exception), _opened(container, base, options or ArchiveOptions(), budget) as stream:
            for name, content in _members(container, stream, names, limit, options or ArchiveOptions(), budget):
                yield f"{container}::{name}", content


def _split(path: str, base: str | os.PathLike[str]) -> tuple[str, str]:
    """Container and member; no member for a file. Both may hold '::' in their names: what exists on this machine decides."""
    parts = path.split("::")
    if len(parts) == 1 or (scheme_of(path) is None and _is_file(path, base)):
        return path, ""
    if scheme_of(path) is None:
        for at in range(1, len(parts)):
            container = "::".join(parts[:at])
            if _is_file(container, base):
                return container, "::".join(parts[at:])
    return parts[0], "::".join(parts[1:])


def _is_file(path: str, base: str | os.PathLike[str]) -> bool:
    try:
        return Path(_local(path, base)).is_file()
    except (OSError, ValueError):
        return False


def _local(path: str, base: str | os.PathLike[str]) -> str:
    return os.path.join(base, unescape_name(path))  # noqa: PTH118  (absolute paths stay as they are)


def _from_addresses(paths: Sequence[str], limit: int, budget: Budget) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(paths), _AT_ONCE):
        batch = paths[start : start + _AT_ONCE]
        contents = budget.wait(partial(_read_addresses, batch, limit))
        for path, content in zip(batch, contents, strict=True):
            if isinstance(content, bytes):
                budget.take(len(content))
                if len(content) <= limit:
                    yield path, content
        if not any(isinstance(content, bytes | FileNotFoundError) for content in contents):
            return  # a storage that refuses, or does not answer, is not asked for the others


def _read_addresses(paths: Sequence[str], limit: int) -> list[bytes | BaseException]:
    """The files of one storage, or what it has against each."""
    located = [filesystem(unescape_name(path)) for path in paths]
    count = len(located)
    return list(
        located[0][0].cat_ranges([path for _, path in located], [0] * count, [limit + 1] * count, on_error="return")
    )


def _members(  # noqa: PLR0917
    container: str, stream: BinaryIO, names: Sequence[str], limit: int, options: ArchiveOptions, budget: Budget
) -> Iterator[tuple[str, bytes]]:
    # a run's own files lie in no container
    from allfour.pipeline.archives.arrow import FILE_MAGIC, STREAM_MAGIC
    from allfour.pipeline.archives.json_pictures import ENDINGS

    head = stream.read(4)
    stream.seek(0)
    if head == b"PK\x03\x04":
        found = _zip_members(container, stream, names, limit)
    elif head in (b"PAR1", FILE_MAGIC[:4], STREAM_MAGIC) or address_path(container).lower().endswith(ENDINGS):
        found = _parquet_rows(container, stream, names, limit, options)
    else:
        found = _tar_members(container, stream, names, limit, budget)
    for item in found:
        yield item
        budget.check()


def _opened(container: str, base: str | os.PathLike[str], options: ArchiveOptions, budget: Budget) -> BinaryIO:
    if scheme_of(container) is None:
        return open_binary(_local(container, base))
    picked = options.layout in ("zip", "parquet") or address_path(container).lower().endswith((".zip", ".parquet"))
    return open_stored(container, budget, block=_PICKED if picked else _STREAMED)


def _zip_members(container: str, stream: BinaryIO, names: Sequence[str], limit: int) -> Iterator[tuple[str, bytes]]:
    from allfour.pipeline.archives.zip import ZipTree

    with closing(ZipTree(container, open_file=lambda _: stream)) as tree:
        for name in names:
            content = next(tree.read_all([(unescape_name(name), -1)], limit=limit))
            if not isinstance(content, str):
                yield name, content


def _tar_members(
    container: str, stream: BinaryIO, names: Sequence[str], limit: int, budget: Budget
) -> Iterator[tuple[str, bytes]]:
    from allfour.pipeline.archives.tar_opening import open_tar

    missing = set(names)
    with open_tar(container, by_seek=True, open_file=lambda _: stream) as tar:
        for member in tar:
            budget.check()  # between two members that are wanted may lie hours of others
            name = escape_name(member.name)
            if name in missing and member.regular and member.size <= limit:
                missing.discard(name)
                yield name, tar.read()
            if not missing:
                return


def _parquet_rows(
    container: str, stream: BinaryIO, names: Sequence[str], limit: int, options: ArchiveOptions
) -> Iterator[tuple[str, bytes]]:
    from allfour.pipeline.archives.parquet_file import ParquetFile

    wanted: dict[int, list[tuple[str, int]]] = {}
    for name in names:
        row_name, _, which = name.partition(".")
        if all(part.isascii() and part.isdigit() and len(part) < 19 for part in (row_name, which or "0")):
            wanted.setdefault(int(row_name), []).append((name, int(which or 0)))
    with ParquetFile(container, options, open_file=lambda _: stream) as table:
        ends = list(itertools.accumulate(table.rows_of_groups()))
        groups: dict[int, set[int]] = {}
        for row in wanted:
            group = bisect.bisect_right(ends, row)
            if group < len(ends):
                groups.setdefault(group, set()).add(row)
        for group, rows in groups.items():
            first = ends[group - 1] if group else 0
            for batch in table.batches(range(group, group + 1)):
                for row in sorted(rows & set(range(first, first + batch.num_rows))):
                    images = table.images(rows_of(batch.slice(row - first, 1))[0])
                    for named, number in wanted[row]:
                        data = images[number][0] if number < len(images) else None
                        if data is not None and len(data) <= limit:
                            yield named, data
                first += batch.num_rows
                if first > max(rows):
                    break
