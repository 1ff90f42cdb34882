"""A table of prompts that the options name, wherever it lies, and how paths bear its keys: `archive.prompt_table`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from allfour.errors import ArchiveError
from allfour.pipeline.archives.beside import MAX_TABLE_BYTES, Beside
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.key_tables import DoubledKeyError, KeyTable, key_table
from allfour.pipeline.archives.keyed import Reading, find_reading, keys_by_number
from allfour.pipeline.archives.naming import PathPattern
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.text import escape_name

_ROWS = re.compile(r"row-([01])")


def named_table(options: ArchiveOptions, paths: Sequence[str]) -> Beside:
    """What the table says that the options name.

    Parameters
    ----------
    options
        With `prompt_table`; `path_pattern` and `key_column` say how images bear its keys, else one way must fit.
    paths
        Of all images that are samples.

    Raises
    ------
    ArchiveError
        If the table is not understood, or it cannot be told how images bear its keys.
    """
    assert options.prompt_table is not None
    name, content = Path(options.prompt_table).name, _content(options)
    beside = Beside()
    if options.path_pattern is None and options.key_column is None:
        beside.take("", name, content)
        beside.find(paths)
        if any(beside.prompt(path) is not None for path in paths):
            return beside
    table, start = _table(options, name, content)
    if options.path_pattern is not None:
        reading: Reading | str | None = _by_pattern(options.path_pattern, table, start, paths)
    else:
        reading = find_reading(table, sorted(paths), start=start)
    if not isinstance(reading, Reading):
        why = f" ({reading})" if reading else ""
        raise _error(
            options,
            f"how images bear its {_keys(table)} is not plain{why}: set path_pattern, such as '{{key}}_{{index}}' or '{{key}}/{{index}}', and for "
            "rows without keys key_column: row-0 or row-1",
        )
    beside.take_up(reading, paths)
    return beside


def _by_pattern(pattern: str, table: KeyTable, start: int | None, paths: Sequence[str]) -> Reading | None:
    known = PathPattern(pattern, needs="key")
    starts = (start,) if start is not None else (0,) if table.column is not None else (0, 1)
    readings = [Reading(table=table, pattern=known, start=each, keys=keys_by_number(table, each)) for each in starts]
    if len(readings) == 1:
        return readings[0]
    fitting = [each for each in readings if all(each.key(path) is not None for path in paths)]
    return fitting[0] if len(fitting) == 1 else None


def _table(options: ArchiveOptions, name: str, content: bytes) -> tuple[KeyTable, int | None]:
    chosen = options.key_column
    rows = _ROWS.fullmatch(chosen or "")
    try:
        table = key_table(
            "", name, content, asked=True, key_column="" if rows else chosen, prompt_column=options.prompt_column
        )
    except DoubledKeyError as error:
        raise _error(
            options, f"{error}. Leave one of them, or name the column of keys with archive.key_column"
        ) from None
    if table is None:
        raise _error(
            options,
            "is not understood: it needs two rows or more, in each a prompt, and a key that no other has (key_column) or none. It is UTF-8, or "
            "UTF-16 with its mark, and called .csv, .tsv, .json, .jsonl, .parquet or .txt",
        )
    return replace(table, folder=""), int(rows[1]) if rows else None


def _keys(table: KeyTable) -> str:
    return (
        f"{escape_name(table.column)}, such as {escape_name(next(iter(table.prompts), ''))!r},"
        if table.column
        else "rows"
    )


def _content(options: ArchiveOptions) -> bytes:
    content = read_file(str(options.prompt_table), limit=MAX_TABLE_BYTES)
    if isinstance(content, str):
        raise _error(options, content)
    return content


def _error(options: ArchiveOptions, what: str) -> ArchiveError:
    return ArchiveError(f"archive.prompt_table {escape_name(str(options.prompt_table))}: {what}")
