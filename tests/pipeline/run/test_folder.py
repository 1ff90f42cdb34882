from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.commands import audit_ranks
from allfour.pipeline.run import locks
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import (
    RunFolder,
    atomic_file,
    fingerprint,
    sweep_beside,
    sweep_temp_files,
    whole_folder,
    write_atomic,
    write_together,
)
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.outcome import Outcome


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x"
    write_atomic(path, b"old")

    def half_written() -> None:
        with atomic_file(path) as file:
            file.write(b"ne")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        half_written()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """As root a rename would also do away with /dev/null, for everybody on the machine."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OSError, match="name a file to write to"), atomic_file(path) as file:
            file.write(b"x")
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    half = tmp_path / "images" / "nurse" / ".tmp-0123456789ab-0.png"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    theirs = [
        tmp_path / ".tmp-mine",
        half.with_name(".tmp-notes-0123456789ab"),
        tmp_path / "kept" / ".tmp-0123456789ab-x",
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a user's own")
    sweep_temp_files(tmp_path)
    assert half.exists()  # no run yet: anybody's folder
    RunFolder(tmp_path).update_header(kind="audit")
    sweep_temp_files(tmp_path)
    assert not half.exists()
    assert all(path.exists() for path in theirs)


def test_a_folder_of_many_files_is_whole_or_absent(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "out") as aside:
            (aside / "a").write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("whole")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]


def test_fingerprints_do_not_depend_on_order_of_keys_or_process() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    other = subprocess.run(
        [sys.executable, "-c", "from allfour.pipeline.run.folder import fingerprint; print(fingerprint({'a': [1, 'x']}))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.strip() == fingerprint({"a": [1, "x"]})


def test_stage_is_done_only_with_table_and_fingerprint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.commit_stage("scores", "f1", seconds=1.0)
    assert not run.stage_done("scores", "f1", run.scores_path)
    run.scores_path.write_bytes(b"x")
    assert not run.stage_done("scores", "f1", run.scores_path)
    pq.write_table(pa.table({"a": [1]}), run.scores_path)
    assert run.stage_done("scores", "f1", run.scores_path)
    assert not run.stage_done("scores", "f2", run.scores_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}'])
def test_a_foreign_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        RunFolder(tmp_path).header()


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
    with pytest.raises(RunFolderError, match="cannot be used"), audit_ranks._world(run, 2):
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


def test_a_file_in_the_place_of_a_folder_and_the_other_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").touch()
    with pytest.raises(RunFolderError, match=f"it is a file. Name the folder of a run, such as {tmp_path}"):
        RunFolder(tmp_path / "report.html").scored_header()
    with pytest.raises(RunFolderError, match=f"is a file; name the folder of a run, such as {tmp_path}"):
        read_header(tmp_path / "report.html")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError) as error:
        write_atomic(Path(), b"")
    assert error.value.filename == "."


def test_a_run_folder_whose_name_is_no_text_is_one_error(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r\udcff")
    run.path.mkdir()
    for use in (lambda: run.lock().__enter__(), run.scored_header, run.check_measured):
        with pytest.raises(RunFolderError, match=r"r\\udcff: its name is no Unicode text"):
            use()


def refused(index: int) -> Outcome:
    return Outcome(prompt_id="a", index=index, fingerprint="f", status="refused", error="no")


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append(refused(1))
        journal.append(refused(2))
    with path.open("ab") as file:
        file.write(b'{"a": 3')
    assert Journal(path).read() == ([refused(1), refused(2)], 0)
    with Journal(path) as journal:
        journal.append(refused(4))
    assert Journal(path).read() == ([refused(1), refused(2), refused(4)], 0)
    line = json.loads(path.read_text().splitlines()[2])
    assert line.pop("crc32")
    assert line == refused(4).line()


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if folder else f"file of {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomic(tmp_path / "x", b"data")
    assert done == ["file of 4 bytes", "rename", "folder"]


def test_what_a_killed_process_left_of_a_file_is_swept_and_what_one_is_writing_is_not(tmp_path: Path) -> None:
    target = tmp_path / "calibration.json"
    (tmp_path / ".tmp-0123456789ab-calibration.json").write_text("half")
    (tmp_path / ".tmp-0123456789ab-calibration.json.d").write_text("another's")
    (tmp_path / ".tmp-mine-calibration.json").write_text("somebody's own")
    with atomic_file(target) as file:
        sweep_beside(target)
        file.write(b"whole")
    assert target.read_bytes() == b"whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".tmp-0123456789ab-calibration.json.d", ".tmp-mine-calibration.json", "calibration.json"
    ]  # fmt: skip
    with whole_folder(tmp_path / "data") as aside:
        sweep_beside(tmp_path / "data")
        (aside / "x").write_text("x")
    assert (tmp_path / "data" / "x").exists()


@pytest.mark.parametrize("done", [True, False], ids=["before its mark", "as it is to be marked"])
def test_what_another_takes_for_left_behind_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    mark = locks.at_work

    @contextlib.contextmanager
    def as_another_sweeps(path: Path) -> Iterator[bool | None]:
        monkeypatch.setattr(locks, "at_work", mark)  # it comes by once
        with contextlib.nullcontext() if done else mark(path):
            if done:
                sweep_beside(target)
            with mark(path) as marked:
                yield marked
        sweep_beside(target)

    target = tmp_path / "calibration.json"
    monkeypatch.setattr(locks, "at_work", as_another_sweeps)
    write_atomic(target, b"whole")
    assert target.read_bytes() == b"whole"
    target = tmp_path / "data"
    monkeypatch.setattr(locks, "at_work", as_another_sweeps)
    with whole_folder(target) as aside:
        (aside / "x").write_text("x")
    assert (target / "x").exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_belong_together_are_never_of_two_writings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    killed = tmp_path / ".tmp-0123456789ab-out"  # by a process that was killed as it made the folder
    killed.mkdir()
    (killed / ".tmp-ba9876543210-a.json").write_bytes(b"ha")
    write_together(folder, {"a.json": b"1", "b.html": b"1"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.json": b"1", "b.html": b"1"}
    plain = Path.replace

    def stopped(self: Path, target: Path) -> Path:
        if target == folder / "b.html":
            raise KeyboardInterrupt
        return plain(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", stopped)
        write_together(folder, {"a.json": b"2", "b.html": b"2"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.json": b"2"}
    (folder / ".tmp-0123456789ab-a.json").mkdir()
    write_together(folder, {"a.json": b"3", "b.html": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.json": b"3", "b.html": b"3"}
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr("allfour.pipeline.run.folder.write_atomic", lambda *_: (_ for _ in ()).throw(OSError("full")))
        write_together(tmp_path / "new", {"a.json": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
