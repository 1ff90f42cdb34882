"""Rows of a manifest, from its bytes: CSV, JSON lines, one JSON document, or a parquet file that names files."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.errors import ArchiveError
from allfour.pipeline.archives.arrow_kinds import is_plain
from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.columns import separator_of
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.manifest_lines import Lines, as_text, flattened, objects_in, spread_out
from allfour.pipeline.archives.manifest_rows import Row
from allfour.pipeline.archives.remote import address_path, open_binary, show_address
from allfour.pipeline.archives.text import escape_name

_JSON_LINES = (".jsonl", ".ndjson")
_BATCH_ROWS = 1_024
_MAX_UTF16_BYTES = 256 * 2**20
"""Such a file is held in memory, since its rows are found again by where they stand in its UTF-8."""
_WHOLE = ". If the file is one JSON document and not an object a line, name it .json"
_QUOTES = ". A quote inside a quoted field is written twice"
_UNQUOTED = ". A field that holds the separator must stand in double quotes, which follow the separator at once"
_TOO_LONG = ". A manifest names files; images that stand in a table as text are read from a parquet"


class ManifestReader:
    """One manifest, here or at an address."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._shown = show_address(file)
        name = address_path(file).lower()
        self._json = name.endswith(_JSON_LINES)
        self._whole = name.endswith(".json")
        self._table = name.endswith(".parquet")
        self._comma: str | None = None
        self._wide: bool | None = None
        """Whether it is UTF-16; None where nobody has looked."""

    @property
    def has_nulls(self) -> bool:
        """Whether it has a value for nothing, which in a file of text is a row that went wrong."""
        return self._table

    def rows(self, names: Sequence[str] = (), *, offset: int = 0, line: int = 1) -> Iterator[Row]:
        """Rows from the start, or from a row's offset and line with the header's names."""
        if not (self._json or self._whole or self._table):
            self._separator()  # before the file is opened: one in memory has a single place at a time
        with self._opened() as stream:
            if self._whole or self._table:
                yield from self._listed_rows(stream, offset) if self._whole else self._table_rows(stream, offset)
                return
            lines = Lines(stream, self._shown, offset=offset, line=line, returns=not self._json)
            yield from self._json_rows(lines) if self._json else self._csv_rows(lines, list(names))

    def _opened(self) -> BinaryIO:
        """The file; one of UTF-16 that says so by its mark, as spreadsheets save it, as UTF-8."""
        stream = open_binary(self._file)
        if self._table or self._wide is False:
            return stream
        if self._wide is None:  # looked at once: at an address it costs a request
            self._wide = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            stream.seek(0)
        if not self._wide:
            return stream
        with stream:
            content = stream.read(_MAX_UTF16_BYTES + 1)
        if len(content) > _MAX_UTF16_BYTES:
            raise ArchiveError(f"{self._shown} is UTF-16 and larger than {_MAX_UTF16_BYTES:,} bytes: save it as UTF-8")
        try:
            return io.BytesIO(content.decode("utf-16").encode())
        except UnicodeDecodeError as error:
            raise ArchiveError(
                f"{self._shown} begins as UTF-16 and is none from byte {error.start + 1} on: save it as UTF-8"
            ) from None

    def _listed_rows(self, stream: BinaryIO, first: int) -> Iterator[Row]:
        """Rows of a list of objects in one .json, from one of them on; where others have lines, these are numbered from 1."""
        for number, value in enumerate(objects_in(stream, self._shown)):
            if number < first:
                continue
            if not isinstance(value, dict):
                raise self.error(number + 1, 'is no JSON object such as {"path": ..., "prompt": ...}')
            for values in flattened(value):
                yield Row(number + 1, number, values)

    def _table_rows(self, stream: BinaryIO, first: int) -> Iterator[Row]:
        """Rows of a parquet file, from one of them on."""
        try:
            with pq.ParquetFile(stream, memory_map=False, pre_buffer=False) as table:
                names = [each.name for each in table.schema_arrow if is_plain(each.type)]
                number = 0
                for batch in table.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
                    start = max(0, first - number)
                    for values in rows_of(batch.slice(start)):
                        row = number + start
                        yield Row(row + 1, row, {name: as_text(value) for name, value in values.items()})
                        start += 1
                    number += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, ArchiveError | MemoryError):
                raise
            raise ArchiveError(f"{self._shown} is no parquet, or is damaged") from None

    def _json_rows(self, lines: Lines) -> Iterator[Row]:
        for text in lines:
            if not text.strip():
                continue
            whole = _WHOLE if lines.last_line == 1 and text.lstrip("\ufeff \t").startswith(("[", "{\n", "{\r")) else ""
            try:
                value = read_json(text.strip().removesuffix(","))
            except (ValueError, RecursionError) as error:
                raise self.error(lines.last_line, f"is no JSON ({error}){whole}") from None
            if not isinstance(value, dict):
                raise self.error(lines.last_line, f'is no JSON object such as {{"path": ..., "prompt": ...}}{whole}')
            for values in flattened(value):
                yield Row(lines.last_line, lines.last_offset, values)

    def _csv_rows(self, lines: Lines, names: list[str]) -> Iterator[Row]:
        rows = csv.reader(lines, delimiter=self._separator(), strict=True)
        while True:
            line, offset = lines.line, lines.offset
            try:
                fields = next(rows, None)
            except csv.Error as error:
                hint = _TOO_LONG if "limit" in str(error) else _QUOTES if '"' in str(error) else ""
                raise self.error(line, f"is no valid CSV ({error}){hint}") from None
            if fields is None:
                return
            if not any(map(str.strip, fields)):
                continue  # an empty line, or one of separators alone, as spreadsheets leave them
            if not names:
                if line == 1 and fields[0].startswith("sep="):
                    continue  # what Excel begins with
                names = [name.strip() for name in fields]
                names = [name or f"column {at + 1}" for at, name in enumerate(names)]  # as pandas writes its index
                if len(set(names)) < len(names):
                    double = next(name for name in names if names.count(name) > 1)
                    raise self.error(line, f"names the column '{escape_name(double)}' twice")
                if len(names) == 1 and any(mark in names[0] for mark in ",;\t|"):
                    raise self.error(line, "has one column; separate columns by commas (or tabs, in a .tsv)")
                if any(extension(name) in IMAGE_EXTENSIONS for name in names):
                    raise self.error(line, "names a file: the first line must name the columns, such as path,prompt")
                continue
            if len(fields) != len(names):
                more = _UNQUOTED if len(fields) > len(names) else ""
                raise self.error(line, f"has {len(fields)} fields, and the header {len(names)} columns{more}")
            row = dict(zip(names, fields, strict=True))
            if any(field.startswith("[") for field in fields):
                for values in spread_out(row):
                    yield Row(line, offset, values)
            else:
                yield Row(line, offset, row)

    def _separator(self) -> str:
        """Tabs in a .tsv; in any other file what its header shows."""
        if address_path(self._file).lower().endswith(".tsv"):
            return "\t"
        if self._comma is None:
            with self._opened() as stream:
                start = stream.read(4096)
            self._comma = separator_of(start.decode("utf-8-sig", "replace"))
        return self._comma

    def error(self, line: int, what: str) -> ArchiveError:
        return ArchiveError(
            f"{self._shown}: {'entry' if self._whole else 'row' if self._table else 'line'} {line} {what}"
        )
