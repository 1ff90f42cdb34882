"""Ranks: processes that share the work of one run folder, each with files of its own there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from allfour.errors import RunFolderError, UsageError
from allfour.pipeline.run import locks
from allfour.pipeline.run.folder import RunFolder, utc_now
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.run.program import package_versions
from allfour.pipeline.run.writing import write_json


def check_rank(rank: int, world_size: int) -> None:
    """Raise UsageError where there is no such rank."""
    if world_size < 1 or not 0 <= rank < world_size:
        raise UsageError(f"--rank {rank} --world-size {world_size}: ranks run from 0 to world size - 1")


def write_record(run: RunFolder, rank: int, world_size: int, *, started: str, **facts: Any) -> None:
    """Write RUN/ranks/rank-R-of-N.json: what a rank did that is done now, with what, and when it began."""
    record = {**facts, "started": started, "finished": utc_now(), "versions": package_versions()}
    write_json(run.ranks_folder / f"rank-{rank}-of-{world_size}.json", record)


@contextlib.contextmanager
def one_world(run: RunFolder, size: int) -> Iterator[None]:
    """Ranks of one world size at a time: those of another would make the same images.

    Raises
    ------
    RunFolderBusyError
        Ranks of another world size are at work.
    RunFolderError
        The file that they agree by is none.
    """
    try:
        opened = locks.open_lock(run.path / ".lock-world")
    except OSError as error:
        raise RunFolderError(f"{run.path / '.lock-world'}: cannot be used: {error.strerror}. Move it aside") from None
    with opened as file:
        try:
            locks.take(file)
        except locks.LockedError:
            pass  # others are at work
        else:
            file.truncate(0)
            file.write(str(size))
            file.flush()
            locks.give_back(file)
        locks.take(file, shared=True, wait=True)
        file.seek(0)
        if (found := file.read()) != str(size):
            raise RunFolderBusyError(
                f"run folder {run.path}: ranks of --world-size {found} are at work. Wait for them, or use their world size"
            )
        yield
