"""Which images of a run have the bytes of another one, told from images.parquet in eight bytes of memory an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from allfour.pipeline.run.folder import reading_table

_HEX = 64
"""Characters of a sha256."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 2**17

PLACE = "file_row_number"
"""Column of `repeated_rows`: an image's row in images.parquet."""
_SCHEMA = pa.schema([("prompt_id", pa.string()), ("index", pa.int64()), ("sha256", pa.string()), (PLACE, pa.int64())])


def repeated_rows(tables: Sequence[Path]) -> pa.Table:
    """prompt_id, index, sha256 and `file_row_number` of every image whose sha256 another image has too.

    Rarely an image is among them whose sha256 no other has: its short key is that of another one.

    Parameters
    ----------
    tables
        images.parquet of one run, or of several whose images are counted together; rows are numbered from the first one on.

    Raises
    ------
    RunFolderError
        A table is damaged.
    """
    keys = np.concatenate([_keys_of(path) for path in tables]) if len(tables) > 1 else _keys_of(tables[0])
    keys.sort()
    several = np.unique(keys[1:][keys[1:] == keys[:-1]])
    del keys
    if not len(several):
        return _SCHEMA.empty_table()
    return pa.concat_tables(list(_rows_of(tables, several)))


def _keys_of(path: Path) -> NDArray[np.uint64]:
    """The keys of one table's images that have bytes."""
    with reading_table(path), pq.ParquetFile(path) as file:
        keys = np.empty(file.metadata.num_rows, dtype=np.uint64)
        filled = 0
        for batch in file.iter_batches(_ROWS, columns=["sha256"], use_threads=False):
            found = _keys(batch.column(0).drop_null())
            keys[filled : filled + len(found)] = found
            filled += len(found)
    return keys[:filled]


def _rows_of(tables: Sequence[Path], keys: NDArray[np.uint64]) -> Iterator[pa.Table]:
    """The rows whose keys are among these, ascending."""
    start = 0
    names = _SCHEMA.names[:3]
    for path in tables:
        with reading_table(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
                places = pa.array(np.arange(start, start + batch.num_rows))
                start += batch.num_rows
                known = pa.table([*(batch[name] for name in names), places], schema=_SCHEMA)
                known = known.filter(known["sha256"].is_valid())
                mine = _keys(known["sha256"])
                at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
                yield known.filter(pa.array(keys[at] == mine))


def _keys(texts: pa.StringArray | pa.ChunkedArray) -> NDArray[np.uint64]:
    """[N] a number for each text, the same for the same text: of a sha256 mixed from all its characters, of others a hash."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    count = len(texts)
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + count + 1]
    if not count or (np.diff(ends) != _HEX).any():
        return np.asarray([_key(text) for text in texts.to_pylist()], dtype=np.uint64)
    words = np.frombuffer(texts.buffers()[2], dtype=np.uint64, count=count * _HEX // 8, offset=int(ends[0]))
    return _mixed(words.reshape(count, -1))


def _key(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) == _HEX:  # beside others in its batch
        return int(_mixed(np.frombuffer(data, dtype=np.uint64).reshape(1, -1))[0])
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[N, K] -> [N], by multiplying and folding."""
    found = words[:, 0] * _ODD
    for column in words.T[1:]:
        found ^= found >> np.uint64(29)
        found = (found ^ column) * _ODD
    return found ^ (found >> np.uint64(32))
