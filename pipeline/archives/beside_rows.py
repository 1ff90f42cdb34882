"""Rows of tables that lie beside images: which file has which prompt, in the forms that are customary."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.pipeline.archives.arrow_kinds import is_text
from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.captions import caption_in_file, decoded, may_be_prompt, prompt_in_object
from allfour.pipeline.archives.columns import PATH_NAMES, PROMPT_NAMES, column_key, parted_by, pick, separator_of
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.text import escape_name, is_nothing

_CUSTOMARY = re.compile(
    r"metadata\.(csv|tsv|jsonl?|ndjson|parquet)|part-\d+\.json|captions_\w{1,20}\.json|scenario_state\.json|(captions|prompts)\.(csv|tsv|jsonl?|parquet)",
    re.IGNORECASE,
)
_FILE_NAMES = (*PATH_NAMES, "id", "key", "name")
_PROMPT_KEYS = ("p", *PROMPT_NAMES)


class NotUnderstoodError(Exception):
    """Why a table that seems to hold prompts says nothing."""


def is_customary(name: str) -> bool:
    """Whether tables of prompts beside images are customarily called so."""
    return bool(_CUSTOMARY.fullmatch(name))


def table_rows(name: str, content: bytes) -> Iterator[tuple[str | None, str | None]]:
    """File and prompt of every row of a table."""
    ending = extension(name)
    if ending == "txt":
        if named := lines_of_files(content):
            return iter(named)
        text = caption_in_file(name, content)[0]
        return iter([(None, text)] if text and "\n" not in text else [])
    if ending == "parquet":
        return _parquet_rows(content)
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    return _csv_rows(text, name) if ending in ("csv", "tsv") else _json_rows(text)


_OF_A_FILE = re.compile(
    rf"\s*\"?(\S[^\t|]*?\.(?:{'|'.join(sorted(IMAGE_EXTENSIONS))}))(?:#\d+)?\"?{parted_by(',:;|=')}(\S.*)",
    re.IGNORECASE,
)


def lines_of_files(content: bytes) -> list[tuple[str | None, str | None]]:
    """File and prompt of every line of a text such as `0.png<TAB>a photo of a nurse`; nothing for any other text."""
    lines = [line for line in decoded(content).splitlines() if line.strip()]
    found = [match for line in lines if (match := _OF_A_FILE.fullmatch(line))]
    return [(match[1], _text_or_none(match[2])) for match in found] if 1 < len(lines) == len(found) else []


def _parquet_rows(content: bytes) -> Iterator[tuple[str | None, str | None]]:
    with pq.ParquetFile(pa.BufferReader(content)) as table:
        texts = [each.name for each in table.schema_arrow if is_text(each.type)]
        file = pick(texts, PATH_NAMES, None, what="", where="", option="")
        prompt = pick(texts, PROMPT_NAMES, None, what="", where="", option="")
        if file is None or prompt is None:
            return
        for batch in table.iter_batches(columns=[file, prompt], use_threads=False):
            for row in rows_of(batch):
                if row[file]:
                    yield row[file], _text_or_none(row[prompt] or "")


def _csv_rows(text: str, name: str) -> Iterator[tuple[str | None, str | None]]:
    rows = csv.reader(
        io.StringIO(text, newline=None), delimiter="\t" if extension(name) == "tsv" else separator_of(text)
    )
    names = next((row for row in rows if row and not row[0].startswith("sep=")), [])
    if len(names) == 2 and [extension(each) in IMAGE_EXTENSIONS for each in names] == [True, False]:  # no header
        yield names[0], _text_or_none(names[1])
        yield from ((row[0], _text_or_none(row[1])) for row in rows if len(row) == 2)
        return
    file = pick(names, _FILE_NAMES, None, what="", where="", option="")
    able = [
        each for each in names if is_customary(name) or column_key(each) != "description"
    ]  # of what, a table of any name does not say
    prompt = pick(able, PROMPT_NAMES, None, what="", where="", option="")
    if file is None or prompt is None:
        lacks = " and ".join(
            what
            for what, found in (("files (such as file_name)", file), ("prompts (such as prompt)", prompt))
            if found is None
        )
        if is_customary(name) or any("prompt" in each.lower() or "caption" in each.lower() for each in names):
            columns = ", ".join(map(escape_name, names[:20]))[:300]
            raise NotUnderstoodError(
                f"it has no column of {lacks}. Its columns: {columns}. Rescored by itself, it is read with archive.image_column and prompt_column"
            )
        return
    at, of = names.index(file), names.index(prompt)
    for row in rows:
        if len(row) > max(at, of):
            yield row[at], _text_or_none(row[of])


def _json_rows(text: str) -> Iterator[tuple[str | None, str | None]]:
    try:
        values = read_json(text)
    except ValueError:
        values = [read_json(line) for line in text.splitlines() if line.strip()]
    if isinstance(values, dict) and isinstance(values.get("request_states"), list):
        yield from _heim_rows(values["request_states"])
        return
    if (
        isinstance(values, dict)
        and isinstance(values.get("annotations"), list)
        and isinstance(values.get("images"), list)
    ):
        yield from _coco_rows(values["images"], values["annotations"])
        return
    if isinstance(values, dict) and any(extension(str(key)) in IMAGE_EXTENSIONS for key in values):
        for key, value in values.items():
            yield str(key), _prompt_in(value)
        return
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            lower = {column_key(str(key)): field for key, field in value.items()}
            file = next((lower[key] for key in _FILE_NAMES if isinstance(lower.get(key), str | int)), None)
            yield (None if file is None or isinstance(file, bool) else str(file)), _prompt_in({**value, **lower})


def _heim_rows(states: list[Any]) -> Iterator[tuple[str | None, str | None]]:
    """Files and prompts of the form that HELM's `scenario_state.json` has for images."""
    for state in states:
        request, result = (state.get(key) if isinstance(state, dict) else None for key in ("request", "result"))
        if not isinstance(request, dict) or not isinstance(result, dict):
            continue
        for completion in _objects(result.get("completions")):
            content = completion.get("multimodal_content")
            for media in _objects(content.get("media_objects")) if isinstance(content, dict) else ():
                if isinstance(media.get("location"), str):
                    yield media["location"], _text_or_none(str(request.get("prompt") or ""))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _coco_rows(images: list[Any], annotations: list[Any]) -> Iterator[tuple[str | None, str | None]]:
    """Files and their first captions, of the form that the data set COCO has."""
    captions: dict[str, str] = {}
    for each in annotations:
        if isinstance(each, dict) and isinstance(each.get("caption"), str):
            captions.setdefault(str(each.get("image_id")), each["caption"])
    for each in images:
        if isinstance(each, dict) and isinstance(each.get("file_name"), str):
            yield each["file_name"], _text_or_none(captions.get(str(each.get("id")), ""))


def _prompt_in(value: Any) -> str | None:
    if isinstance(value, str):
        return _text_or_none(value)
    if not isinstance(value, Mapping):
        return None
    found = next(
        (value[key] for key in _PROMPT_KEYS if isinstance(value.get(key), str) and may_be_prompt(value, key)), None
    )
    return _text_or_none(found) if found is not None else prompt_in_object(value)[0]


def _text_or_none(text: str) -> str | None:
    return None if is_nothing(text) else text.strip()
