"""Atomic writes: what stands under a name is whole, whenever a process was killed.

Every write is temp file -> fsync -> rename -> fsync of the folder. What is half-written lies aside, under a name that nothing reads.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.pipeline.run import locks

_NAMED = 50
"""Last characters of a file's name that are in that of its temp file: each may take four of the 255 bytes that a name can have."""
_TRIES = 10
"""Times that what is written aside is made again where another process sweeps it away."""


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_place(path: Path) -> None:
    """Raise OSError where a rename to `path` would put a file in the place of a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    # /dev/stdout is a link, and may lead to a file
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or path.parent.resolve() == Path("/dev"):
        raise OSError(errno.EINVAL, "a device, a pipe or a socket: name a file to write to", str(path))


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` whole or not at all.

    Costs two fsyncs; a temp file of a killed process stays behind under a name that nothing reads and that the next run of the
    same folder sweeps away.

    Raises
    ------
    OSError
        It cannot be written, or what stands at `path` is not a file but a device, a pipe or a socket, which a rename would do away with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_place(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _made_aside(path, Path.touch) as temp:
        try:
            with temp.open("r+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temp.replace(path)
            _fsync_folder(path.parent)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _made_aside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A file or folder beside `path`, marked as one that this process is working on.

    Another process may take it for left behind (`sweep_beside`) after it is made and before it is marked: then it is made again.
    """
    for _ in range(_TRIES):
        temp = path.parent / f".tmp-{secrets.token_hex(6)}-{path.name[-_NAMED:]}"
        make(temp)
        with locks.at_work(temp) as marked:
            if marked is None or (marked and temp.exists()):
                yield temp
                return
    raise OSError(errno.EBUSY, "what is made beside it is taken away again and again", str(path))


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder that is made aside and appears at `path` with everything in it, or not at all. An empty one there gives way.

    Raises
    ------
    OSError
        Something stands at `path`.
    """
    with aside_folder(path) as aside:
        yield aside
        if path.is_dir():
            path.rmdir()  # refuses one that holds anything
        aside.rename(path)
        _fsync_folder(path.parent)


@contextlib.contextmanager
def aside_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what shall stand there; what is left of it in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _made_aside(path, Path.mkdir) as aside:
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, path: Path) -> None:
    """Rename a folder to `path`; where somebody's own files are in that one, move its files in there."""
    if path.is_dir():
        for file in sorted(aside.iterdir()):
            file.replace(path / file.name)
        _fsync_folder(path)
    else:
        aside.rename(path)
    _fsync_folder(path.parent)


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files that belong together: in a new folder all of them or none, and never a new one beside one from before.

    Where the folder already exists, files of before make way only once the new ones are whole on the disk. What killed processes left of
    these files is removed.
    """
    for place in (folder, *(folder / name for name in files)):
        sweep_beside(place)
    if not folder.exists() or not any(folder.iterdir()):
        with whole_folder(folder) as aside:
            for name, content in files.items():
                write_atomic(aside / name, content)
        return
    with aside_folder(folder / next(iter(files))) as aside:
        for name, content in files.items():
            write_atomic(aside / name, content)
        for name in files:
            (folder / name).unlink(missing_ok=True)
        for name in files:
            (aside / name).replace(folder / name)
        _fsync_folder(folder)


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left half-written of this very file or folder, which is in no run folder that is locked.

    Only names that `atomic_file` and `whole_folder` give for `path`, and nothing that a process is still working on.
    """
    name = re.compile(r"\.tmp-[0-9a-f]{12}-" + re.escape(path.name[-_NAMED:]))
    with contextlib.suppress(OSError):
        for temp in path.parent.glob(".tmp-*"):
            if not name.fullmatch(temp.name) or temp.is_symlink():
                continue
            with locks.at_work(temp) as free:
                if free and temp.is_dir():
                    shutil.rmtree(temp, ignore_errors=True)
                elif free and temp.is_file():
                    temp.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes so that they stand whole or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def write_first(path: Path, data: bytes, *, whole: Callable[[], bool]) -> None:
    """Write a file where nothing whole stands yet: of several ranks, the first is right for all."""
    if whole():
        return
    aside = path.parent / f".tmp-{secrets.token_hex(6)}-{path.name}"
    with atomic_file(aside) as file:
        file.write(data)
    try:
        os.link(aside, path)
    except OSError:  # another was first; or what stands is damaged, or the disk has no links
        if not whole():
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


_JSON = json.JSONEncoder(indent=1, ensure_ascii=False, allow_nan=False)
_PIECES = 2_000
"""Of a document's text, written at a time: of metrics.json there are some 800 for each prompt, which together take nine times its bytes."""


def json_bytes(value: Any) -> bytes:
    """Indented JSON; not-a-number is refused, since it is no JSON."""
    return b"".join(_json_parts(value))


def write_json(path: Path, value: Any) -> None:
    """Write `json_bytes` atomically, a part at a time."""
    with atomic_file(path) as file:
        for part in _json_parts(value):
            file.write(part)


def _json_parts(value: Any) -> Iterator[bytes]:
    pieces = itertools.chain(_JSON.iterencode(value), ("\n",))
    while part := list(itertools.islice(pieces, _PIECES)):
        yield "".join(part).encode("utf-8", "replace")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically."""
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")
