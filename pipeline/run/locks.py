"""Advisory locks on open files, for one process or for many that share. A lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import portalocker

try:
    import fcntl
except ImportError:  # no POSIX: what a killed process left cannot be told from what one is writing, and stays
    fcntl = None  # type: ignore[assignment,unused-ignore]


class LockedError(Exception):
    """Another process holds the lock."""


def open_lock(path: Path) -> IO[str]:
    """The file of a lock, made where there is none. Raises OSError where something else stands in its place, be it a link elsewhere."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)  # a network disk wants it readable for a shared lock
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "its lock is no regular file", str(path))
    return os.fdopen(descriptor, "r+", encoding="utf-8")


def take(file: IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Lock a file until it is closed. What this process holds on it so far is given up first.

    Parameters
    ----------
    shared
        Many may hold it at once, and nobody alone meanwhile.
    wait
        Until whoever holds it lets go.

    Raises
    ------
    LockedError
        Another process holds it, and `wait` is False.
    """
    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(file, kind if wait else kind | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        raise LockedError from None


def give_back(file: IO[Any]) -> None:
    """Unlock a file that stays open."""
    portalocker.unlock(file)


@contextlib.contextmanager
def at_work(path: Path) -> Iterator[bool]:
    """Mark a file or folder as one that this process is working on; False where another process is, or nobody can tell."""
    if fcntl is None:
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a disk without locks
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
