"""The folder of a run: whose it is, who works in it, and what is left where nothing came of a command."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import portalocker
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.run import held, locks
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.journal import RunFolderBusyError


@pytest.mark.parametrize("name", ["report.html", "images", "cells"])
def test_somebodys_own_files_are_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("mine")
    with pytest.raises(RunFolderError, match=rf"holds {name} but no run\.json.*Choose another with --run"):
        with RunFolder(tmp_path).lock():
            pass
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_link_that_leads_nowhere_is_somebodys_too(tmp_path: Path) -> None:
    (tmp_path / "report.html").symlink_to("elsewhere")
    with pytest.raises(RunFolderError, match=r"report\.html"), RunFolder(tmp_path).lock():
        pass


def test_files_of_other_names_may_lie_beside_a_run(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("of the shell that started it")
    with RunFolder(tmp_path).lock():
        pass


@pytest.mark.parametrize("sign", ["run.json", ".lock", "outcomes-3.jsonl", "parts/part-0.json", "study.json"])
def test_a_folder_where_a_command_has_been_is_gone_on_with(tmp_path: Path, sign: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / sign).parent.mkdir(exist_ok=True)
    (tmp_path / sign).touch()
    with RunFolder(tmp_path).lock():
        pass


def test_a_rank_that_begins_at_the_same_time_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other makes its lock and its first folder after this one has begun to look."""
    run, lexists = RunFolder(tmp_path / "run"), os.path.lexists

    def as_another_begins(path: Path) -> bool:
        run.ranks_folder.mkdir(parents=True, exist_ok=True)
        (run.path / locks.NAME).touch()
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", as_another_begins)
    with run.lock(shared=True):
        assert run.ranks_folder.is_dir()


def test_a_start_that_failed_leaves_no_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="no key"), run.lock():
        raise ValueError("no key")
    assert not run.path.exists()


def test_what_was_written_before_a_failure_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="no key"), run.lock():
        run.update_header(kind="audit")
        raise ValueError("no key")
    assert run.header().kind == "audit"


def test_a_folder_that_stood_before_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no key"), RunFolder(tmp_path).lock():
        raise ValueError("no key")
    assert tmp_path.is_dir()


def test_a_lock_that_was_taken_away_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its holder and the maker of the next one would both think that they are alone."""
    run, take = RunFolder(tmp_path / "run"), locks.take_soon
    calls: list[int] = []

    def gone_at_first(file: object, *, shared: bool = False) -> None:
        take(file, shared=shared)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            held._take_away(run.path)

    monkeypatch.setattr(locks, "take_soon", gone_at_first)
    with run.lock():
        assert len(calls) == 2
        with pytest.raises(RunFolderBusyError), RunFolder(run.path).lock():
            pass


def test_a_folder_that_is_taken_away_while_it_is_looked_at_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another start made it, and takes it away as it fails, just after it stood in the way of this one."""
    run, mkdir = RunFolder(tmp_path / "run"), os.mkdir
    run.path.mkdir()

    def in_the_way_and_gone(path: Path, mode: int = 0o777) -> None:
        try:
            mkdir(path, mode)
        except FileExistsError:
            Path(path).rmdir()
            raise

    monkeypatch.setattr(os, "mkdir", in_the_way_and_gone)
    with run.lock():
        assert (run.path / locks.NAME).exists()


@pytest.mark.parametrize("leads", ["to a file", "nowhere"])
def test_what_is_no_folder_is_not_waited_for(tmp_path: Path, leads: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run").symlink_to(tmp_path / ("file" if leads == "to a file" else "none"))
    with pytest.raises(RunFolderError, match="cannot be written: File exists"), RunFolder(tmp_path / "run").lock():
        pass


def test_a_disk_without_locks_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", flock)
    with pytest.raises(RunFolderError, match=r"lock cannot be taken \(No locks available\).*Choose another with --run"):
        with RunFolder(tmp_path).lock():
            pass


def test_who_waits_for_a_start_that_fails_is_alone(tmp_path: Path) -> None:
    """Many at once, each of which fails or works on: never two at a time, and every one ends in one of the two ways."""
    run, inside, most = RunFolder(tmp_path / "run"), [0], [0]
    guard, ended = threading.Lock(), []

    def start(number: int) -> None:
        for _ in range(40):
            try:
                with RunFolder(run.path).lock():
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    with guard:
                        inside[0] -= 1
                    raise ValueError
            except (ValueError, RunFolderBusyError) as error:
                ended.append(type(error))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(ended) == 160
