"""Columns of a parquet or arrow file: which hold images, and which the prompts."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.errors import ArchiveError
from allfour.pipeline.archives.arrow import ArrowFile
from allfour.pipeline.archives.arrow_kinds import is_list, is_plain, is_text, may_be_files
from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.columns import DOWNLOAD_FIRST, PATH_NAMES, PROMPT_NAMES, URL_NAMES, column_key, pick
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.remote import address_path, open_binary
from allfour.pipeline.archives.text import escape_name, natural_key

IMAGE_NAMES = (
    "image",
    "img",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "image_bytes",
    "bytes",
    "picture",
    "photo",
    "content",
    "data",
)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return may_be_files(kind)


_NUMBERED = re.compile(r"(image|img|picture|photo|sample|output)s?[_ -]?\d{1,3}", re.IGNORECASE)
_DATA_ADDRESS = re.compile(r"data:image/[\w.+-]{1,40};base64,")


def bytes_in_text(text: str) -> bytes | None:
    """An image as base64, with or without `data:image/png;base64,` before it; None for any other text."""
    match = _DATA_ADDRESS.match(text)
    text = text[match.end() :] if match else text
    try:
        data = base64.b64decode(text, validate=False)
    except ValueError:
        return None
    return data if sniff_format(data) else None


def _holds_images(kind: pa.DataType) -> bool:
    return _holds_bytes(kind) or (is_list(kind) and _holds_bytes(kind.value_type))


def check_named_once(schema: pa.Schema, names: Iterable[str | None], shown: str) -> None:
    """Raise ArchiveError where a column that is used shares its name with another one."""
    for name in names:
        if name is not None and len(schema.get_all_field_indices(name)) > 1:
            raise ArchiveError(
                f"{shown}: several columns are called {escape_name(name)}, so which is meant is not said. Rename all but one of them"
            )


def image_columns(
    table: pq.ParquetFile | ArrowFile, schema: pa.Schema, options: ArchiveOptions, shown: str
) -> list[str]:
    able = [item.name for item in schema if _holds_images(item.type)]
    able += _text_columns(table, schema)
    found = pick(able, IMAGE_NAMES, options.image_column, what="image", where=shown, option="image_column")
    numbered = [name for name in able if _NUMBERED.fullmatch(name)]
    if found is None and len(numbered) > 1:
        return sorted(numbered, key=natural_key)
    if found is None and len(able) == 1:
        found = able[0]
    if found is not None:
        return [found]
    if able:
        raise ArchiveError(
            f"{shown}: several columns hold images ({_listed(able)}) and none is called as one customarily is. Set image_column to one of them"
        )
    if empty := [
        item.name for item in schema if pa.types.is_struct(item.type) and item.type.get_field_index("path") >= 0
    ]:
        raise ArchiveError(
            f"{shown}: column {escape_name(empty[0])} holds paths and not the images' bytes: embed the images, or write the paths as a manifest"
        )
    if any(column_key(name) in URL_NAMES for name in schema.names):
        raise ArchiveError(f"{shown}: no column holds images, but one holds addresses of images. {DOWNLOAD_FIRST}")
    if named := [item.name for item in schema if column_key(item.name) in PATH_NAMES and is_text(item.type)]:
        raise ArchiveError(
            f"{shown}: no column holds images; {escape_name(named[0])} names files, which are read by a manifest: write the table as .csv "
            "where these paths hold"
        )
    raise ArchiveError(
        f"{shown}: no column holds images (bytes, a struct with bytes, lists of them, or base64). Its columns: "
        f"{_listed(schema.names)}. Set image_column if it is one of these"
    )


def nulls_of(table: pq.ParquetFile, name: str) -> int:
    """How many values of a column of images hold no bytes, by the statistics that the file keeps; 0 where it keeps none."""
    count = 0
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            if column.path_in_schema in (name, f"{name}.bytes") and column.statistics is not None:
                count += column.statistics.null_count or 0
    return count


def names_files(file: str, options: ArchiveOptions) -> bool:
    """Whether a parquet file holds no images but names files, and so is a manifest. One that cannot be read is none."""
    if not address_path(file).lower().endswith(".parquet"):
        return False
    try:
        with open_binary(file) as stream, pq.ParquetFile(stream, memory_map=False, pre_buffer=False) as table:
            schema = table.schema_arrow
            if any(_holds_images(each.type) for each in schema) or _text_columns(table, schema):
                return False
            texts = [each.name for each in schema if is_text(each.type)]
    except (pa.ArrowException, OSError, ValueError):
        return False
    named = options.image_column in texts or any(column_key(name) in PATH_NAMES for name in texts)
    prompted = options.prompt_column in texts or any(column_key(name) in PROMPT_NAMES for name in texts)
    return named and prompted


def _text_columns(table: pq.ParquetFile | ArrowFile, schema: pa.Schema) -> list[str]:
    """Columns of an image's name whose first text is an image in base64."""
    names = [item.name for item in schema if is_text(item.type)]
    names = [
        name
        for name in names
        if name.lower() in IMAGE_NAMES or name.lower().endswith("base64") or _NUMBERED.fullmatch(name)
    ]
    if not names:
        return []
    for batch in table.iter_batches(1, columns=names, use_threads=False):
        first = rows_of(batch)[0]
        return [name for name in names if isinstance(first[name], str) and bytes_in_text(first[name]) is not None]
    return []


def prompt_column(schema: pa.Schema, options: ArchiveOptions, shown: str) -> str | None:
    if options.prompt_from == "metadata":
        return None
    able = [item.name for item in schema if is_plain(item.type)]
    found = pick(able, PROMPT_NAMES, options.prompt_column, what="prompt", where=shown, option="prompt_column")
    if found is None:
        odd = next((item for item in schema if column_key(item.name) in PROMPT_NAMES), None)
        if odd is not None:
            raise ArchiveError(
                f"{shown}: column {escape_name(odd.name)} holds {str(odd.type)[:80]} and not one text a row, so which is the prompt is not said. Write "
                "a column of texts and name it with prompt_column"
            )
        raise ArchiveError(
            f"{shown}: no column of prompts ({', '.join(PROMPT_NAMES)}). Its columns: {_listed(schema.names)}. "
            "Set prompt_column to one of these, or prompt_from: metadata"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(escape_name(name) for name in names[:20])
    return f"{shown}, ..." if len(names) > 20 else shown or "none"
