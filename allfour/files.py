"""Reading files that somebody else may have put there: only regular ones. A pipe or a device would be waited on for ever."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises
    ------
    OSError
        It cannot be read, or is a pipe, a socket, a device or a folder.
    """
    with _regular(path) as file:
        return file.read()


def sha256_of(path: Path) -> str:
    """sha256 of a regular file, in hexadecimal. Raises OSError as `read_regular` does."""
    with _regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _regular(path: Path) -> Iterator[io.BufferedReader]:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        yield file
