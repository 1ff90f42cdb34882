"""What became of every request, line by line: RUN/outcomes.jsonl, and one such file per rank."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import zlib
from pathlib import Path
from typing import IO

from allfour.border import read_json
from allfour.errors import RunFolderError
from allfour.files import open_regular, read_regular
from allfour.pipeline.run import locks
from allfour.pipeline.run.outcome import Outcome


class RunFolderBusyError(RunFolderError):
    """Another process holds the run folder's lock."""


class Journal:
    """Append-only JSON lines, each with its checksum and fsynced: what is known for sure after a kill at any moment.

    The last line of a killed process may be torn; it is cut off when the journal is opened again. One process at a time has it
    open for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return self._path.name

    def read(self) -> tuple[list[Outcome], int]:
        """Every whole line that can be read, in order, and how many cannot."""
        try:
            data = read_regular(self._path)
        except FileNotFoundError:
            return [], 0
        lines = [_outcome_or_none(line) for line in data.split(b"\n")[:-1]]
        outcomes = [outcome for outcome in lines if outcome is not None]
        return outcomes, len(lines) - len(outcomes)

    def read_on(self, offset: int) -> tuple[list[Outcome], int]:
        """Whole lines from `offset` on, and where the next look begins; one that lies beyond the file begins anew, at 0."""
        try:
            with open_regular(self._path) as file:
                offset = offset if offset <= file.seek(0, os.SEEK_END) else 0
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], 0
        whole = data.rfind(b"\n") + 1
        lines = [_outcome_or_none(line) for line in data[:whole].split(b"\n")[:-1]]
        return [outcome for outcome in lines if outcome is not None], offset + whole

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(self._opened())
            try:
                locks.take(file)
            except locks.LockedError:
                raise RunFolderBusyError(
                    f"{self._path}: another allfour process is writing to it. Wait for it, or choose another rank or run folder"
                ) from None
            file.seek(0)
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
            stack.pop_all()
        self._file = file
        return self

    def _opened(self) -> IO[bytes]:
        """Its file, made where there is none; never truncates what a process writes that came first.

        A link is not followed: a run folder may come from anywhere, and what is written here could be anybody's.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
            flags |= getattr(os, name, 0)
        try:
            descriptor = os.open(self._path, flags, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise RunFolderError(
                f"{self._path}: a link, which is not written through. Put the file itself there"
            ) from None
        return os.fdopen(descriptor, "a+b")

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, outcome: Outcome) -> None:
        """Write one line and wait until the disk has it."""
        if self._file is None:
            raise RuntimeError("the journal is not open")
        self._file.write(_line(outcome) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


_CHECK = re.compile(rb', "crc32": ([0-9]{1,10})\}$')


def _line(outcome: Outcome) -> bytes:
    text = json.dumps(outcome.line(), ensure_ascii=True).encode()
    return b'%s, "crc32": %d}' % (text[:-1], zlib.crc32(text))


def _outcome_or_none(line: bytes) -> Outcome | None:
    check = _CHECK.search(line)  # lines of earlier versions have none
    if check is not None:
        line = line[: check.start()] + b"}"
        if zlib.crc32(line) != int(check[1]):
            return None
    try:
        return Outcome.model_validate(read_json(line))
    except (ValueError, RecursionError):  # a ValidationError is a ValueError
        return None
