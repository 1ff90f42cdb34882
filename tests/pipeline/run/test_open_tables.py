"""A run's tables are opened once for all that counts in them."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.run.folder import RunFolder
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
