"""Standard output and error that can be lost: a disk that is full behind `>`, a reader of a pipe that went away.

What a command was asked for is on disk before it prints, so a lost standard output is one error that says so, and never the
exit code of a gate or of a fault of ours. Lost standard error stops nothing: what it would have said is not what was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

EXIT_PIPE = 141
"""128 + SIGPIPE: the code that a shell gives to a program that a broken pipe has ended."""

_STDOUT, _STDERR = 1, 2


class OutputLostError(Exception):
    """Standard output takes nothing more. No OSError: who handles errors of files is not to take it for one of them."""

    def __init__(self, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        super().__init__(
            f"standard output cannot be written: {reason}. What was finished is kept; let the output go to a place that takes it, "
            "and repeat the same command"
        )
        self.broken_pipe = error.errno == errno.EPIPE


class _Loud(io.FileIO):
    """Standard output itself, below its buffers."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _point_at_nothing(self.fileno())
            raise OutputLostError(error) from None


class _Quiet(io.FileIO):
    """Standard error itself, below its buffers."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            _point_at_nothing(self.fileno())
            return super().write(data)


def _point_at_nothing(number: int) -> None:
    """What is left in the buffers goes nowhere: else Python fails once more as it ends, with an exit code of its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Within it, lost standard output raises `OutputLostError` (also for what was still in buffers), and lost standard error nothing.

    Streams that are not the process's own (a test's, a notebook's), or that are closed, are left alone.
    """
    before = sys.stdout, sys.stderr
    sys.stdout = _over(sys.stdout, _STDOUT, _Loud)
    sys.stderr = _over(sys.stderr, _STDERR, _Quiet)
    ours = sys.stdout
    try:
        try:
            yield
        finally:
            if ours is not before[0]:
                ours.flush()
    finally:
        if sys.stderr is not before[1]:
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _errors(stream: TextIO) -> str:
    """What becomes of characters that a stream's encoding lacks, such as a minus sign in Latin-1: an escape, and never an error. Bytes of a
    file's name that are no UTF-8 go out as they are."""
    utf8 = (stream.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")
    if utf8:
        return "surrogateescape" if stream.errors == "strict" else stream.errors or "strict"
    return "backslashreplace"


def _over(stream: TextIO, number: int, kind: type[io.FileIO]) -> TextIO:
    try:
        if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
            return stream
        stream.flush()
    except (OSError, ValueError):
        return stream
    raw = kind(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=_errors(stream),
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
