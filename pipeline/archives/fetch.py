"""Bytes of single images by the `path` that their row names: for reports and reviews, which show a few of many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa

from pipeline.archives.base import ArchiveError
from pipeline.archives.folder import read_file
from pipeline.archives.options import ArchiveOptions
from pipeline.archives.parquet import ParquetFile
from pipeline.archives.remote import RemoteTree, open_binary, scheme_of
from pipeline.archives.tar import open_tar
from pipeline.archives.tar_stream import BrokenTarError
from pipeline.archives.text import escape_name, unescape_name
from pipeline.archives.zip import ZipTree

DEFAULT_LIMIT = 64 * 2**20


def fetch(
    paths: Iterable[str],
    *,
    base: str | os.PathLike[str] = ".",
    limit: int = DEFAULT_LIMIT,
    remote: bool = False,
    options: ArchiveOptions | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Read images by the paths in a table: files, addresses, and members of tars, zips and parquet files.

    Every container is read once, however many of its members are asked for.

    Args:
        paths: values of the column `path` of images.parquet.
        base: what relative paths are relative to, such as the run folder.
        limit: larger files are left out.
        remote: whether to go to addresses too.
        options: the reading options of the archive; parquet files under other column names need them.

    Yields:
        (path, bytes) of those that can be read, in no certain order. The others are left out: this is for showing, the
        rows have the reasons.
    """
    files: list[str] = []
    members: dict[str, set[str]] = {}
    for path in dict.fromkeys(paths):
        if scheme_of(path) is not None and not remote:
            continue
        container, member = _split(path, base)
        if member:
            members.setdefault(container, set()).add(member)
        else:
            files.append(path)
    for path in files:
        content = _file(path, base, limit)
        if content is not None:
            yield path, content
    for container, names in members.items():
        with suppress(ArchiveError, BrokenTarError, pa.ArrowException, OSError):
            for name, content in _members(container, names, base, limit, options or ArchiveOptions()):
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


def _file(path: str, base: str | os.PathLike[str], limit: int) -> bytes | None:
    if scheme_of(path) is not None:
        folder, _, name = path.rpartition("/")
        with suppress(ArchiveError):
            content = next(RemoteTree(folder).read_all([(name, -1)], limit=limit))
            return None if isinstance(content, str) else content
        return None
    content = read_file(_local(path, base), limit=limit)
    return None if isinstance(content, str) else content


def _members(
    container: str, names: set[str], base: str | os.PathLike[str], limit: int, options: ArchiveOptions
) -> Iterator[tuple[str, bytes]]:
    file = container if scheme_of(container) is not None else _local(container, base)
    with open_binary(file) as stream:
        head = stream.read(4)
    if head == b"PK\x03\x04":
        with closing(ZipTree(file)) as tree:
            for name in names:
                content = next(tree.read_all([(unescape_name(name), -1)], limit=limit))
                if not isinstance(content, str):
                    yield name, content
    elif head == b"PAR1":
        yield from _parquet_rows(file, names, limit, options)
    else:
        yield from _tar_members(file, names, limit)


def _tar_members(file: str, names: set[str], limit: int) -> Iterator[tuple[str, bytes]]:
    missing = set(names)
    with open_tar(file, by_seek=True) as stream:
        for member in stream:
            name = escape_name(member.name)
            if name in missing and member.regular and member.size <= limit:
                missing.discard(name)
                yield name, stream.read()
            if not missing:
                return


def _parquet_rows(file: str, names: set[str], limit: int, options: ArchiveOptions) -> Iterator[tuple[str, bytes]]:
    rows: Mapping[int, str] = {int(name): name for name in names if name.isascii() and name.isdigit()}
    with ParquetFile(file, options) as table:
        first = 0
        for group, count in enumerate(table.rows_of_groups()):
            if any(first <= row < first + count for row in rows):
                at = first
                for batch in table.batches(range(group, group + 1)):
                    for values in batch.to_pylist():
                        if at in rows:
                            data = table.row(values)[1]
                            if data is not None and len(data) <= limit:
                                yield rows[at], data
                        at += 1
            first += count
