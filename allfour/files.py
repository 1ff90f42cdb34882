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


def read_regular(path: Path, *, limit: int | None = None) -> bytes:
    """The bytes of a regular file.

    Parameters
    ----------
    limit
        Bytes that it may have; None: any number.

    Raises
    ------
    OSError
        It cannot be read, is larger, or is a pipe, a socket, a device or a folder.
    """
    with open_regular(path) as file:
        data = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(data) > limit:
        raise OSError(errno.EINVAL, f"larger than {limit} bytes", str(path))
    return data


def sha256_of(path: Path) -> str:
    """sha256 of a regular file, in hexadecimal. Raises OSError as `read_regular` does."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """A regular file, open for reading. Raises OSError as `read_regular` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError:  # a zero byte in the name, which a table of paths may hold
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        yield file
