"""The tables of a run for reading, with DuckDB: bounded memory whatever the number of rows, and every rule of counting once."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from allfour.errors import RunFolderError
from allfour.files import open_regular
from allfour.models.attributes import PRESENCE
from allfour.pipeline.run.database import database, parquet_rows
from allfour.pipeline.run.folder import SPILL, RunFolder
from allfour.pipeline.run.labels import IMAGE_LABEL_SQL
from allfour.pipeline.run.writing import aside_folder, sweep_beside

# earlier versions gave such rows an id that a prompt may bear; an empty text beside it no prompt has
_PROMPTED = "(prompt_id <> '' AND NOT (prompt_id = 'no-prompt' AND prompt = ''))"

_ONE_PERSON = f"""
SELECT prompt_id, "index", attribute, decision AS label, 1 AS persons FROM {{scores}} WHERE attribute <> '{PRESENCE}'
"""  # noqa: S608 (constants of this module)

_PERSONS = f"""
SELECT prompt_id, "index", attribute, {IMAGE_LABEL_SQL} AS label, max(person) + 1 AS persons
FROM {{scores}} WHERE attribute <> '{PRESENCE}' GROUP BY ALL
"""  # noqa: S608 (constants of this module)

_COUNTED = """
CREATE TEMP VIEW counted_images AS
SELECT *, prompted AND (prompt_id NOT IN (SELECT prompt_id FROM asking) OR (SELECT every FROM all_ask)) AS counted FROM images
"""

_FIRST_SETS = """
CREATE TEMP MACRO first_sets(size) AS TABLE
SELECT prompt_id, count(*) AS images, list_max(min("index", size)) AS last, min(file_row_number) AS place, bool_or(counted) AS counted
FROM counted_images GROUP BY prompt_id
"""

MEMORY_LIMIT = "1GB"
"""DuckDB's own share; what does not fit goes to the run's disk. Its default would be most of the machine."""


class _Open(NamedTuple):
    """A connection that a thread is within."""

    run: Path
    memory: str
    connection: duckdb.DuckDBPyConnection
    grouped: bool
    """Whether labels are of several rows each, and come in no order."""


_open: ContextVar[_Open | None] = ContextVar("open tables", default=None)


@contextlib.contextmanager
def connect(run: RunFolder, *, memory: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the views below; it spills to a folder of its own in the run folder and leaves nothing there.

    `images` (with `prompted`), `scores`, `labels` (a row per image and attribute), `counted_images` (images with `counted`: whether the
    headline rests on them, which it does not on prompts that ask for its labels, unless all do), and `first_sets(size)`: per prompt how
    many images it has and the index of the last of its first `size`.
    Within a connection to the same run it is that one: the files are looked at once.
    """
    known = _open.get()
    if known is not None and (known.run, known.memory) == (run.path, memory):
        yield known.connection
        return
    try:
        with _spill(run.path) as spill, database(spill=spill, memory=memory) as connection:
            grouped = add_views(connection, run)
            _add_counted(connection, run.header().asking)
            connection.execute(_FIRST_SETS)
            within = _open.set(_Open(run.path, memory, connection, grouped))
            try:
                yield connection
            finally:
                _open.reset(within)
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or _NO_ROOM.search(str(error)):
            raise RunFolderError(
                f"{run.path}: its tables do not fit into {memory} of memory, and there is no room for temporary files beside them "
                f"({str(error).splitlines()[0][:200]}). Free some space on that disk and repeat the same command"
            ) from None
        if type(error) not in _DAMAGE:
            raise
        if _OF_THE_PROCESS.search(str(error)):
            raise RunFolderError(
                f"{run.path}: its tables could not be read, though nothing shows that they are damaged ({str(error).splitlines()[0][:200]}). "
                "Raise the limits of this process (`ulimit -n`, `ulimit -v`) and repeat the same command"
            ) from None
        raise RunFolderError(
            f"{run.path}: images.parquet or scores.parquet cannot be read ({str(error).splitlines()[0][:200]}). {_MEND}"
        ) from None


@contextlib.contextmanager
def _spill(folder: Path) -> Iterator[Path]:
    """Where one connection may spill to, which is made when that is needed. Others may count in the same run meanwhile.

    What killed processes left is removed. Where nothing can be written, as in somebody else's run, it is only a name.
    """
    with contextlib.ExitStack() as stack:
        place = folder
        if folder.is_dir():
            sweep_beside(folder / SPILL)
            with contextlib.suppress(OSError):
                place = stack.enter_context(aside_folder(folder / SPILL))
        yield place / SPILL


def _add_counted(connection: duckdb.DuckDBPyConnection, ids: Collection[str]) -> None:
    """The view `counted_images`, by the prompts that ask for a label of the headline."""
    if not ids:
        connection.execute("CREATE TEMP VIEW counted_images AS SELECT *, prompted AS counted FROM images")
        return
    connection.execute("CREATE TEMP TABLE asking AS SELECT unnest(?::VARCHAR[]) AS prompt_id", [sorted(ids)])
    every = "SELECT count(*) FROM images WHERE prompted AND prompt_id NOT IN (SELECT prompt_id FROM asking)"
    connection.execute("CREATE TEMP TABLE all_ask AS SELECT ? AS every", [scalar(connection, every) == 0])
    connection.execute(_COUNTED)


