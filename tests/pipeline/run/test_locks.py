"""The lock of a run folder: one writer, ranks that share, and who only looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.run import locks
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.ranks import one_world


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path).lock():
        with pytest.raises(RunFolderError, match="another allfour process"), RunFolder(tmp_path).lock():
            pass
    with RunFolder(tmp_path).lock():
        pass


def test_a_lock_that_leads_elsewhere_is_not_opened(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("my notes")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in (".lock", ".lock-world"):
        (run.path / name).symlink_to(mine)
    with pytest.raises(RunFolderError, match="cannot be written"), run.lock():
        pass
    with pytest.raises(RunFolderError, match="cannot be used"), one_world(run, 2):
        pass
    assert mine.read_text() == "my notes"
    (run.path / ".lock").unlink()
    os.mkfifo(run.path / ".lock")
    with pytest.raises(RunFolderError, match="no regular file"), run.lock():
        pass


def test_a_lock_is_signed_and_what_is_no_lock_of_ours_is_not_written_to(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    lock = tmp_path / ".lock"
    for shared in (False, True, True):
        with run.lock(shared=shared):
            pass
        assert lock.read_text() == f"{locks.machine() or '?'}\n"
    lock.write_text("of another program")
    with run.lock():
        pass
    assert lock.read_text() == "of another program"
    lock.write_text("")
    (tmp_path / "other name").hardlink_to(lock)
    with run.lock():
        pass
    assert lock.read_text() == ""


def test_looking_at_a_lock_turns_nobody_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder(tmp_path).lock():
        pass
    looking = (tmp_path / ".lock").open()
    locks.take(looking, shared=True)  # as `held` does, for longer
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: looking.close())
    with RunFolder(tmp_path).lock():
        assert locks.held(tmp_path / ".lock")
