"""A bound on what reading single images again may cost: seconds, and bytes from a storage.

Pictures are for showing. A storage that is slow, or never answers, must cost a report its pictures and nothing else, so
every call to it is waited for no longer than there are seconds left.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar, cast

from allfour.errors import ArchiveError
from allfour.pipeline.archives.remote import filesystem, show_address, unreachable

_REQUEST = 64 * 2**20
_SKIPPED = 2**20

T = TypeVar("T")


class BudgetSpentError(ArchiveError):
    """The seconds or bytes that reading may take are gone."""


class Budget:
    """Seconds on the clock from now on, and bytes from storages; None for no bound.

    `spent` becomes true when something was left unread for it. Bytes may exceed the bound by one request.
    """

    def __init__(self, *, seconds: float | None = None, size: int | None = None) -> None:
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._left = size
        self.spent = False

    def check(self) -> None:
        """Raises BudgetSpentError where nothing is left."""
        if (self._ends is not None and time.monotonic() >= self._ends) or (self._left is not None and self._left <= 0):
            self._stop()

    def take(self, size: int) -> None:
        """Account for bytes that a storage sent."""
        if self._left is not None:
            self._left -= size

    def wait(self, call: Callable[[], T]) -> T:
        """What a call to a storage returns.

        It runs in a thread of its own, which is left alone when the seconds are over: storages offer no common way to
        break off a call. Nothing is parsed there, so that it may end at any moment, the process's end included.

        Raises
        ------
        BudgetSpentError
            Nothing is left, or the call did not return in time.
        """
        self.check()
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((call(), None))
            except BaseException as error:
                answers.put((None, error))

        threading.Thread(target=run, daemon=True, name="storage").start()
        try:
            answer, error = answers.get(timeout=None if self._ends is None else max(0.0, self._ends - time.monotonic()))
        except queue.Empty:
            self._stop()
        if error is not None:
            raise error
        return cast(T, answer)

    def _stop(self) -> None:
        self.spent = True
        raise BudgetSpentError("reading the images again took more time or bytes than it may") from None


def open_stored(location: str, budget: Budget, *, block: int) -> BinaryIO:
    """Open a file at an address for reading and seeking within a budget, `block` bytes to a request.

    A server that sends whole files only is read from the start: seeking forward reads on, and seeking back is an error.

    Raises
    ------
    ArchiveError
        If it cannot be opened; BudgetSpentError if that takes too long.
    """
    return cast(BinaryIO, io.BufferedReader(_StoredFile(location, budget), block))


class _StoredFile(io.RawIOBase):
    """A file of a storage without a cache: what is read is what was asked for, and is counted."""

    def __init__(self, location: str, budget: Budget) -> None:
        super().__init__()
        self._location = location
        self._budget = budget
        self._file: Any = None
        self._file = self._wait(self._opened)
        self._streams = getattr(self._file, "size", None) is None

    def _opened(self) -> Any:
        fs, path = filesystem(self._location)
        return fs.open(path, "rb", block_size=_SKIPPED, cache_type="none")

    def _wait(self, call: Callable[[], T]) -> T:
        try:
            return self._budget.wait(call)
        except ArchiveError:
            raise
        except Exception as error:
            raise unreachable(self._location, error) from None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(min(len(buffer), _REQUEST))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        if not self._streams:
            size = min(size, max(0, self._file.size - self._file.tell()))
        if not size:
            return b""
        data = bytes(self._wait(lambda: self._file.read(size)))
        self._budget.take(len(data))
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self._streams:
            return int(self._file.seek(offset, whence))
        target = offset + (self._file.tell() if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < self._file.tell():
            raise ArchiveError(f"{show_address(self._location)} can only be read from its start")
        while target > self._file.tell() and self._read(min(_SKIPPED, target - self._file.tell())):
            pass
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed and self._file is not None:
            with suppress(Exception):  # a call that was given up may still be using it
                self._file.close()
        super().close()
