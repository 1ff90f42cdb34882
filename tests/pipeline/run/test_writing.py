"""Atomic writes: whole or not at all, whoever is killed and whoever sweeps."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from allfour.pipeline.run import locks
from allfour.pipeline.run.writing import (
    atomic_file,
    json_bytes,
    sweep_beside,
    whole_folder,
    write_atomic,
    write_json,
    write_together,
)


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


def test_a_name_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    for name in ("\u540d" * 85, "a" * 255):
        (tmp_path / f".tmp-0123456789ab-{name[-50:]}").write_text("half")
        sweep_beside(tmp_path / name)
        write_atomic(tmp_path / name, b"data")
    assert sorted(len(p.name.encode()) for p in tmp_path.iterdir()) == [255, 255]


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
        patched.setattr("allfour.pipeline.run.writing.write_atomic", lambda *_: (_ for _ in ()).throw(OSError("full")))
        write_together(tmp_path / "new", {"a.json": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_document_is_written_without_its_text_in_memory(tmp_path: Path) -> None:
    """With one prompt per image, metrics.json has a hundred thousand entries; its text in pieces once took nine times its bytes."""
    document = {"prompts": [{"id": f"p{n}", "share": {"value": n / 7, "low": None}} for n in range(8_000)]}
    path = tmp_path / "metrics.json"
    tracemalloc.start()
    write_json(path, document)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size
    assert path.read_bytes() == (json.dumps(document, indent=1) + "\n").encode()


def test_what_is_no_json_leaves_the_old_document(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"text": "caf\u00e9 \ud800"})
    before = path.read_bytes()
    assert before == json_bytes({"text": "caf\u00e9 \ud800"}) == '{\n "text": "caf\u00e9 ?"\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"prompts": list(range(20_000)), "value": float("nan")})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]
