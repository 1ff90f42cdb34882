"""Images with the same bytes: one is scored, and the others have its row.

The rows of one matrix product may differ in their last bit by where they stand in it, even where they are equal; so equal embeddings
alone do not make figures equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.models.classifiers.base import FloatArray

Positions = NDArray[np.int64]


def first_twins(images: pa.Table) -> Positions:
    """[N] for every readable image the first with the same bytes: itself where there is no earlier one.

    Parameters
    ----------
    images
        [N] readable images with their sha256.
    """
    codes = images["sha256"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    return np.asarray(first[codes], dtype=np.int64)


def first_twin_crops(image_of: NDArray[np.int32], first: Positions) -> Positions:
    """[persons] for every crop the one of the first twin, which stands at the same place among that image's crops.

    Parameters
    ----------
    image_of
        [persons] the image of each crop, in order.
    first
        Of `first_twins`.
    """
    count = np.bincount(image_of, minlength=len(first))
    start = np.cumsum(count) - count
    same = count == count[first]  # what was stored of two twins could only differ by damage
    moved = np.where(same, start[first] - start, 0)
    return np.asarray(np.arange(len(image_of)) + moved[image_of], dtype=np.int64)


def shared(tables: Mapping[str, FloatArray], first: Positions) -> dict[str, FloatArray]:
    """Probabilities [N, labels] by question, in which every row is that of its first twin."""
    if (first == np.arange(len(first))).all():
        return dict(tables)  # without a copy: the usual case
    return {question: table[first] for question, table in tables.items()}
