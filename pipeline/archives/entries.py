"""What a folder says of a file, wherever the folder lies."""

from __future__ import annotations

from typing import NamedTuple

SNIFF_BYTES = 256
"""First bytes of a file by which its kind is told."""


class FileEntry(NamedTuple):
    """A file as its folder lists it."""

    name: str
    """Last path component."""
    size: int
    """Bytes; -1 where unknown."""
    stamp: int | str
    """Changes with the content: modification time in ns, an etag, a checksum."""
