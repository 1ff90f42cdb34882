"""JSON whose objects hold images themselves, as base64: `image`, `images`, HEIM's `base64_images`. It is read as the arrow file of the same rows.

HEIM keeps the prompts of such a file in another one beside it: `display_requests.json`, which has them as they were asked, and
`instances.json`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from allfour.border import read_json
from allfour.errors import ArchiveError
from allfour.pipeline.archives.columns import PROMPT_NAMES, column_key
from allfour.pipeline.archives.entries import leads_to_folder
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, Kind, is_hidden, kind_of
from allfour.pipeline.archives.manifest_lines import MAX_LIST_BYTES, as_text, flattened, objects_in
from allfour.pipeline.archives.parquet_columns import bytes_in_text
from allfour.pipeline.archives.remote import address_path, show_address

ENDINGS = (".json", ".jsonl", ".ndjson")
_LOOKED_AT = 2**20
"""Bytes of a file by which it is told from a manifest."""
_MAX_PROMPTS_BYTES = 256 * 2**20
_MAX_TABLES = 50
"""JSON files of a folder that are looked into."""
_GROUP_ROWS = 256
_BEGINNING = 64
"""Characters of base64 by which an image is told."""
_PICTURE = re.compile(rb'[:\[,]\s*"(?:data:image\\?/[\w.+-]{1,40};base64,|iVBORw0KGgo|\\?/9j\\?/|UklGR|R0lGOD)')
"""A text that is an image: by its address, or as a PNG, JPEG, WebP or GIF begins in base64."""
_FILE = re.compile(rb'"[^"\\]{1,1000}\.(?:' + "|".join(sorted(IMAGE_EXTENSIONS)).encode() + rb')"', re.IGNORECASE)


def holds_pictures(file: str) -> bool:
    """Whether a file on this machine is JSON that holds images and names none: one that names files is a manifest."""
    if not file.lower().endswith(ENDINGS) or not Path(file).is_file():
        return False
    try:
        with Path(file).open("rb") as stream:
            head = stream.read(_LOOKED_AT)
    except OSError:
        return False
    return bool(_PICTURE.search(head)) and not _FILE.search(head)


def pictures_of_folder(folder: Path) -> str | None:
    """The one file with images inside of a folder that holds neither images nor folders, as HEIM's of a run does."""
    tables: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if (
                leads_to_folder(entry)
                or kind_of(entry.name) in (Kind.IMAGE, Kind.CONTAINER)
                or len(tables) > _MAX_TABLES
            ):
                return None
            if entry.name.lower().endswith(ENDINGS):
                tables.append(entry.path)
    found = [table for table in tables if holds_pictures(table)]
    return found[0] if len(found) == 1 else None


def arrow_of(stream: BinaryIO, file: str) -> BinaryIO:
    """The rows of such a file as an arrow file in memory: columns of images, and texts. Its prompts may be looked up beside it.

    Raises
    ------
    ArchiveError
        It is no JSON of objects, or larger than a list may be.
    """
    rows = _objects(stream, file)
    columns = {key for row in rows for key, value in row.items() if _is_picture(value)}
    listed = any(isinstance(row.get(key), list) for row in rows for key in columns)
    asked = _asked(file, rows) if columns else {}
    texts: dict[str, list[str | None]] = {}
    pictures: dict[str, list[Any]] = {key: [] for key in columns}
    for number, row in enumerate(rows):
        for key in columns:
            value = row.pop(key, None)
            found = [_bytes(each) for each in (value if isinstance(value, list) else [value])]
            pictures[key].append((found or [None]) if listed else found[0])
        plain = next(flattened(row), {})
        if asked and {column_key(name) for name in plain}.isdisjoint(PROMPT_NAMES):
            plain["prompt"] = asked.get(_request(row)) or asked.get(_instance(row)) or ""
        for name, text in plain.items():
            known = texts.setdefault(name, [])
            known.extend([None] * (number - len(known)))
            known.append(text or None)
    for known in texts.values():
        known.extend([None] * (len(rows) - len(known)))
    kind = pa.list_(pa.large_binary()) if listed else pa.large_binary()
    table = pa.table(
        {key: pa.array(pictures[key], kind) for key in sorted(pictures)}
        | {name: pa.array(known, pa.string()) for name, known in texts.items() if name not in pictures}
    )
    written = io.BytesIO()
    with pa.ipc.new_file(written, table.schema) as writer:
        writer.write_table(table, max_chunksize=_GROUP_ROWS)
    written.seek(0)
    return written


def _objects(stream: BinaryIO, file: str) -> list[dict[str, Any]]:
    shown = show_address(file)
    if address_path(file).lower().endswith(".json"):
        rows = objects_in(stream, shown)
    else:
        content = stream.read(MAX_LIST_BYTES + 1)
        if len(content) > MAX_LIST_BYTES:
            raise ArchiveError(f"{shown} is larger than {MAX_LIST_BYTES:,} bytes: split it, or write it as a parquet")
        try:
            rows = [read_json(line) for line in content.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise ArchiveError(f"{shown} is no JSON, one object a line ({error})") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ArchiveError(f'{shown}: entry {number} is no object such as {{"prompt": ..., "image": ...}}')
    return rows


def _is_picture(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_picture(each) for each in value[:4] if not isinstance(each, list))
    if not isinstance(value, str):
        return False
    text = value.partition(",")[2] if value.startswith("data:image/") else value
    return len(text) >= _BEGINNING and bytes_in_text(text[:_BEGINNING]) is not None


def _bytes(value: Any) -> bytes | None:
    return bytes_in_text(value) if isinstance(value, str) else None


# --- prompts that lie beside it --------------------------------------------------------------------------------------

_Key = tuple[str, ...]


def _instance(row: Mapping[str, Any]) -> _Key:
    return (as_text(row.get("instance_id")), json.dumps(row.get("perturbation"), sort_keys=True))


def _request(row: Mapping[str, Any]) -> _Key:
    return (*_instance(row), as_text(row.get("train_trial_index")))


def _asked(file: str, rows: list[dict[str, Any]]) -> dict[_Key, str]:
    """The prompts of HEIM's instances, by what its rows say of themselves; empty for any other file."""
    if not rows or not all("instance_id" in row for row in rows):
        return {}
    asked = {
        _instance({**each, "instance_id": each.get("id")}): text
        for each in _beside(file, "instances.json")
        if (text := _text(each.get("input"), "text"))
    }
    return asked | {
        _request(each): text
        for each in _beside(file, "display_requests.json")
        if (text := _text(each.get("request"), "prompt"))
    }


def _text(value: Any, key: str) -> str | None:
    value = value.get(key) if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _beside(file: str, name: str) -> Iterator[dict[str, Any]]:
    content = read_file(str(Path(file).parent / name), limit=_MAX_PROMPTS_BYTES)
    if isinstance(content, str):
        return
    try:
        values = read_json(content)
    except (ValueError, RecursionError):
        return
    yield from (value for value in values if isinstance(value, dict)) if isinstance(values, list) else ()
