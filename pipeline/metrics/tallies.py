"""Tables -> counts per prompt, with DuckDB: bounded memory whatever the number of rows.

An image has one label per attribute. Where several persons were found in it, that is the label they share; `mixed` where they
differ; `ambiguous` where one of them is and the others do not differ already.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from allfour.errors import ConfigError
from allfour.models.attributes import PRESENCE
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.folder import RunFolder

# earlier versions gave such rows an id that a prompt may bear; an empty text beside it no prompt has
_PROMPTED = "(prompt_id <> '' AND NOT (prompt_id = 'no-prompt' AND prompt = ''))"

_ONE_PERSON = f"""
SELECT prompt_id, "index", attribute, decision AS label, 1 AS persons FROM {{scores}} WHERE attribute <> '{PRESENCE}'
"""  # noqa: S608 (constants of this module)

_PERSONS = f"""
SELECT prompt_id, "index", attribute,
  CASE
    WHEN bool_or(decision = '{UNREADABLE}') THEN '{UNREADABLE}'
    WHEN count(DISTINCT decision) FILTER (decision NOT IN ('{AMBIGUOUS}', '{NO_PERSON}')) > 1 THEN '{MIXED}'
    WHEN bool_or(decision = '{AMBIGUOUS}') THEN '{AMBIGUOUS}'
    ELSE coalesce(min(decision) FILTER (decision NOT IN ('{AMBIGUOUS}', '{NO_PERSON}')), '{NO_PERSON}')
  END AS label,
  max(person) + 1 AS persons
FROM {{scores}} WHERE attribute <> '{PRESENCE}' GROUP BY ALL
"""  # noqa: S608 (constants of this module)

_RANKED = """
CREATE TEMP VIEW ranked AS
SELECT prompt_id, "index", status, row_number() OVER (PARTITION BY prompt_id ORDER BY "index") AS rank FROM images
"""

_SETS = f"""
WITH blocks AS (
  SELECT r.prompt_id, (r.rank - 1) // ? AS block, count(*) AS images, min(l.label) AS first, max(l.label) AS last,
    count(*) FILTER (l.label NOT IN ('{AMBIGUOUS}', '{NO_PERSON}', '{MIXED}', '{UNREADABLE}')) AS labelled
  FROM ranked r LEFT JOIN labels l ON r.prompt_id = l.prompt_id AND r."index" = l."index" AND l.attribute = ? GROUP BY ALL)
SELECT prompt_id, count(*), count(*) FILTER (labelled = images AND first = last) FROM blocks WHERE images = ? GROUP BY ALL
"""  # noqa: S608 (constants of this module)

MEMORY_LIMIT = "1GB"
"""DuckDB's own share; what does not fit goes to the run's disk. Its default would be most of the machine."""


@dataclass(slots=True)
class PromptTally:
    """Counts of one prompt."""

    id: str
    text: str
    group: str | None
    statuses: dict[str, int] = field(default_factory=dict)
    """Image status -> number of images."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Attribute -> image label (or ambiguous, no_person, mixed, unreadable) -> number of images."""
    set_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same over the first `set_size` images alone."""
    sets: tuple[int, int] = (0, 0)
    """Whole sets of `set_size` images, one after the other by index, and those of one label of the first attribute."""
    revised: int = 0
    """Images whose prompt the service rewrote."""
    prompted: bool = True
    """False for the rows that no prompt is known of: they are images, and no prompt."""

    @property
    def requested(self) -> int:
        return sum(self.statuses.values())


@dataclass(frozen=True, slots=True)
class Tallies:
    """Everything that the metrics need of a run's tables."""

    prompts: tuple[PromptTally, ...]
    """In the order of first appearance in images.parquet."""
    joint: Mapping[tuple[str, str], Mapping[tuple[str, str], int]]
    """(attribute, attribute) -> (label, label) -> images."""
    duplicates: tuple[tuple[tuple[str, int], ...], ...]
    """Groups of images with identical bytes, at most `MAX_DUPLICATE_GROUPS`."""
    duplicate_images: int
    """Images whose bytes are those of an earlier image."""
    persons: int
    """Images in which more than one person was found."""


MAX_DUPLICATE_GROUPS = 200


