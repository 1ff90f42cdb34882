"""One parquet, arrow or JSON file with images inside: its rows, their images, prompts and further columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allfour.errors import ArchiveError
from allfour.pipeline.archives.arrow import FILE_MAGIC, STREAM_MAGIC, ArrowFile
from allfour.pipeline.archives.arrow_kinds import is_list, is_plain, is_text
from allfour.pipeline.archives.arrow_values import rows_of, values_of
from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.archives.columns import is_data
from allfour.pipeline.archives.json_pictures import ENDINGS, arrow_of
from allfour.pipeline.archives.metadata import LACKING, find_prompt, prompt_in_image
from allfour.pipeline.archives.naming import NO_SAMPLE_HINT
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.parquet_columns import (
    bytes_in_text,
    check_named_once,
    image_columns,
    nulls_of,
    prompt_column,
)
from allfour.pipeline.archives.probing import PROBED
from allfour.pipeline.archives.remote import address_path, open_binary, show_address
from allfour.pipeline.archives.text import Prompt, PromptBook, clean_text, escape_name, is_nothing
from allfour.pipeline.archives.tree_reading import metadata_note

BATCH_ROWS = 16
_SMALL_BYTES = 4 * 2**20
"""Images of one file that are read to find copies among them."""


class ParquetFile:
    """One parquet file, opened, with its columns told apart.

    Raises
    ------
    ArchiveError
        If it is not a parquet, or has no column of images or prompts.
    """

    def __init__(
        self,
        file: str,
        options: ArchiveOptions,
        *,
        open_file: Callable[[str], BinaryIO] = open_binary,
        book: PromptBook | None = None,
    ) -> None:
        self._shown = show_address(file)
        self._options = options
        self._book = options.book() if book is None else book
        self._stream = open_file(file)
        try:
            head = self._stream.read(len(FILE_MAGIC))
            self._stream.seek(0)
            if address_path(file).lower().endswith(ENDINGS):
                with self._stream as stream:
                    self._stream = arrow_of(stream, file)
                head = FILE_MAGIC
            arrow = head == FILE_MAGIC or head.startswith(STREAM_MAGIC)
            self._table: pq.ParquetFile | ArrowFile = (
                ArrowFile(self._stream) if arrow else pq.ParquetFile(self._stream, memory_map=False, pre_buffer=False)
            )
            schema = self._table.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            self._stream.close()
            if isinstance(error, ArchiveError):
                raise
            what = "arrow file" if address_path(file).endswith(".arrow") else "parquet"
            raise ArchiveError(f"{self._shown} is no {what}, or is damaged") from None
        try:
            self.image_columns = image_columns(self._table, schema, options, self._shown)
            self.prompt_column = prompt_column(schema, options, self._shown)
            check_named_once(schema, [*self.image_columns, self.prompt_column], self._shown)
        except ArchiveError:
            self._stream.close()
            raise
        used = {*self.image_columns, self.prompt_column}
        self._listed = any(is_list(schema.field(name).type) for name in self.image_columns)
        self.several = self._listed or len(self.image_columns) > 1
        """Whether a row holds several images: they are `ROW.0`, `ROW.1`, ..."""
        self.images_per_row = None if self._listed else len(self.image_columns)
        """None where rows hold lists, which may be of any length."""
        self._kept = [item.name for item in schema if item.name not in used and is_plain(item.type)]
        self._left_out = [item.name for item in schema if item.name not in used and not is_plain(item.type)]

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, *args: object) -> None:
        self._table.close()
        self._stream.close()

    def rows_of_groups(self) -> list[int]:
        metadata = self._table.metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def batches(self, groups: range) -> Iterator[pa.RecordBatch]:
        columns = [name for name in (*self.image_columns, self.prompt_column, *self._kept) if name is not None]
        yield from self._table.iter_batches(BATCH_ROWS, row_groups=list(groups), columns=columns, use_threads=False)

    def prompts(self) -> Iterator[tuple[Prompt, list[bytes]]]:
        """Every row's prompt, and digests of its images where these are few enough to be read for that."""
        if self._bytes_of_images() > _SMALL_BYTES:
            for batch in self._table.iter_batches(65_536, columns=[str(self.prompt_column)], use_threads=False):
                yield from ((self._prompt(value)[0], []) for value in values_of(batch.column(0)))
            return
        columns = [*self.image_columns, str(self.prompt_column)]
        for batch in self._table.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            for values in rows_of(batch):
                found = [data for data, _ in self.images(values) if data is not None]
                yield self._prompt(values[columns[-1]])[0], [hashlib.sha256(data).digest() for data in found]

    def without_bytes(self) -> int:
        """How many images have no bytes by the file's own account; 0 where it keeps none."""
        return sum(self._table.nulls(name) if isinstance(self._table, ArrowFile) else nulls_of(self._table, name)
                   for name in self.image_columns)  # fmt: skip

    def names(self) -> list[str]:
        """The names of images that rows keep beside their bytes; none where they keep none, or none that may be of no sample."""
        found: list[str] = []
        for name in self.image_columns:
            kind = self._table.schema_arrow.field(name).type
            if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
                continue
            for batch in self._table.iter_batches(65_536, columns=[f"{name}.path"], use_threads=False):
                paths = pc.struct_field(batch.column(0), "path")
                if not is_text(paths.type):
                    break
                paths = paths.cast(pa.large_string())
                if pc.any(pc.match_substring_regex(paths, NO_SAMPLE_HINT, ignore_case=True)).as_py():
                    found += [value for value in values_of(paths) if isinstance(value, str)]
        return found

    def _bytes_of_images(self) -> int:
        """Bytes that the images take in the file."""
        if isinstance(self._table, ArrowFile):
            return self._table.bytes_of(self.image_columns)
        metadata = self._table.metadata
        groups = (metadata.row_group(at) for at in range(metadata.num_row_groups))
        columns = (group.column(at) for group in groups for at in range(group.num_columns))
        return sum(
            column.total_uncompressed_size
            for column in columns
            if column.path_in_schema.partition(".")[0] in self.image_columns
        )

    def first_prompts(self) -> list[str]:
        """The prompts of the first rows, each once."""
        if self.prompt_column is None:
            return []
        for batch in self._table.iter_batches(PROBED, columns=[self.prompt_column], use_threads=False):
            found = [self._prompt(value)[0] for value in values_of(batch.column(0))]
            return list(dict.fromkeys(prompt.text for prompt in found if prompt.text))[:5]
        return []

    def probed(self) -> list[str]:
        """What the metadata of the first rows' images say."""
        for batch in self._table.iter_batches(PROBED, columns=self.image_columns, use_threads=False):
            images = [data for values in rows_of(batch) for data, _ in self.images(values)]
            found = [data is not None and prompt_in_image(data) is not None for data in images]
            return metadata_note(found.count(False), len(found))
        return []

    def notes(self) -> list[str]:
        notes = [f"images from column {', '.join(escape_name(name) for name in self.image_columns)}"]
        if self._listed:
            notes.append(
                "a row holds a list of images: each is an image of the row's prompt, and they are counted when they are read"
            )
        if self.prompt_column is None:
            notes.append("prompts are taken from each image's metadata, and counted when it is read")
        else:
            notes.append(f"prompts from column {escape_name(self.prompt_column)}")
        if self._left_out:
            names = ", ".join(escape_name(name) for name in self._left_out[:10])
            notes.append(f"columns of bytes, lists or structs are not kept: {names}")
        return notes

    def images(self, values: Mapping[str, Any]) -> list[tuple[bytes | None, str | None]]:
        """The images of a row: bytes, or the reason why there are none."""
        found: list[tuple[bytes | None, str | None]] = []
        for name in self.image_columns:
            value = values[name]
            found += [self._bytes(each) for each in (value if isinstance(value, list) else [value])]
        return found

    def row(
        self, values: Mapping[str, Any], data: bytes | None, error: str | None
    ) -> tuple[Prompt, bytes | None, str | None, dict[str, str]]:
        """Prompt, bytes or reason, and further columns of one image of a row."""
        if self.prompt_column is None:
            seen = find_prompt(data) if data is not None else None
            found: tuple[Prompt, str | None] = (_NONE, f"no prompt: {(seen and seen.lacks) or LACKING}")
            if seen is not None and seen.text:
                found = (self._book.from_text(seen.text), None)
        else:
            found = self._prompt(values[self.prompt_column])
        prompt, missing = found
        if missing is not None:
            data, error = None, error or missing
        extra = {
            clean_text(name): clean_text(value if isinstance(value, str) else json.dumps(value, default=str))
            for name in self._kept
            if (value := values[name]) is not None
        }
        return prompt, data, error, extra

    def _prompt(self, value: Any) -> tuple[Prompt, str | None]:
        if value is None or not str(value).strip():
            return _NONE, "no prompt: the column is empty in this row"
        if isinstance(value, str) and (is_nothing(value) or is_data(value)):
            return _NONE, "no prompt: the column is empty in this row"
        return self._book.from_text(str(value).strip()), None

    def _bytes(self, value: Any) -> tuple[bytes | None, str | None]:
        if isinstance(value, Mapping):
            if value.get("bytes") is None and value.get("path"):
                return (
                    None,
                    "the row holds a path and no bytes; embed the images before archiving",
                )
            value = value.get("bytes")
        if isinstance(value, str):
            value = bytes_in_text(value)
            if value is None:
                return None, "the row holds a text that is no image (base64, or a data: address)"
        if value is None:
            return None, "the row holds no bytes"
        limit = self._options.max_image_bytes
        if len(value) > limit:
            return None, f"{len(value):,} bytes are over the limit of {limit:,} bytes (max_image_bytes)"
        return bytes(value), None


_NONE = Prompt(NO_PROMPT_ID, "")
