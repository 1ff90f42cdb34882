"""Folders whose files cannot all be reached, or grow while they are read: nothing is left out in silence, and what is mended is read."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from allfour.pipeline.archives import ArchiveError, ArchiveSource, open_source
from allfour.pipeline.archives.base import HasDoubts
from allfour.pipeline.archives.folder import read_file
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import items_of, write_tar, write_tree

PNG = good_file(0, "png")


def _shut(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let this process not read files that it may read, as no test run by root could have it otherwise."""
    names = {str(path) for path in paths}
    for path in paths:
        path.chmod(0)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in names)


def _fingerprints(source: ArchiveSource) -> list[str]:
    return [shard.fingerprint for shard in source.shards()]


@pytest.mark.parametrize("folder", ["", "a_nurse"])
def test_a_link_in_a_circle_beside_images(tmp_path: Path, folder: str) -> None:
    write_tree(tmp_path, {"a_nurse/0.png": PNG, "a_cook/0.png": PNG})
    (tmp_path / folder / "self").symlink_to("self")
    source = open_source(tmp_path)
    assert [item.image.prompt for item in items_of(source)] == ["a cook", "a nurse"]
    assert isinstance(source, HasDoubts)
    assert source.doubts()[:1] == ["1 links that lead nowhere, not followed"]


@pytest.mark.parametrize("target", ["1.tar", "nowhere.tar"])
def test_a_dead_link_among_containers_is_named(tmp_path: Path, target: str) -> None:
    write_tar(tmp_path / "0.tar", [("a_nurse/0.png", PNG)])
    (tmp_path / "1.tar").symlink_to(target)
    with pytest.raises(ArchiveError, match=r"cannot read .*1\.tar"):
        items_of(open_source(tmp_path))


def test_what_is_not_reached_is_said_before_a_run_too(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    write_tree(root, {"a_nurse/0.png": PNG, "a_cook/0.png": PNG})
    (tmp_path / "elsewhere.png").write_bytes(PNG)
    (root / "a_nurse" / "1.png").symlink_to(tmp_path / "elsewhere.png")
    source = open_source(root)
    assert isinstance(source, HasDoubts)
    note = "1 links that lead out of the folder, not followed (a copy made with cp -rL holds what they lead to)"
    assert note in source.doubts()
    assert source.summary().notes.count(note) == 1


def test_a_folder_that_cannot_be_listed_is_said_before_a_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"a_nurse/0.png": PNG, "closed/0.png": PNG})
    scandir = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("/closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    source = open_source(tmp_path)
    assert isinstance(source, HasDoubts)
    assert source.doubts()[:1] == [
        f"1 folders that cannot be listed (Permission denied), such as {tmp_path / 'closed'}"
    ]


@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_a_file_that_was_shut_is_read_once_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write_tree(tmp_path, {"a_nurse/0.png": PNG, "a_nurse/1.png": PNG})
    (tmp_path / "m.csv").write_text("path,prompt\na_nurse/0.png,a nurse\na_nurse/1.png,a nurse\n")
    location = tmp_path / "m.csv" if kind == "manifest" else tmp_path / "a_nurse"
    before = _fingerprints(open_source(location))
    shut = tmp_path / "a_nurse" / "1.png"
    with monkeypatch.context() as patch:
        _shut(patch, shut)
        assert _fingerprints(open_source(location)) != before
    shut.chmod(0o600)
    assert _fingerprints(open_source(location)) == before


def test_no_more_is_set_aside_than_a_file_has(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    tracemalloc.start()
    try:
        assert read_file(str(tmp_path / "0.png"), limit=2**28) == PNG
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_is_read_whole_and_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.png").write_bytes(PNG)
    fstat = os.fstat

    def earlier(descriptor: int) -> os.stat_result:
        found = list(fstat(descriptor))
        found[6] = 10  # st_size
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", earlier)
    assert read_file(str(tmp_path / "0.png"), limit=2**20) == PNG
    over = read_file(str(tmp_path / "0.png"), limit=20)
    assert isinstance(over, str)
    assert "over the limit of 20 bytes" in over


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_without_files_left_says_nothing_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: Any, *_: Any) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="oo many open files"):
        read_file(str(tmp_path / "0.png"), limit=100)
