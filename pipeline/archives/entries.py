"""What a folder says of a file, wherever the folder lies."""

from __future__ import annotations

import os
import stat
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


class Lost(str):
    """What is said of files that may be images, or hold some, and are not read: before a run too, not only where an archive is looked at."""

    __slots__ = ()


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder, or a link to one. Links in a circle, and into places that are closed, are none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Whether this is a regular file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False


_DENIED = "denied"


def local_stamp(path: str, status: os.stat_result) -> int | str:
    """What changes with a file's content: its modification time, in ns.

    A file that this process may not read has another one than when it may, which leaves that time alone: the same command reads it then.
    """
    mode = status.st_mode
    if mode & stat.S_IROTH or (mode & stat.S_IRUSR and status.st_uid == os.geteuid()) or os.access(path, os.R_OK):
        return status.st_mtime_ns
    return f"{status.st_mtime_ns} {_DENIED}"
