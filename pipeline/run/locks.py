"""Advisory locks on open files, for one process or for many that share. A lock ends with its process, however that ends."""

from __future__ import annotations

from typing import IO, Any

import portalocker


class LockedError(Exception):
    """Another process holds the lock."""


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
