"""A DuckDB database in memory, kept from one use to the next: to make one takes longer than all that is asked of a small run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb

_idle: list[duckdb.DuckDBPyConnection] = []
"""At most one database, which is empty and which nobody uses."""


@contextlib.contextmanager
def database(*, spill: Path | None, memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty database: what is made in it must be TEMP, and is gone at the end.

    Parameters
    ----------
    spill
        Folder for what does not fit into memory; DuckDB makes it when it first needs it. With None there is none, and what
        does not fit is an error.
    memory
        DuckDB's own share, such as "1GB". Its default would be most of the machine.
    """
    kept = _with_spill(spill)
    try:
        with kept.cursor() as connection:
            connection.execute(f"SET memory_limit = {quoted(memory)}")
            connection.execute("SET preserve_insertion_order = false")  # every order that matters is asked for
            yield connection
    except BaseException:
        kept.close()
        raise
    if _idle or (spill and spill.exists()):
        kept.close()
    else:
        _idle.append(kept)


def _with_spill(spill: Path | None) -> duckdb.DuckDBPyConnection:
    setting = f"SET temp_directory = {quoted(str(spill or ''))}"
    with contextlib.suppress(IndexError):
        kept = _idle.pop()
        try:
            kept.execute(setting)
        except duckdb.Error:  # it has written to its folder, which another process has removed meanwhile
            kept.close()
        else:
            return kept
    made = duckdb.connect()
    made.execute(setting)
    with contextlib.suppress(duckdb.CatalogException):  # unknown before DuckDB 1.3
        made.execute("SET enable_external_file_cache = false")  # tables are written anew under the same name
    return made


def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


os.register_at_fork(before=_close_idle)  # its threads would be missing in the child, which would wait for them


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def parquet_rows(path: Path, *, numbered: bool = False) -> str:
    """SQL for the rows of one file with the columns that it has, wherever it lies. A view takes no parameters.

    DuckDB takes a path for a pattern, in which `[` or `*` mean more and `~` is somebody's home, and a folder called `decision=man` for a
    column that all rows in it share, in place of the one in the file.

    Parameters
    ----------
    numbered
        With a column more, `file_row_number`, from 0.
    """
    literal = quoted("".join(f"[{c}]" if c in "*?[" else c for c in str(path.absolute())))
    return f"read_parquet({literal}, hive_partitioning = false, file_row_number = {str(numbered).lower()})"
