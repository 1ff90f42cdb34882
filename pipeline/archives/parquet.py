"""Parquet with the images inside: Hugging Face's struct {bytes, path}, or a plain column of bytes.

A shard is a run of row groups of about `shard_size` rows in one file (at least one row group). Only the columns that
are used are read, a few rows at a time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.errors import ArchiveError
from allfour.pipeline.archives.arrow import FILE_MAGIC, STREAM_MAGIC, ArrowFile
from allfour.pipeline.archives.base import (
    INDEX_STRIDE,
    NO_PROMPT_ID,
    ArchivedImage,
    ArchiveItem,
    ArchiveSummary,
    NoImagesError,
    Shard,
)
from allfour.pipeline.archives.columns import (
    DOWNLOAD_FIRST,
    PATH_NAMES,
    PROMPT_NAMES,
    URL_NAMES,
    is_data,
    pick,
    whole_number,
)
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.metadata import LACKING, find_prompt, prompt_in_image
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.probing import PROBED
from allfour.pipeline.archives.remote import address_path, open_binary, show_address, stamp_of
from allfour.pipeline.archives.text import (
    Prompt,
    PromptBook,
    clean_text,
    cut_note,
    escape_name,
    is_nothing,
    natural_key,
)
from allfour.pipeline.archives.tree import broken_item, find_shard, metadata_note

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
BATCH_ROWS = 16
_SUMMARY_ROWS = 1_000_000
_BROKEN = "broken"


class ParquetSource:
    """`ArchiveSource` over parquet files, here or at addresses."""

    def __init__(self, files: Sequence[str], options: ArchiveOptions, *, location: str) -> None:
        if options.prompt_from not in ("auto", "column", "metadata"):
            raise ArchiveError(
                f"{show_address(location)}: a parquet's prompts come from its column, or from the images with prompt_from: metadata; "
                f"{options.prompt_from} is for files and folders"
            )
        self._files = list(files)
        self._options = options
        self._location = show_address(location)

    def identity(self) -> Mapping[str, str]:
        return {"layout": "parquet", "location": self._location, **self._options.identity()}

    def shards(self) -> Iterator[Shard]:
        shard = None
        for shard in self._found():
            yield shard
        if shard is None:
            raise self._no_rows()

    def _no_rows(self) -> NoImagesError:
        files = "it has" if len(self._files) == 1 else f"its {len(self._files):,} files have"
        return NoImagesError(f"no images in {self._location}: {files} no rows")

    def _found(self) -> Iterator[Shard]:
        ordinal = 0
        for number, file in enumerate(self._files):
            stated = [show_address(file), *map(str, stamp_of(file)), self._options.salt()]
            try:
                with ParquetFile(file, self._options) as table:
                    pieces: list[tuple[int, int, int | None]] = []
                    pieces += _pieces(table.rows_of_groups(), self._options.shard_size)
                    per_row = table.images_per_row
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                pieces, per_row = [(0, 0, None)], 1
                broken = str(error).encode()
            for first, last, rows in pieces:
                if rows == 0:
                    continue
                name = _BROKEN if rows is None else f"{first:06d}.{last:06d}"
                text = "\n".join([*stated, str(ordinal), name])
                yield Shard(
                    id=f"{ordinal:06d}-{number:06d}-{name}",
                    ordinal=ordinal,
                    fingerprint=hashlib.sha256(text.encode()).hexdigest(),
                    images=None if rows is None or per_row is None else rows * per_row,
                    payload=broken if rows is None else b"",
                )
                ordinal += 1

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        _, number, name = shard.id.split("-")
        file = self._files[int(number)]
        if name == _BROKEN:
            shard = shard if shard.payload else find_shard(self, shard.id)
            yield broken_item(shard, show_address(file), shard.payload.decode())
            return
        first, last = (int(part) for part in name.split("."))
        counted: Counter[str] = Counter()
        with ParquetFile(file, self._options) as table:
            row = sum(table.rows_of_groups()[:first])
            try:
                for batch in table.batches(range(first, last + 1)):
                    for values in batch.to_pylist():
                        found = table.images(values)
                        for which, (data, error) in enumerate(found):
                            prompt, data, error, extra = table.row(values, data, error)  # noqa: PLW2901
                            seed = whole_number(extra.get("seed"))
                            if seed is not None:
                                del extra["seed"]
                            group = extra.pop("group", None)
                            image = ArchivedImage(
                                prompt_id=prompt.id,
                                prompt=prompt.text,
                                index=shard.ordinal * INDEX_STRIDE + counted[prompt.id],
                                path=f"{show_address(file)}::{row}" + (f".{which}" if table.several else ""),
                                group=prompt.group or group,
                                seed=seed,
                                extra=prompt.with_cut(extra),
                            )
                            counted[prompt.id] += 1
                            yield ArchiveItem(image, data, error)
                        row += 1
            except (pa.ArrowException, OSError, ValueError) as error:
                if isinstance(error, ArchiveError):
                    raise
                image = ArchivedImage(
                    prompt_id=NO_PROMPT_ID,
                    prompt="",
                    index=shard.ordinal * INDEX_STRIDE + counted[NO_PROMPT_ID],
                    path=f"{show_address(file)}::{row}",
                )
                reason = f"the parquet is damaged; no row from {row:,} on in this part can be read"
                yield ArchiveItem(image, None, reason)

    def summary(self) -> ArchiveSummary:
        images = 0
        shards = 0
        book = self._options.spelling_book()
        per_prompt: Counter[str] = Counter()
        counted, probed, known = True, False, True
        notes: list[str] = []
        cut: set[str] = set()
        examples: list[str] = []
        for file in self._files:
            try:
                with ParquetFile(file, self._options, book=book) as table:
                    rows = table.rows_of_groups()
                    per_row = table.images_per_row
                    known = known and per_row is not None
                    images += sum(rows) * (per_row or 1)
                    shards += sum(count > 0 for *_, count in _pieces(rows, self._options.shard_size))
                    notes += table.notes()
                    if table.prompt_column is None and not probed:
                        probed = True
                        notes += table.probed()
                    if table.prompt_column is None or per_row is None or images > _SUMMARY_ROWS:
                        counted = False
                        if per_row is None:
                            examples += [f"{text} <- {show_address(file)}" for text in table.first_prompts()]
                        continue
                    for row, prompt in enumerate(table.prompts()):
                        if prompt.id not in per_prompt and prompt.id != NO_PROMPT_ID and len(examples) < 5:
                            examples.append(f"{prompt.text} <- {show_address(file)}::{row}")
                        per_prompt[prompt.id] += per_row
                        if prompt.cut_from is not None:
                            cut.add(prompt.id)
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                notes.append(str(error))
                shards += 1
        if not shards:
            raise self._no_rows()
        if lacking := per_prompt[NO_PROMPT_ID]:
            notes.append(f"{lacking:,} of {images:,} rows have an empty prompt: they are not scored")
        if cut:
            notes.append(cut_note(len(cut)))
        notes += book.notes()
        return ArchiveSummary(
            layout="parquet",
            images=images if known else None,
            prompts=len(per_prompt) if counted else None,
            shards=shards,
            examples=tuple(examples),
            notes=tuple(dict.fromkeys(notes)),
            images_per_prompt=Counter(per_prompt.values()) if counted else None,
        )


class ParquetFile:
    """One parquet file, opened, with its columns told apart.

    Raises
    ------
    ArchiveError
        If it is no parquet, or has no column of images or prompts.
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
            self.image_columns = _image_columns(self._table, schema, options, self._shown)
            self.prompt_column = _prompt_column(schema, options, self._shown)
        except ArchiveError:
            self._stream.close()
            raise
        used = {*self.image_columns, self.prompt_column}
        self._listed = any(pa.types.is_list(kind := schema.field(name).type) or pa.types.is_large_list(kind)
                           for name in self.image_columns)  # fmt: skip
        self.several = self._listed or len(self.image_columns) > 1
        """Whether a row holds several images: they are `ROW.0`, `ROW.1`, ..."""
        self.images_per_row = None if self._listed else len(self.image_columns)
        """None where rows hold lists, which may be of any length."""
        self._kept = [item.name for item in schema if item.name not in used and _is_plain(item.type)]
        self._left_out = [item.name for item in schema if item.name not in used and not _is_plain(item.type)]

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

    def prompts(self) -> Iterator[Prompt]:
        for batch in self._table.iter_batches(65_536, columns=[str(self.prompt_column)], use_threads=False):
            for value in batch.column(0).to_pylist():
                yield self._prompt(value)[0]

    def first_prompts(self) -> list[str]:
        """The prompts of the first rows, each once."""
        if self.prompt_column is None:
            return []
        for batch in self._table.iter_batches(PROBED, columns=[self.prompt_column], use_threads=False):
            found = [self._prompt(value)[0] for value in batch.column(0).to_pylist()]
            return list(dict.fromkeys(prompt.text for prompt in found if prompt.text))[:5]
        return []

    def probed(self) -> list[str]:
        """What the metadata of the first rows' images say."""
        for batch in self._table.iter_batches(PROBED, columns=self.image_columns, use_threads=False):
            images = [data for values in batch.to_pylist() for data, _ in self.images(values)]
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


