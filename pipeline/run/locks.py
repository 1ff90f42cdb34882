"""Advisory locks on open files, for one process or for many that share. A lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import portalocker

try:
    import fcntl
except ImportError:  # no POSIX: what a killed process left cannot be told from what one is writing, and stays
    fcntl = None  # type: ignore[assignment,unused-ignore]


NAME = ".lock"
"""Of the file in a run folder."""
_SIGNED = re.compile(r"(?:(?:[0-9a-f-]{36}|\?)\n)*")
_SIGNATURES = 16 * 2**10
"""Bytes of a lock's file that are looked at."""
_BY = "-by-"
"""In the name of a file beside a lock's, between the lock's name and a machine."""
_UNKNOWN = "unknown"
_MACHINE = re.compile(rf"[0-9a-f-]{{36}}|{_UNKNOWN}")

_PAUSES = (0.02, 0.02, 0.04, 0.1, 0.3)
"""Seconds between tries: a look takes microseconds, but the process that looks may be put aside in the middle of it."""


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
    OSError
        It cannot be locked at all, as on a disk without locks.
    """
    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(file, kind if wait else kind | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        raise LockedError from None
    except portalocker.LockException as error:
        cause = error.__cause__
        code, why = (cause.errno, cause.strerror) if isinstance(cause, OSError) else (None, str(cause))
        raise OSError(code or errno.ENOLCK, f"its lock cannot be taken ({why})", str(file.name)) from None


def take_soon(file: IO[Any], *, shared: bool = False) -> None:
    """`take`, tried again for a moment: somebody may only be looking whether it is held. Raises LockedError, OSError."""
    for pause in _PAUSES:
        try:
            return take(file, shared=shared)
        except LockedError:
            time.sleep(pause)
    return take(file, shared=shared)


def give_back(file: IO[Any]) -> None:
    """Unlock a file that stays open."""
    portalocker.unlock(file)


@functools.cache
def machine() -> str | None:
    """What tells the kernel of this machine, since its last start, from any other: its locks are seen by all of its processes. None
    where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def sign(file: IO[str], path: Path, *, shared: bool = False) -> None:
    """Write down on which machine a lock is held: in its file where it is held alone, and else in a file beside it. Unsigned, it still locks.

    Machines that share a lock may sign at once, and on a network disk one would write over what another has just written: there only
    the making of a file is safe from that. A lock's file that holds anything else, or has another name too, is somebody else's, and
    stays as it is.
    """
    own = machine() or "?"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        before = file.read(_SIGNATURES)
        if not _SIGNED.fullmatch(before) or os.fstat(file.fileno()).st_nlink != 1:
            return
        if shared:
            if own not in before.split():
                path.with_name(f"{path.name}{_BY}{own.replace('?', _UNKNOWN)}").touch(exist_ok=False)
            return
        for signature in _beside(path):
            with contextlib.suppress(OSError):
                signature.unlink()
        file.seek(0)
        file.truncate()
        file.write(own + "\n")
        file.flush()


def _beside(path: Path) -> list[Path]:
    """The files beside a lock's that machines which share it have signed by. Raises OSError."""
    found = [one for one in path.parent.glob(f"{path.name}{_BY}*") if _MACHINE.fullmatch(one.name.rpartition(_BY)[2])]
    return [one for one in found if stat.S_ISREG(one.lstat().st_mode) and not one.lstat().st_size]


def held(path: Path) -> bool | None:
    """Whether a process holds the lock of this file; None where that cannot be told, as of a lock that another machine signed.

    For this it is taken and given back at once: whoever wants it meanwhile tries again (`RunFolder.lock`).
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        inside = os.read(descriptor, _SIGNATURES).decode("ascii", "replace")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks, or one that gives none to a reader
        return None
    finally:
        os.close(descriptor)
    if not _SIGNED.fullmatch(inside):
        return None
    try:
        signed = {*inside.split(), *(one.name.rpartition(_BY)[2] for one in _beside(path))}
    except OSError:  # one is taken away at this very moment
        return None
    return False if signed == {machine()} else None


@contextlib.contextmanager
def at_work(path: Path) -> Iterator[bool | None]:
    """Mark a file or folder as one that this process is working on; False where another process is, or it is gone; None where nobody can
    tell."""
    if fcntl is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    marked: bool | None = True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            marked = False
        except OSError:  # a disk without locks
            marked = None
        yield marked
    finally:
        os.close(descriptor)
