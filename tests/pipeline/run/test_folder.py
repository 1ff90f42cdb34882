from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder, fingerprint, sweep_temp_files
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.outcome import Outcome
from allfour.pipeline.run.writing import write_atomic


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


def test_a_journal_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A run folder may come from anywhere: a torn line of somebody's file would be cut off, and ours put in its place."""
    mine = tmp_path / "profile"
    mine.write_text("first\nlast")
    (tmp_path / "j.jsonl").symlink_to(mine)
    with pytest.raises(RunFolderError, match="a link, which is not written through"), Journal(tmp_path / "j.jsonl"):
        pass
    assert mine.read_text() == "first\nlast"


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
