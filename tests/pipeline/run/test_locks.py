"""The lock of a run folder: one writer, ranks that share, and who only looks."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import IO

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


def test_no_signature_is_lost_where_two_machines_sign_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second signs after the first has looked where to write, and before it does."""
    path = tmp_path / ".lock"
    here, there = str(uuid.uuid4()), str(uuid.uuid4())
    signed: list[str] = []

    class Overtaken:
        def __init__(self, file: IO[str]) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def write(self, text: str) -> int:
            sign_there()
            return self._file.write(text)

    def sign_there() -> None:
        with monkeypatch.context() as moved, locks.open_lock(path) as file:
            moved.setattr(locks, "machine", lambda: there)
            locks.sign(file, path, shared=True)
            signed.append(there)

    monkeypatch.setattr(locks, "machine", lambda: here)
    with locks.open_lock(path) as file:
        locks.sign(Overtaken(file), path, shared=True)  # type: ignore[arg-type]
    if not signed:
        sign_there()
    for machine in (here, there):
        monkeypatch.setattr(locks, "machine", lambda machine=machine: machine)
        assert locks.held(path) is None  # either may have a rank at work


def test_who_holds_a_lock_alone_afterwards_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lock = RunFolder(tmp_path), tmp_path / ".lock"
    (tmp_path / ".lock-by-me").write_text("my notes")
    for machine in (str(uuid.uuid4()), None):
        with monkeypatch.context() as moved:
            moved.setattr(locks, "machine", lambda machine=machine: machine)
            for _ in range(2):
                with run.lock(shared=True):
                    pass
    assert lock.read_text() == ""
    assert len(list(tmp_path.glob(".lock-by-*"))) == 3
    assert locks.held(lock) is None
    with run.lock():
        pass
    assert lock.read_text() == f"{locks.machine() or '?'}\n"
    assert [one.name for one in tmp_path.glob(".lock-by-*")] == [".lock-by-me"]
    with run.lock(shared=True):
        assert locks.held(lock)
    assert locks.held(lock) is (False if locks.machine() else None)
