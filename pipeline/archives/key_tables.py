"""Tables of prompts that do not name files, but go by ids, by numbers, or by the order of their rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.pipeline.archives.arrow_kinds import is_text, plain_kind
from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.captions import may_be_prompt, prompt_in_object
from allfour.pipeline.archives.columns import PATH_NAMES, PROMPT_NAMES, column_key, parted_by, pick, separator_of
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.text import escape_name, is_nothing

KEY_NAMES = (
    "prompt_id", "promptid", "prompt_index", "prompt_idx", "prompt_number", "prompt_num", "prompt_no", "id", "key", "index", "idx", "number", "num",
    "no", "nr", "instance_id", "item_id", "case_id", "case_number", "sample_id", "image_id", "uid", "folder", "dir", "directory", "name", "unnamed:_0", "",
)  # fmt: skip
"""Customary names of a column of keys, the plainest first; pandas leaves that of its row numbers without one."""
_OF_PROMPTS = re.compile(r".*(?:prompt|caption).*", re.IGNORECASE)
FEWEST_ROWS = 2
_LONGEST_KEY = 255
"""Of a part of a path; longer texts are images, in base64, or words."""
_NUMBERED = re.compile(rf"\s*(\d{{1,9}}){parted_by(',:;|.)')}(\S.*)")
"""A line such as `12: a photo of a nurse`."""
_KEY, _INPUT = "id", "input"
_LISTED = "prompt "
"""What the column of bare texts is called; the space tells it from one that somebody called so."""
_WORDS = 3
"""Words that most texts of a list have at least, to be prompts where nothing calls them so."""


class DoubledKeyError(Exception):
    """A table of prompts gives one key several prompts. Says which."""


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Prompts by key."""

    folder: str
    name: str
    column: str | None
    """Which one has the keys; None where rows are counted, the first as 0."""
    prompts: Mapping[str, str]

    @property
    def counts(self) -> bool:
        """Whether all keys are numbers."""
        return all(map(str.isdecimal, self.prompts))


def key_table(
    folder: str,
    name: str,
    content: bytes,
    *,
    asked: bool = False,
    key_column: str | None = None,
    prompt_column: str | None = None,
) -> KeyTable | None:
    """The prompts of a table by their keys; None for one that names files, or is not understood.

    Parameters
    ----------
    folder, name, content
        A table: .csv, .tsv, .json, .jsonl, .parquet, or a .txt of a prompt a line.
    asked
        Whether it was named as a table of prompts: what it and its columns are called says nothing against it then.
    key_column, prompt_column
        Which they are, where a user said it; an empty key_column for rows that are counted.

    Raises
    ------
    DoubledKeyError
        It is one of prompts, by its name or because it was asked for, and which prompt a key stands for cannot be told.
    """
    try:
        rows = list(_rows(name, content))
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, OSError):
        return None
    if len(rows) < FEWEST_ROWS or (not asked and any(_names_a_file(row) for row in rows[:100])):
        return None
    asked = asked or bool(_OF_PROMPTS.fullmatch(name))
    names = list(rows[0])
    if (
        _LISTED in names
        and not asked
        and 2 * sum(len(row.get(_LISTED, "").split()) >= _WORDS for row in rows) < len(rows)
    ):
        return None  # classes, tags, names of files
    of = pick(names, PROMPT_NAMES, None, what="", where="", option="") if prompt_column is None else prompt_column
    if of not in names or not (asked or _OF_PROMPTS.fullmatch(of)):
        return None
    keys = _key_column(names, key_column)
    texts = [row.get(of, "").strip() for row in rows]
    if keys is None:
        if any(map(is_nothing, texts)):
            return None
        return KeyTable(folder, name, None, dict(zip(map(str, range(len(texts))), texts, strict=True)))
    found: dict[str, str] = {}
    for row, text in zip(rows, texts, strict=True):
        key = row.get(keys, "").strip()
        if found.setdefault(key, text) == text:
            continue
        if asked and key:
            raise DoubledKeyError(
                f"its {escape_name(keys)} {escape_name(key)[:80]!r} stands in several rows, with different prompts"
            )
        return None
    if (len(found) < len(rows) and not asked) or max(map(len, found)) > _LONGEST_KEY:
        return None  # what comes again in a table of anything is no key
    return KeyTable(
        folder, name, keys or "row", {key: text for key, text in found.items() if key and not is_nothing(text)}
    )


