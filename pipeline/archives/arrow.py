"""Arrow files, as the package `datasets` saves them, in the shape in which a parquet file is read: runs of rows, and columns.

Arrow's own reader believes the offsets in a file, so every batch is validated in full before a value of it is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class _Rows:
    """As parquet's metadata name the size of a row group."""

    num_rows: int


class ArrowFile:
    """Record batches of one file, of the format for files or that for streams, as row groups.

    Raises
    ------
    pa.ArrowException, OSError
        If it is neither, or is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        name = getattr(stream, "name", None)
        local = isinstance(name, str) and Path(name).is_file()
        self._source: Any = pa.memory_map(name) if local else stream
        self._file = pa.ipc.open_file(self._source) if self._starts() == FILE_MAGIC else None
        if self._file is not None:
            self.schema_arrow = self._file.schema
            self._rows = [self._file.get_batch(at).num_rows for at in range(self._file.num_record_batches)]
        else:
            reader = pa.ipc.open_stream(self._source)
            self.schema_arrow = reader.schema
            self._rows = [batch.num_rows for batch in reader]

    def _starts(self) -> bytes:
        self._source.seek(0)
        head = bytes(self._source.read(len(FILE_MAGIC)))
        self._source.seek(0)
        return head

    @property
    def metadata(self) -> ArrowFile:
        """Itself: it is asked for its row groups as parquet's metadata are."""
        return self

    @property
    def num_row_groups(self) -> int:
        return len(self._rows)

    def row_group(self, group: int) -> _Rows:
        return _Rows(self._rows[group])

    def iter_batches(
        self,
        batch_size: int,
        *,
        columns: Sequence[str],
        row_groups: Sequence[int] | None = None,
        use_threads: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of some of its batches, at most so many at a time."""
        del use_threads
        wanted = set(range(len(self._rows)) if row_groups is None else row_groups)
        for batch in self._batches(wanted):
            chosen = batch.select(
                [name.partition(".")[0] if name not in batch.schema.names else name for name in columns]
            )
            chosen.validate(full=True)
            for start in range(0, chosen.num_rows, batch_size):
                yield chosen.slice(start, batch_size)

    def nulls(self, name: str) -> int:
        """How many values of a column of images hold no bytes."""
        count = 0
        for batch in self.iter_batches(65_536, columns=[name]):
            column = batch.column(0)
            count += (pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column).null_count
        return count

    def bytes_of(self, names: Sequence[str]) -> int:
        """Bytes that columns take."""
        return sum(batch.select(list(names)).nbytes for batch in self._batches(set(range(len(self._rows)))))

    def _batches(self, wanted: set[int]) -> Iterator[pa.RecordBatch]:
        if self._file is not None:
            yield from (self._file.get_batch(at) for at in sorted(wanted))
            return
        self._source.seek(0)
        for at, batch in enumerate(pa.ipc.open_stream(self._source)):
            if at in wanted:
                yield batch
            if at >= max(wanted, default=-1):
                return

    def close(self) -> None:
        if self._source is not self._stream:
            self._source.close()
