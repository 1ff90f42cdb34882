"""The database in memory that tables are read with: kept between uses, empty in each."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from allfour.pipeline.run import database as module
from allfour.pipeline.run.database import database, parquet_rows


@pytest.fixture(autouse=True)
def _no_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_idle", [])


def test_what_was_made_in_it_is_gone(tmp_path: Path) -> None:
    for _ in range(2):
        with database(spill=tmp_path / "spill", memory="100MB") as connection:
            connection.execute("CREATE TEMP TABLE rows AS SELECT 1")
            connection.execute("CREATE TEMP VIEW view AS SELECT 1")
            connection.execute("CREATE TEMP MACRO macro(x) AS TABLE SELECT x")
    assert len(module._idle) == 1


def test_each_use_has_its_own_settings(tmp_path: Path) -> None:
    for number, memory in enumerate(("100.0 MiB", "200.0 MiB")):
        with database(spill=tmp_path / f"it's {number}", memory=memory) as connection:
            seen = connection.execute("SELECT current_setting('memory_limit'), current_setting('temp_directory')")
            assert seen.fetchone() == (memory, str(tmp_path / f"it's {number}"))


def test_one_within_another(tmp_path: Path) -> None:
    with database(spill=tmp_path / "a", memory="100MB") as outer:
        outer.execute("CREATE TEMP TABLE rows AS SELECT 1")
        with database(spill=tmp_path / "b", memory="200MB") as inner, pytest.raises(duckdb.CatalogException):
            inner.execute("FROM rows")
        assert outer.execute("SELECT current_setting('memory_limit')").fetchone() == ("95.3 MiB",)
    assert len(module._idle) == 1


def test_one_that_has_spilled_or_failed_is_not_kept(tmp_path: Path) -> None:
    with database(spill=tmp_path / "spill", memory="40MB") as connection:
        connection.execute("CREATE TEMP TABLE rows AS SELECT hash(range) FROM range(6_000_000)")
        assert (tmp_path / "spill").exists()
    assert module._idle == []
    with pytest.raises(duckdb.CatalogException), database(spill=tmp_path / "spill", memory="30MB") as connection:
        connection.execute("FROM nothing")
    assert module._idle == []


def test_without_a_folder_what_does_not_fit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with database(spill=tmp_path / "spill", memory="100MB"):
        pass
    with pytest.raises(duckdb.OutOfMemoryException), database(spill=None, memory="40MB") as connection:
        connection.execute("CREATE TEMP TABLE rows AS SELECT hash(range) FROM range(6_000_000)")
    assert list(tmp_path.iterdir()) == []
    with database(spill=None, memory="40MB"):
        pass
    assert len(module._idle) == 1


def test_a_table_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path, new = tmp_path / "t.parquet", tmp_path / "new.parquet"
    for value in (1, 2):
        duckdb.sql(f"COPY (SELECT {value} AS x) TO '{new}' (FORMAT parquet)")
        os.utime(new, (0, 0))
        new.replace(path)
        with database(spill=tmp_path / "spill", memory="100MB") as connection:
            assert connection.execute(f"SELECT x FROM '{path}'").fetchone() == (value,)


def test_a_forked_process_has_one_of_its_own(tmp_path: Path) -> None:
    """The threads of its parent's are missing there: to end it would wait for them for ever."""
    with database(spill=tmp_path / "spill", memory="100MB"):
        pass
    child = os.fork()
    if child == 0:
        with database(spill=tmp_path / "spill", memory="100MB") as connection:
            found = connection.execute("SELECT count(*) FROM range(500_000)").fetchone()
        os._exit(0 if found == (500_000,) and len(module._idle) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("folder", ["x=7", "~", "~x", "it's [odd]*?", "a{b,c}", "http:", "a\\b"])
def test_a_file_is_read_as_it_is_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir()
    duckdb.sql("COPY (SELECT 1 AS x) TO 't.parquet' (FORMAT parquet)")
    path = Path("t.parquet").rename(Path(folder, "t.parquet"))
    with database(spill=tmp_path / "spill", memory="100MB") as connection:
        rows = connection.execute(f"FROM {parquet_rows(path)} UNION ALL FROM {parquet_rows(path)}").fetchall()
        numbered = connection.execute(f"FROM {parquet_rows(path, numbered=True)}").fetchall()
    assert rows == [(1,), (1,)] and numbered == [(1, 0)]
