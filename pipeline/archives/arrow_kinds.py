"""What a column of a parquet or arrow file holds, in whichever of Arrow's layouts: plain, large, fixed in size, views, or by dictionary."""

from __future__ import annotations

import pyarrow as pa

_LONGEST_DIGEST = 64
"""Bytes of values that are fixed in size and no images: identifiers and digests, SHA-512 the longest. No image is as short."""


def plain_kind(kind: pa.DataType) -> pa.DataType:
    """The kind of the values themselves, where a column points at them."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    kind = plain_kind(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def may_be_files(kind: pa.DataType) -> bool:
    """Whether a column holds bytes of any length, or of one that a file may have."""
    kind = plain_kind(kind)
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width > _LONGEST_DIGEST)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_plain(kind: pa.DataType) -> bool:
    """Whether a column holds texts, numbers or dates."""
    kind = plain_kind(kind)
    return bool(
        is_text(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_temporal(kind)
    )
