"""Parquet files of tables whose names repeat: written and read with their names as codes, which takes a third of the time.

In the file nothing tells such a table from one of plain strings: whoever reads it gets strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

_SINGULAR = frozenset({"path", "sha256", "revised_prompt"})
"""Columns of text that hardly repeats."""


def repeating_columns(schema: pa.Schema) -> list[str]:
    """Columns of text in which values repeat, under their names in the file. A dictionary of measured numbers would be as long as they are."""
    found = []
    for field in schema:
        if field.name in _SINGULAR:
            continue
        if pa.types.is_map(field.type):
            parts = [("key", field.type.key_type), ("value", field.type.item_type)]
            found += [f"{field.name}.key_value.{name}" for name, type_ in parts if _is_text(type_)]
        elif _is_text(field.type):
            found.append(field.name)
    return found


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or (pa.types.is_dictionary(type_) and pa.types.is_string(type_.value_type)))


def table_writer(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of rows of a schema, whether its names are strings or codes; without the arrow schema in the file, they are strings."""
    names = repeating_columns(schema)
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=names, store_schema=False)


def read_coded(path: Path, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema, its repeating names as codes where the file has just these columns, and as strings elsewhere.

    Raises OSError, pa.ArrowException.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=repeating_columns(schema)) as file:
            table = file.read()
    except KeyError:  # a column that an earlier version did not have
        return pq.read_table(path, schema=schema)
    return table if _plain(table.schema).equals(schema) else pq.read_table(path, schema=schema)


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema with strings for codes."""
    return pa.schema([field.with_type(_decoded(field.type)) for field in schema])


def _decoded(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type_):
        return type_.value_type
    if pa.types.is_map(type_):
        key = type_.key_field.with_type(_decoded(type_.key_type))
        return pa.map_(key, type_.item_field.with_type(_decoded(type_.item_type)))
    return type_


def concatenate(paths: Sequence[Path], file: IO[bytes], schema: pa.Schema) -> int:
    """Write the rows of several files of one schema one after the other, a row group for each. Returns how many rows."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for path in paths:
            table = read_coded(path, schema)
            if writer is None:
                writer = table_writer(file, table.schema)
            writer.write_table(table if table.schema.equals(writer.schema) else table.cast(writer.schema))
            rows += table.num_rows
        if writer is None:
            writer = table_writer(file, schema)
    finally:
        if writer is not None:
            writer.close()
    return rows
