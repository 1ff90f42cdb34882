"""The folder of a run while a command works in it: made and locked, and taken away again where nothing came of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from allfour.errors import RunFolderError
from allfour.pipeline.run import locks
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.run.record import STUDY_FILE

_SIGNS = ("run.json", locks.NAME, STUDY_FILE, "outcomes*.jsonl", "parts/part-*.json")
"""Patterns of what is in a run from its start on; any of them says that the rest is of allfour too."""
_NAMES = (
    "images.parquet",
    "images",
    "scores.parquet",
    "embeddings",
    "parts",
    "ranks",
    "metrics.json",
    "prompts.csv",
    "report.html",
    "report",
    "review",
    "cells",
    "study.html",
)
"""What commands write there."""
_TRIES = 100
"""Times that a folder may be taken away by whoever held it before somebody else gives up."""


@contextlib.contextmanager
def held(folder: Path, *, shared: bool, option: str | None) -> Iterator[None]:
    """See `RunFolder.lock`."""
    other = f"choose another with {option}" if option else None
    try:
        if names := _in_the_way(folder):
            raise RunFolderError(
                f"run folder {folder}: it holds {', '.join(names)} but no run.json, so it is not a run folder of allfour, which would "
                f"overwrite {'it' if len(names) == 1 else 'them'}. {other.capitalize() if other else 'Name the folder of a run'}"
            )
        new = not folder.exists()
        file = _locked(folder / locks.NAME, shared=shared)
    except OSError as error:
        raise RunFolderError(
            f"run folder {folder}: cannot be written: {error.strerror}. "
            + (other.capitalize() if other else "Make it writable, or work on a copy")
        ) from None
    except locks.LockedError:
        raise RunFolderBusyError(
            f"run folder {folder}: another allfour process is writing to it. Wait for it, "
            + (f"or {other}" if other else "and repeat the command")
        ) from None
    with file:
        locks.sign(file, folder / locks.NAME, shared=shared)
        try:
            yield
        except BaseException:
            if new and not shared:
                _take_away(folder)
            raise


def _in_the_way(folder: Path) -> list[str]:
    """Names under which a run writes, in a folder where no command of allfour has been.

    The names are looked at before the signs: whoever writes under one holds the lock by then, so that a rank which begins between
    the two looks is never taken for somebody else.
    """
    names = [name for name in _NAMES if os.path.lexists(folder / name)]
    if names and any(True for sign in _SIGNS for _ in folder.glob(sign)):
        return []
    return names


def _locked(path: Path, *, shared: bool) -> IO[str]:
    """The lock of a folder, which is made. Raises OSError, or LockedError where another process holds it."""
    for _ in range(_TRIES):
        with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):  # taken away meanwhile
            _make(path.parent)
            file = stack.enter_context(locks.open_lock(path))
            locks.take_soon(file, shared=shared)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                stack.pop_all()
                return file
    raise locks.LockedError


def _make(folder: Path) -> None:
    """A folder, and those above it, where there is none. Raises OSError: FileNotFoundError where one was, and is taken away meanwhile."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        # looked at once: between two looks it could be taken away by its maker and made by another
        mode = folder.lstat().st_mode
        if not (stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and folder.is_dir())):
            raise


def _take_away(folder: Path) -> None:
    """Remove a folder that holds a lock, held by this process, and nothing else."""
    with contextlib.suppress(OSError):
        if [one.name for one in folder.iterdir()] == [locks.NAME]:
            (folder / locks.NAME).unlink()
            folder.rmdir()