@contextlib.contextmanager
def connect(run: RunFolder, *, memory: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with the views `images`, `scores`, `labels` and `ranked`; it spills to the run folder and leaves nothing there."""
    spill = run.path / SPILL
    shutil.rmtree(spill, ignore_errors=True)  # of a process that was killed
    try:
        with duckdb.connect() as connection:
            connection.execute(f"SET temp_directory = {_quoted(spill, pattern=False)}")
            connection.execute(f"SET memory_limit = {_quoted(memory)}")
            connection.execute("SET preserve_insertion_order = false")  # every order that matters is asked for
            add_views(connection, run)
            connection.execute(_RANKED)
            yield connection
    except duckdb.Error as error:
        if type(error) not in _DAMAGE:
            raise
        raise ConfigError(
            f"{run.path}: images.parquet or scores.parquet cannot be read ({str(error).splitlines()[0][:200]}). {_MEND}"
        ) from None
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def add_views(connection: duckdb.DuckDBPyConnection, run: RunFolder, prefix: str = "") -> None:
    """The views `images`, `scores` and `labels` of a run, under names that begin with `prefix`.

    `images` has a column more than its file, `prompted`: whether a prompt is known of the row. Where a container broke off, none is.
    """
    for path in (run.images_path, run.scores_path):
        _check_table(path)
    images, scores = _quoted(run.images_path), _quoted(run.scores_path)  # a view takes no parameters
    connection.execute(
        f"CREATE TEMP VIEW {prefix}images AS SELECT *, {_PROMPTED} AS prompted FROM read_parquet({images}, file_row_number = true)"  # noqa: S608
    )
    connection.execute(f"CREATE TEMP VIEW {prefix}scores AS SELECT * FROM read_parquet({scores})")  # noqa: S608
    # a row per image and attribute is its label already: no grouping of everything by everything
    several = _scalar(connection, f"SELECT coalesce(max(person), 0) FROM {prefix}scores") > 0  # noqa: S608
    labels = (_PERSONS if several else _ONE_PERSON).format(scores=f"{prefix}scores")
    connection.execute(f"CREATE TEMP VIEW {prefix}labels AS {labels}")


_DAMAGE = (duckdb.Error, duckdb.InvalidInputException, duckdb.IOException, duckdb.SerializationException)
"""What damaged rows raise; the bare class is one of them."""
_MEND = (
    "Delete the damaged file and repeat the command that made the run: it makes the table again from what is kept, and no image "
    "is made or read again"
)


def _check_table(path: Path) -> None:
    """Raises ConfigError where a table is no whole parquet file; only its end is read."""
    try:
        pq.read_metadata(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: repeat the command that made the run") from None
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({str(error).splitlines()[0][:200]}). {_MEND}") from None


SPILL = ".spill"


def _quoted(text: str | Path, *, pattern: bool = True) -> str:
    """Text as an SQL string; a path so that DuckDB takes it literally where it expects a `pattern`, in which `[` or `*` mean more."""
    value = str(text)
    if pattern and isinstance(text, Path) and any(mark in value for mark in "*?["):
        value = "".join(f"[{c}]" if c in "*?[" else c for c in value)
    return "'" + value.replace("'", "''") + "'"


def tally(run: RunFolder, *, attributes: list[str], set_size: int, memory: str = MEMORY_LIMIT) -> Tallies:
    """Count labels per prompt over images.parquet and scores.parquet.

    Parameters
    ----------
    attributes
        Attribute names; labels of all of them are counted, and pairs of the first with each other one jointly.
    set_size
        Number of first images of a prompt that make its set.
    memory
        DuckDB's memory limit, such as `1GB`.
    """
    with connect(run, memory=memory) as connection:
        prompts: dict[str, PromptTally] = {}
        for prompt_id, text, group, revised, prompted in connection.execute(
            "SELECT prompt_id, arg_min(prompt, file_row_number), arg_min(\"group\", file_row_number),"
            " count(*) FILTER (revised_prompt IS NOT NULL AND revised_prompt <> prompt), bool_or(prompted) FROM images GROUP BY prompt_id"
            " ORDER BY min(file_row_number)"
        ).fetchall():  # fmt: skip
            prompts[prompt_id] = PromptTally(id=prompt_id, text=text, group=group, revised=revised, prompted=prompted)
        for prompt_id, status, count in connection.execute(
            "SELECT prompt_id, status, count(*) FROM images GROUP BY ALL"
        ).fetchall():
            prompts[prompt_id].statuses[status] = count
        for prompt_id, attribute, label, total, in_set in connection.execute(
            # a row per prompt to join, and not one per image
            'WITH sets AS (SELECT prompt_id, list_max(min("index", ?)) AS last FROM images GROUP BY prompt_id)'
            ' SELECT l.prompt_id, l.attribute, l.label, count(*), count(*) FILTER (l."index" <= s.last) FROM labels l'
            " JOIN sets s ON l.prompt_id = s.prompt_id GROUP BY ALL",
            [set_size],
        ).fetchall():
            prompts[prompt_id].labels.setdefault(attribute, {})[label] = total
            if in_set:
                prompts[prompt_id].set_labels.setdefault(attribute, {})[label] = in_set
        if any(prompt.requested >= 2 * set_size for prompt in prompts.values()):
            for prompt_id, whole, unanimous in connection.execute(
                _SETS, [set_size, attributes[0], set_size]
            ).fetchall():
                prompts[prompt_id].sets = whole, unanimous
        joint = {}
        for other in attributes[1:]:
            rows = connection.execute(
                'SELECT a.label, b.label, count(*) FROM labels a JOIN labels b ON a.prompt_id = b.prompt_id AND a."index" = b."index"'
                " WHERE a.attribute = ? AND b.attribute = ? GROUP BY ALL",
                [attributes[0], other],
            ).fetchall()
            joint[attributes[0], other] = {(a, b): n for a, b, n in rows}
        groups = connection.execute(
            'SELECT list({"p": prompt_id, "i": "index"} ORDER BY file_row_number), count(*) FROM images WHERE sha256 IS NOT NULL'
            " GROUP BY sha256 HAVING count(*) > 1 ORDER BY min(file_row_number) LIMIT ?",
            [MAX_DUPLICATE_GROUPS],
        ).fetchall()
        duplicate_images = _scalar(connection, "SELECT count(sha256) - count(DISTINCT sha256) FROM images")
        persons = _scalar(
            connection, 'SELECT count(*) FROM (SELECT DISTINCT prompt_id, "index" FROM scores WHERE person > 0)'
        )
    return Tallies(
        prompts=tuple(prompts.values()),
        joint=joint,
        duplicates=tuple(tuple((row["p"], row["i"]) for row in rows) for rows, _ in groups),
        duplicate_images=duplicate_images,
        persons=persons,
    )


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row: Any = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def status_count(tallies: Tallies, status: ImageStatus) -> int:
    """Images of one status over all prompts."""
    return sum(prompt.statuses.get(status, 0) for prompt in tallies.prompts)
