"""Opening a tar: plain or gzipped as its first bytes say, here or at an address, with a bound on how far it may expand."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from allfour.pipeline.archives.remote import open_binary, scheme_of
from allfour.pipeline.archives.tar_stream import BrokenTarError, TarStream

_BOMB_BYTES = 2**30
_BOMB_RATIO = 200


class ReportedError(Exception):
    """The stream is broken, and a row says so: no error of its own."""


@contextlib.contextmanager
def open_tar(
    file: str, *, by_seek: bool = False, open_file: Callable[[str], BinaryIO] = open_binary
) -> Iterator[TarStream]:
    """Open a tar, plain or gzipped as its first bytes say and whatever its name, here or at an address.

    Raises
    ------
    ArchiveError
        If it cannot be opened.
    BrokenTarError
        From within, if it is damaged, or no tar.
    """
    with open_file(file) as raw:
        try:
            head = raw.read(_HEAD_BYTES)
            stream = cast(BinaryIO, _Begun(head, raw))
            other = next((what for magic, what in _OTHERS.items() if head.startswith(magic)), None)
            if other is not None:
                raise BrokenTarError(f"this is no tar but {other}")
            if head.startswith(_GZIP):
                yield TarStream(cast(BinaryIO, _Gunzip(stream)))
            else:
                yield TarStream(stream, by_seek=by_seek)
        except ReportedError:
            return
        except OSError as error:
            raise BrokenTarError(f"the tar cannot be read on: {error.strerror or 'the storage breaks off'}") from error


_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"BZh": "bzip2: unpack it first",
    b"\xfd7zXZ": "xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it first",
    b"PK\x03\x04": "a zip: name it .zip, or set archive.layout to zip",
    b"PAR1": "a parquet file: name it .parquet, or set archive.layout to parquet",
}
_HEAD_BYTES = 6


class _Begun:
    """A stream whose first bytes were read already: not every server sends a file from its start twice."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        taken = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(taken) :]
        return taken + self._rest.read(-1 if size < 0 else size - len(taken))

    def seek(self, offset: int, whence: int) -> int:
        """Onward alone, as a tar's reader does once the first header is read."""
        assert whence == io.SEEK_CUR and not self._head
        return self._rest.seek(offset, whence)

    def tell(self) -> int:
        return self._rest.tell() - len(self._head)


class _Gunzip:
    """Gzip with a bound on how far it may expand."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._file = gzip.GzipFile(fileobj=raw, mode="rb")
        self._total = 0

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BrokenTarError(f"the gzip is {'cut short' if isinstance(error, EOFError) else 'damaged'}") from error
        self._total += len(data)
        if self._total > _BOMB_BYTES and self._total > _BOMB_RATIO * max(1, self._raw.tell()):
            raise BrokenTarError(f"it expands more than {_BOMB_RATIO} times: refused as a decompression bomb")
        return data


def plain_and_here(file: str) -> bool:
    if scheme_of(file) is not None:
        return False
    try:
        with open_binary(file) as stream:
            return not stream.read(2).startswith(_GZIP)
    except OSError:  # reading it will say so
        return False
