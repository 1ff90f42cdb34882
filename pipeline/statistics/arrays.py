"""The array types of this package and the checks that every estimator makes on its input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def as_counts(counts: npt.ArrayLike, *, name: str = "counts", columns: int = 2) -> IntArray:
    """Return counts as an integer table, shape (rows, labels).

    Parameters
    ----------
    counts
        Non-negative whole numbers, shape (rows, labels).
    name
        What to call the argument in an error.
    columns
        The least number of columns that makes sense.

    Raises
    ------
    ValueError
        If the table is not two-dimensional, too narrow, negative or not whole.
    """
    table: npt.NDArray[Any] = np.asarray(counts)
    if table.ndim != 2 or table.shape[1] < columns:
        raise ValueError(f"{name} must have shape (rows, labels) with at least {columns} labels, got {table.shape}")
    return _as_whole(table, name)


def as_whole_numbers(numbers: npt.ArrayLike, *, name: str, length: int | None = None) -> IntArray:
    """Return non-negative whole numbers as a vector; a scalar is repeated to `length` where that is given.

    Raises
    ------
    ValueError
        If the vector has another length, or holds a negative or fractional number.
    """
    vector: npt.NDArray[Any] = np.asarray(numbers)
    if vector.ndim == 0 and length is not None:
        vector = np.full(length, vector)
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        raise ValueError(f"{name} must be a vector of length {length}, got shape {vector.shape}")
    return _as_whole(vector, name)


def as_values(values: npt.ArrayLike, *, name: str) -> FloatArray:
    """Return one finite number per prompt as a vector.

    Raises
    ------
    ValueError
        If the values are not a vector of finite numbers.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} must be a vector with one value per prompt, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite; leave out prompts without an estimate, and say how many they are")
    return vector


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")


def check_set_size(set_size: int) -> None:
    """Raise ValueError unless a set holds at least one image."""
    if set_size < 1:
        raise ValueError(f"set_size must be at least 1, got {set_size}")


def _as_whole(array: npt.NDArray[Any], name: str) -> IntArray:
    whole = array.astype(np.int64)
    if array.size and (not np.array_equal(whole, array) or whole.min() < 0):
        raise ValueError(f"{name} must hold whole numbers of at least 0")
    return whole