def _key_column(names: list[str], chosen: str | None) -> str | None:
    if chosen is not None:
        return chosen or None
    return pick(names, (*KEY_NAMES, *PATH_NAMES), None, what="", where="", option="")


def _names_a_file(row: Mapping[str, str]) -> bool:
    """Whether a row names an image by its file, or where it can be fetched."""
    return any(
        column_key(name) in PATH_NAMES and extension(value.replace("\\", "/").rpartition("/")[2]) in IMAGE_EXTENSIONS
        for name, value in row.items()
    )


def _rows(name: str, content: bytes) -> Iterator[dict[str, str]]:
    ending = extension(name)
    if ending == "parquet":
        yield from _parquet_rows(content)
        return
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    if ending in ("csv", "tsv"):
        yield from _csv_rows(text, "\t" if ending == "tsv" else separator_of(text))
    elif ending == "txt":
        lines = text.rstrip().splitlines()
        numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
        if len(numbered) == len(lines):
            yield from ({_KEY: match[1], _LISTED: match[2].strip()} for match in numbered)
        else:
            yield from ({_LISTED: line.strip()} for line in lines)
    else:
        yield from _json_rows(text)


def _csv_rows(text: str, separator: str) -> Iterator[dict[str, str]]:
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    names = next((row for row in rows if row and not row[0].startswith("sep=")), [])
    for row in rows:
        if any(map(str.strip, row)):
            yield dict(zip(names, [*row, *[""] * len(names)], strict=False))


def _parquet_rows(content: bytes) -> Iterator[dict[str, str]]:
    with pq.ParquetFile(pa.BufferReader(content)) as table:
        plain = [
            each.name for each in table.schema_arrow if is_text(each.type) or pa.types.is_integer(plain_kind(each.type))
        ]
        for batch in table.iter_batches(columns=plain, use_threads=False):
            for row in rows_of(batch):
                yield {name: "" if value is None else str(value) for name, value in row.items()}


def _json_rows(text: str) -> Iterator[dict[str, str]]:
    try:
        values = read_json(text)
    except ValueError:
        values = [read_json(line) for line in text.splitlines() if line.strip()]
    if isinstance(values, dict):
        inner = [value for value in values.values() if isinstance(value, list) and len(value) >= FEWEST_ROWS]
        if len(inner) == 1:
            values = inner[0]
        else:
            yield from _by_key(values)
            return
    for value in values if isinstance(values, list) else ():
        yield _row(value)


def _by_key(values: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Rows of an object that has a prompt, or an object with one, for every key; none of one with the settings of a single prompt."""
    if any(column_key(str(key)) in (*PROMPT_NAMES, "negative_prompt") for key in values):
        return
    for key, value in values.items():
        yield {_KEY: str(key), _LISTED: value} if isinstance(value, str) else {_KEY: str(key), **_row(value)}


def _row(value: Any) -> dict[str, str]:
    """A row of texts; a prompt that stands inside an object (`input`, `instance`) is lifted out of it."""
    if isinstance(value, str):
        return {_LISTED: value}
    if not isinstance(value, dict):
        raise ValueError("no row")
    if isinstance(value.get("instance"), dict):  # HEIM's requests
        value = {**value["instance"], **{key: field for key, field in value.items() if key != "instance"}}
    plain = {
        str(key): str(field)
        for key, field in value.items()
        if isinstance(field, str | int)
        and not isinstance(field, bool)
        and may_be_prompt({**value, key: str(field)}, str(key))
    }
    if {column_key(key) for key in plain}.isdisjoint(PROMPT_NAMES):
        given = value.get(_INPUT)
        inner = prompt_in_object(given)[0] if isinstance(given, dict) else given if isinstance(given, str) else None
        found = inner or prompt_in_object(value)[0]
        plain |= {"prompt": found} if found else {}
    return plain
