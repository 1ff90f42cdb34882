"""A run's tables are opened once for all that counts in them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import duckdb
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.run.folder import SPILL, RunFolder, sweep_temp_files
from allfour.pipeline.run.tables import connect, scalar
from tests.pipeline.analyses.comparison_runs import make_run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    return [RunFolder(Path(make_run(tmp_path / name, {"nurse": marks}))) for name, marks in (("a", "WM"), ("b", "WWM"))]


def images(connection: duckdb.DuckDBPyConnection) -> int:
    return scalar(connection, "SELECT count(*) FROM images")


def test_within_a_connection_to_a_run_that_run_s_is_taken_and_no_other(runs: list[RunFolder]) -> None:
    apart: list[bool] = []
    with connect(runs[0]) as first:
        with connect(runs[0]) as again:
            assert again is first
        with connect(runs[1]) as other:
            assert (images(first), images(other)) == (2, 3)
            with connect(runs[0]) as nearest:
                assert images(nearest) == 2
        with connect(runs[0], memory="500MB") as smaller:
            assert smaller is not first

        def elsewhere() -> None:
            with connect(runs[0]) as found:
                apart.append(found is not first and images(found) == 2)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert apart == [True]
        assert images(first) == 2
    with connect(runs[0]) as later:
        assert images(later) == 2


def test_a_damaged_table_is_one_error_also_within_a_connection(runs: list[RunFolder]) -> None:
    with pytest.raises(RunFolderError, match="do not fit into 1GB of memory"), connect(runs[0]), connect(runs[0]):
        raise duckdb.OutOfMemoryException("there is no room")
    with connect(runs[0]) as connection:
        assert images(connection) == 2


ROWS = 6_000_000


def spill_something(connection: duckdb.DuckDBPyConnection) -> None:
    """A table that has no room in 40 MB."""
    connection.execute(f"CREATE TEMP TABLE spilled AS SELECT hash(range) AS x FROM range({ROWS})")


def spilled(run: RunFolder) -> list[Path]:
    return [folder for folder in run.path.rglob(f"*{SPILL}") if any(one.is_file() for one in folder.iterdir())]


def test_who_counts_in_the_same_run_leaves_what_others_have_spilled(runs: list[RunFolder]) -> None:
    before = sorted(runs[0].path.iterdir())
    with connect(runs[0], memory="40MB") as first:
        spill_something(first)
        assert len(spilled(runs[0])) == 1
        child = os.fork()
        if child == 0:
            with connect(runs[0]) as elsewhere:
                found = images(elsewhere)
            os._exit(0 if found == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with connect(runs[0], memory="41MB") as other:
            spill_something(other)
            assert len(spilled(runs[0])) == 2
        assert len(spilled(runs[0])) == 1
        assert scalar(first, "SELECT count(DISTINCT x % 1000) FROM spilled") == 1000
        assert scalar(first, "SELECT count(*) FROM spilled WHERE x IS NOT NULL") == ROWS
    assert sorted(runs[0].path.iterdir()) == before


@pytest.mark.parametrize("by_a_count", [True, False])
def test_what_a_killed_process_has_spilled_is_removed(runs: list[RunFolder], by_a_count: bool) -> None:
    before = sorted(runs[0].path.iterdir())
    child = os.fork()
    if child == 0:
        with connect(runs[0], memory="40MB") as connection:
            spill_something(connection)
            os.kill(os.getpid(), signal.SIGKILL if spilled(runs[0]) else signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(spilled(runs[0])) == 1
    if by_a_count:
        with connect(runs[0]):
            pass
    else:
        with connect(runs[0], memory="40MB") as at_work:
            spill_something(at_work)
            sweep_temp_files(runs[0].path)
            assert len(spilled(runs[0])) == 1
            assert scalar(at_work, "SELECT count(*) FROM spilled") == ROWS
    assert sorted(runs[0].path.iterdir()) == before


def test_a_run_that_may_not_be_written_is_read(runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, mode: int = 0o777) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refused)
    with connect(runs[0]) as connection:
        assert images(connection) == 2


def test_no_folder_is_made_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is missing"), connect(RunFolder(tmp_path / "none")):
        pass
    assert not (tmp_path / "none").exists()
