"""Members of a tar, one after the other, from a stream.

Read here and not by `tarfile`, which believes sizes: a long-name or pax header may claim gigabytes, and tarfile reads
them into memory. Here headers are capped, contents are read only when asked for, and names are text, never paths.
Understood: ustar, GNU long names, pax path and size, base-256 sizes. Sparse files and links have no content.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
MAX_HEADER_BYTES = 2**20
_SKIP_BYTES = 2**20
_LARGEST = 2**60
"""Bytes that a member may claim: no file has more, and no stream can be told to step over 2**63."""


class BrokenTarError(Exception):
    """The stream is not a tar, or is damaged from here on. The message says what, without a path."""


@dataclass(frozen=True, slots=True)
class TarMember:
    name: str
    """As stored, bytes that are not UTF-8 kept by surrogate escapes."""
    size: int
    regular: bool
    """A plain file; false for folders, links, devices and sparse files."""


class TarStream:
    """Iterate over members; `read` gives the content of the one just yielded.

    Raises
    ------
    BrokenTarError
        While iterating or reading, where the stream ends early or makes no sense.
    """

    def __init__(self, stream: BinaryIO, *, by_seek: bool = False) -> None:
        self._stream = stream
        self._by_seek = by_seek
        """Step over contents without reading them. A stream that ends inside one is then not noticed."""
        self._left = 0
        """Bytes of the current member, padding included, that the stream still holds."""
        self._unread = 0
        self.offset = 0
        """Bytes taken from the stream."""

    def __iter__(self) -> Iterator[TarMember]:
        long_name: str | None = None
        pax: dict[str, str] = {}
        first = True
        while True:
            self._skip()
            header = self._take(BLOCK, at_end=True)
            if not header:
                return  # without the two zero blocks, as some writers leave it
            if not any(header):
                return
            if not _checksum_holds(header):
                raise BrokenTarError("this is no tar file" if first else f"damaged at byte {self.offset - BLOCK:,}")
            first = False
            size = _number(header[124:136])
            kind = header[156:157]
            if kind in (b"L", b"K", b"x", b"g", b"X"):
                content = self._meta(size)
                if kind == b"L":
                    long_name = _text(content.rstrip(b"\0"))
                elif kind in (b"x", b"X"):
                    pax = _pax(content)
                continue
            if "size" in pax:
                size = _pax_size(pax["size"])
            if size > _LARGEST:
                raise BrokenTarError(f"a header with a size that is none at byte {self.offset - BLOCK:,}")
            name = pax.get("path") or long_name or _ustar_name(header)
            regular = kind in (b"0", b"\0", b"7") and "GNU.sparse.realsize" not in pax and "GNU.sparse.size" not in pax
            if kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
                size = 0  # links, devices and folders have no content, whatever size they state
            long_name, pax = None, {}
            self._unread = size
            self._left = -(-size // BLOCK) * BLOCK
            yield TarMember(name, size, regular)

    def read(self) -> bytes:
        """Content of the current member. The caller has looked at its size."""
        data = self._take(self._unread)
        self._left -= self._unread
        self._unread = 0
        return data

    def check_end(self) -> None:
        """Read what is left of the stream behind the last member: zeros, where it is whole.

        Raises
        ------
        BrokenTarError
            There is more, as where tars were joined (`cat a.tar b.tar`), or a gzip's checksum is wrong.
        """
        while data := self._stream.read(_SKIP_BYTES):
            if data.count(0) < len(data):
                raise BrokenTarError(
                    "more follows its end, as where several tars were joined: unpack it with tar -xif, and give the folder"
                )

    def _meta(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise BrokenTarError(f"a header of {size:,} bytes at byte {self.offset - BLOCK:,}")
        return self._take(-(-size // BLOCK) * BLOCK)[:size]

    def _skip(self) -> None:
        if self._by_seek and self._left:
            self._stream.seek(self._left, io.SEEK_CUR)
            self.offset += self._left
            self._left = 0
        while self._left:
            step = min(self._left, _SKIP_BYTES)
            self._take(step)
            self._left -= step
        self._unread = 0

    def _take(self, size: int, *, at_end: bool = False) -> bytes:
        data = self._stream.read(size)
        while 0 < len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                break
            data += more
        self.offset += len(data)
        if len(data) < size and not (at_end and not data):
            raise BrokenTarError("the tar is cut short")
        return data


def _checksum_holds(header: bytes) -> bool:
    try:
        stated = _number(header[148:156])
    except BrokenTarError:
        return False
    plain = sum(header[:148]) + 8 * 32 + sum(header[156:])
    if stated == plain:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in header[:148] + header[156:]) + 8 * 32
    return stated == signed  # as some old programs summed


_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.match(field)
    if match is None:
        raise BrokenTarError("a header with a number that is none")
    return int(match[1] or b"0", 8)


def _ustar_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:262] == b"ustar" and header[262:263] == b"\0":
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    return _text(name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(content: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        length_text, found, _ = content[at : at + 20].partition(b" ")
        if not found or not length_text.isdigit():
            break
        length = int(length_text)
        record = content[at + len(length_text) + 1 : at + length]
        if length <= len(length_text) + 1 or not record.endswith(b"\n"):
            break
        key, _, value = record[:-1].partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            records[_text(key)] = _text(value)
        at += length
    return records


def _pax_size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BrokenTarError("a header with a size that is none")
    return int(text)
