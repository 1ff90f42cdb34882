"""Whole sets of one label among all images of a prompt, in a byte or two of memory an image and without grouping rows by set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.pipeline.run.labels import NO_SET_LABEL, sets_of_one_label
from allfour.pipeline.run.tables import batches, scalar
from allfour.pipeline.statistics.arrays import IntArray

_GAPS = 'SELECT prompt_id FROM images GROUP BY prompt_id HAVING min("index") <> 0 OR max("index") >= count(*)'
"""Prompts whose images are not numbered 0, 1, 2, ...: in all others a number is a position."""

_NUMBERED = """
SELECT s.start + l."index" AS place, c.code FROM labels l
JOIN starts s ON l.prompt_id = s.prompt_id JOIN codes c ON l.label = c.label
WHERE l.attribute = $attribute AND NOT s.gaps AND l."index" BETWEEN 0 AND s.images - 1
"""
_IN_ORDER = """
SELECT i.prompt_id IS DISTINCT FROM l.prompt_id OR i."index" IS DISTINCT FROM l."index" AS apart, i.prompt_id, i."index", l.label
FROM images i POSITIONAL JOIN (SELECT prompt_id, "index", label FROM labels WHERE attribute = $attribute) l
"""
"""The rows of both tables side by side, as in `count_together`; a further join would not keep their order."""
_RANKED = """
WITH ranked AS (
  SELECT s.start + row_number() OVER (PARTITION BY i.prompt_id ORDER BY i."index") - 1 AS place, i.prompt_id, i."index"
  FROM images i JOIN starts s ON i.prompt_id = s.prompt_id WHERE s.gaps)
SELECT r.place, c.code FROM ranked r
JOIN labels l ON r.prompt_id = l.prompt_id AND r."index" = l."index" JOIN codes c ON l.label = c.label WHERE l.attribute = $attribute
"""


def unanimous_sets(
    connection: duckdb.DuckDBPyConnection,
    images: Mapping[str, int],
    *,
    attribute: str,
    labels: Collection[str],
    size: int,
) -> dict[str, int]:
    """Count the whole sets of one label: `size` images of a prompt, one after the other by index.

    Every image has a place of its own in one array, to which its label is written. A grouping by set would hold a key for each, which
    does not fit into memory from some 20 million images on and passes through the disk.

    The place is the index where images are numbered from 0 on. Archives whose rows bear no numbers count them anew in every shard: there
    it is the place among the rows of the prompt, as long as these lie in the order of their indexes; else images are ranked, which sorts
    them all.

    Parameters
    ----------
    connection
        See `connect`.
    images
        Prompt id -> images, for every prompt of the run.
    attribute
        One of the run's attributes.
    labels
        What its images show; names that are no label may be among them.
    size
        Images of a set.

    Returns
    -------
    Prompt id -> sets, for every prompt.
    """
    numbers = np.array(list(images.values()), dtype=np.int64)
    ends = np.cumsum(numbers)
    gaps = {row[0] for row in connection.execute(_GAPS).fetchall()}
    names = sorted(set(labels) - NO_SET_LABEL)
    kept = np.full(int(numbers.sum()), -1, dtype=np.min_scalar_type(-len(names) - 1))
    codes = {"label": pa.array(names, pa.string()), "code": np.arange(len(names), dtype=kept.dtype)}
    connection.register("codes", pa.table(codes))
    starts = {
        "start": ends - numbers,
        "images": numbers,
        "prompt_id": list(images),
        "gaps": [p in gaps for p in images],
    }
    connection.register("starts", pa.table(starts))
    if not gaps or not _in_order(
        connection, attribute, prompts=list(images), names=names, starts=ends - numbers, kept=kept
    ):
        for query in [_NUMBERED, _RANKED] if gaps else [_NUMBERED]:
            for batch in batches(connection, query, {"attribute": attribute}):
                kept[batch.column(0).to_numpy()] = batch.column(1).to_numpy()
    pieces = np.split(kept, ends[:-1])
    return {prompt: sets_of_one_label(piece, size) for prompt, piece in zip(images, pieces, strict=True)}


def _in_order(
    connection: duckdb.DuckDBPyConnection,
    attribute: str,
    *,
    prompts: Sequence[str],
    names: Sequence[str],
    starts: IntArray,
    kept: NDArray[np.signedinteger[Any]],
) -> bool:
    """Write the labels to `kept` by the order of the rows, if each image has one and indexes rise within every prompt."""
    if scalar(connection, "SELECT coalesce(max(person), 0) FROM scores"):
        return False  # labels of several persons are grouped, and in no order
    number = {prompt: place for place, prompt in enumerate(prompts)}
    code = {name: place for place, name in enumerate(names)}
    order = _Order(starts)
    connection.execute("SET preserve_insertion_order = true")
    try:
        for batch in batches(connection, _IN_ORDER, {"attribute": attribute}):
            apart, prompt, index, label = batch.columns
            if apart.true_count:
                break
            places = order.places(_coded(prompt, number), index.to_numpy())
            if places is None:
                break
            kept[places] = _coded(label, code)
        else:
            return True
    finally:
        connection.execute("SET preserve_insertion_order = false")
    kept[:] = -1
    return False


def _coded(names: pa.StringArray, code: Mapping[str, int]) -> NDArray[np.int32]:
    """[N] the code of each name, -1 where it has none."""
    coded = names.dictionary_encode()
    codes = np.array([code.get(name, -1) for name in coded.dictionary.to_pylist()], dtype=np.int32)
    found: NDArray[np.int32] = codes[coded.indices.to_numpy()]
    return found


class _Order:
    """Places of images by the order in which their rows come."""

    def __init__(self, starts: IntArray) -> None:
        self._next = starts.copy()
        self._last = np.full(len(starts), np.iinfo(np.int64).min)
        self._small = np.min_scalar_type(len(starts))  # numbers of two bytes are sorted without comparing them

    def places(self, number: NDArray[np.int32], index: IntArray) -> IntArray | None:
        """[N] places of the next images, by the number of their prompt; None where an index does not rise within its prompt."""
        order = np.argsort(number.astype(self._small), kind="stable")
        number, index = number[order], index[order]
        new = np.append(True, number[1:] != number[:-1])[: len(number)]
        first = np.flatnonzero(new)
        counts = np.diff(np.append(first, len(number)))
        mine = number[first]
        if not (new[1:] | (index[1:] > index[:-1])).all() or not (index[first] > self._last[mine]).all():
            return None
        places = np.empty(len(number), dtype=np.int64)
        places[order] = np.arange(len(number)) + np.repeat(self._next[mine] - first, counts)
        self._next[mine] += counts
        self._last[mine] = index[first + counts - 1]
        return places