def _pieces(rows: Sequence[int], size: int) -> Iterator[tuple[int, int, int]]:
    """Runs of row groups (first, last, rows) of about `size` rows, never fewer than one group."""
    first = total = 0
    for group, count in enumerate(rows):
        if total and total + count > size:
            yield first, group - 1, total
            first, total = group, 0
        total += count
    if rows:
        yield first, len(rows) - 1, total


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
    )


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
    return _holds_bytes(kind) or (
        (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _holds_bytes(kind.value_type)
    )


def _image_columns(
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
    if any(name.lower() in URL_NAMES for name in schema.names):
        raise ArchiveError(f"{shown}: no column holds images, but one holds addresses of images. {DOWNLOAD_FIRST}")
    if named := [item.name for item in schema if item.name.lower() in PATH_NAMES and pa.types.is_string(item.type)]:
        raise ArchiveError(
            f"{shown}: no column holds images; {escape_name(named[0])} names files, which are read by a manifest: write the table as .csv "
            "where these paths hold"
        )
    raise ArchiveError(
        f"{shown}: no column holds images (bytes, a struct with bytes, lists of them, or base64). Its columns: "
        f"{_listed(schema.names)}. Set image_column if it is one of these"
    )


def _text_columns(table: pq.ParquetFile | ArrowFile, schema: pa.Schema) -> list[str]:
    """Columns of an image's name whose first text is an image in base64."""
    texts = (pa.types.is_string, pa.types.is_large_string)
    names = [item.name for item in schema if any(test(item.type) for test in texts)]
    names = [
        name
        for name in names
        if name.lower() in IMAGE_NAMES or name.lower().endswith("base64") or _NUMBERED.fullmatch(name)
    ]
    if not names:
        return []
    for batch in table.iter_batches(1, columns=names, use_threads=False):
        first = batch.to_pylist()[0]
        return [name for name in names if isinstance(first[name], str) and bytes_in_text(first[name]) is not None]
    return []


def _prompt_column(schema: pa.Schema, options: ArchiveOptions, shown: str) -> str | None:
    if options.prompt_from == "metadata":
        return None
    able = [item.name for item in schema if _is_plain(item.type)]
    found = pick(able, PROMPT_NAMES, options.prompt_column, what="prompt", where=shown, option="prompt_column")
    if found is None:
        raise ArchiveError(
            f"{shown}: no column of prompts ({', '.join(PROMPT_NAMES)}). Its columns: {_listed(schema.names)}. "
            "Set prompt_column to one of these, or prompt_from: metadata"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(escape_name(name) for name in names[:20])
    return f"{shown}, ..." if len(names) > 20 else shown or "none"
