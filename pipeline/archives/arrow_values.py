"""Values of a parquet or arrow file as Python has them. One that Python has no form for is a text, and not the end of all rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_REFUSED = (ValueError, OverflowError, KeyError, pa.ArrowException)
"""What a value raises that is no UTF-8, finer than a microsecond, beyond the year 9999, or in a time zone that nobody knows."""


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch."""
    try:
        return list(batch.to_pylist())
    except MemoryError:
        raise
    except _REFUSED:
        columns = [list(map(_value, column)) for column in batch.columns]
        return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def values_of(array: pa.Array) -> list[Any]:
    """The values of one column."""
    try:
        return list(array.to_pylist())
    except MemoryError:
        raise
    except _REFUSED:
        return list(map(_value, array))


class _Told:
    """What Arrow says of a value, where Python has none: a text, written as a date is."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except MemoryError:
        raise
    except _REFUSED:
        pass
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(scalar[name]) for name in scalar}
    if isinstance(scalar, pa.ListScalar):
        return list(map(_value, scalar.values))
    if isinstance(scalar, pa.DictionaryScalar):
        return _value(scalar.value)
    if isinstance(scalar, pa.StringScalar):
        return bytes(scalar.as_buffer()).decode("utf-8", "backslashreplace")
    try:
        return _Told(str(scalar.cast(pa.string())))
    except (ValueError, pa.ArrowException):
        return _Told(str(scalar.value))