def add_views(connection: duckdb.DuckDBPyConnection, run: RunFolder, prefix: str = "") -> bool:
    """The views `images`, `scores` and `labels` of a run, under names that begin with `prefix`.

    `images` has a column more than its file, `prompted`: whether a prompt is known of the row. Where a container broke off, none is.
    Returns whether some image shows several people, so that `labels` are grouped rows and come in no order.
    """
    for path in (run.images_path, run.scores_path):
        _check_table(path)
    run.check_tables(run.images_path, run.scores_path)
    images, scores = parquet_rows(run.images_path, numbered=True), parquet_rows(run.scores_path)
    connection.execute(f"CREATE TEMP VIEW {prefix}images AS SELECT *, {_PROMPTED} AS prompted FROM {images}")  # noqa: S608
    connection.execute(f"CREATE TEMP VIEW {prefix}scores AS SELECT * FROM {scores}")  # noqa: S608
    # a row per image and attribute is its label already: no grouping of everything by everything
    several = scalar(connection, f"SELECT coalesce(max(person), 0) FROM {prefix}scores") > 0  # noqa: S608
    labels = (_PERSONS if several else _ONE_PERSON).format(scores=f"{prefix}scores")
    connection.execute(f"CREATE TEMP VIEW {prefix}labels AS {labels}")
    return several


_LABELS_OF = '(SELECT prompt_id, "index", label FROM labels WHERE attribute = ?)'
_BY_ROW = f"POSITIONAL JOIN {_LABELS_OF} l{{place}}"
_BY_KEY = f'JOIN {_LABELS_OF} l{{place}} ON l0.prompt_id = l{{place}}.prompt_id AND l0."index" = l{{place}}."index"'


def count_together(
    connection: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    columns: str,
    *,
    join: str = "",
    parameters: Sequence[Any] = (),
) -> list[tuple[Any, ...]]:
    """Count images by their labels of several attributes.

    Tables are written with the rows of every attribute in the same order of images: then the rows of two attributes stand side by side and
    are read as they lie, in no memory. Whether they do is seen on the way; where they do not, and where several people in an image make labels
    of several rows, they are joined by prompt and index.

    Parameters
    ----------
    connection
        See `connect`.
    names
        Attributes, at least one.
    columns
        What is grouped by and counted, over rows with `prompt_id`, `index` and `label0`, `label1`, ...: a row per image that has them all.
    join, parameters
        What follows in FROM, and the values of its question marks.

    Returns
    -------
    A row per group.
    """
    places = range(1, len(names))
    labels = ", ".join(f"l{place}.label AS label{place}" for place in range(len(names)))
    apart = " OR ".join(
        f'l0.prompt_id IS DISTINCT FROM l{place}.prompt_id OR l0."index" IS DISTINCT FROM l{place}."index"'
        for place in places
    )
    rows: list[tuple[Any, ...]] = []
    within = _open.get()
    for way in (_BY_KEY,) if within is not None and within.grouped else (_BY_ROW, _BY_KEY):
        others = " ".join(way.format(place=place) for place in places)
        query = (
            f'SELECT {columns}, count(*) FILTER (apart) FROM (SELECT l0.prompt_id, l0."index", {labels}, {apart or "false"} AS apart'  # noqa: S608 (constants, and a number per attribute)
            f" FROM {_LABELS_OF} l0 {others}) together {join} GROUP BY ALL"
        )
        connection.execute(f"SET preserve_insertion_order = {str(way == _BY_ROW).lower()}")
        try:
            rows = connection.execute(query, [*names, *parameters]).fetchall()
        finally:
            connection.execute("SET preserve_insertion_order = false")
        if not any(row[-1] for row in rows):
            break
    return [row[:-1] for row in rows]


_NO_ROOM = re.compile(r"no space left|disk full|quota exceeded|file too large|failed to offload", re.IGNORECASE)
_OF_THE_PROCESS = re.compile(
    r"too many open files|cannot allocate memory|resource temporarily unavailable", re.IGNORECASE
)
_DAMAGE = (duckdb.Error, duckdb.InvalidInputException, duckdb.IOException, duckdb.SerializationException)
"""What damaged rows raise; the bare class is one of them."""
_MEND = (
    "Delete the damaged file and repeat the command that made the run: it makes the table again from what is kept, and no image "
    "is made or read again"
)


def _check_table(path: Path) -> None:
    """Raises RunFolderError where a table is no whole parquet file; only its end is read."""
    try:
        with open_regular(path) as file:
            pq.read_metadata(file)
    except FileNotFoundError:
        raise RunFolderError(f"{path} is missing: repeat the command that made the run") from None
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise RunFolderError(f"{path} cannot be read ({str(error).splitlines()[0][:200]}). {_MEND}") from None


def scalar(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> int:
    """The one whole number that a query gives."""
    # a result that is not read to its end holds the connection
    rows = connection.execute(query, list(parameters)).fetchall()
    return int(rows[0][0]) if rows else 0


def batches(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, Any]
) -> Iterator[pa.RecordBatch]:
    """The rows of a query as they come, in no memory for those that have gone by."""
    try:
        yield from pa.RecordBatchReader.from_stream(connection.sql(query, params=dict(parameters)))
    except (pa.ArrowException, OSError) as error:
        raise duckdb.Error(str(error)) from None  # what the database raises while rows are taken comes by way of Arrow
