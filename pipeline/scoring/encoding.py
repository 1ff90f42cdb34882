"""Images into embeddings: decoding and encoding side by side, on this machine's cores or on a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.models.classifiers.base import (
    ByteArray,
    EmbeddingClassifier,
    FloatArray,
    HalfEncoder,
    ParallelEncoder,
)
from allfour.pipeline.archives.base import ArchiveItem
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.scoring.groups import (
    Encode,
    Listed,
    Pool,
    encoded_group,
    group_size,
    listed_groups,
    one_core_each,
)
from allfour.pipeline.scoring.precision import CHECKED, BeyondBandError, Doubt
from allfour.pipeline.scoring.rows import Row, decode_row, listed_row, settle
from allfour.pipeline.scoring.staged import Batch, Preparation

DEVICE_THREADS = 4
"""Threads that decode for an encoder on a device, by default: more of them wait for each other's Python (docs/benchmarks.md)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was encoded together."""

    rows: list[Row]
    """Those that could be read, each as often as it was encoded: the whole, then each person."""
    vectors: FloatArray
    """[N, D] of them."""
    again: Mapping[int, ByteArray] = field(default_factory=dict)
    """Position -> input, of those that are to be encoded in full too."""


@dataclass(frozen=True, slots=True)
class Anew:
    """What was encoded in full after all."""

    at: list[int]
    """[M] positions among everything encoded of the shard."""
    vectors: FloatArray
    """[M, D]."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A shard's images, encoded."""

    rows: list[Row]
    """`Row.vector` is a position in what follows."""
    vectors: FloatArray
    """[N, D]."""
    half: NDArray[np.bool_]
    """[N] whether each was made in half precision."""
    facts: Mapping[str, Any]
    """How much of it was, as JSON."""


def encoded(
    items: Iterable[ArchiveItem],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
    doubt: Doubt | None = None,
) -> Encoded:
    """Everything readable, encoded: in half precision and anew where there is doubt, or in full.

    Raises
    ------
    BeyondBandError
        An image that was encoded twice differs by more than its band.
    """
    rows: list[Row] = []
    chunks: list[FloatArray] = []
    anew: list[Anew] = []
    count = 0
    parallel = isinstance(classifier, ParallelEncoder) and classifier.encodes_in_parallel
    if not parallel and config.workers is None:
        workers = min(workers, DEVICE_THREADS)
    stream = partial(by_groups, doubt=doubt) if parallel else by_batches
    for found in stream(items, rows, classifier=classifier, config=config, workers=workers, advance=advance):
        if isinstance(found, Anew):
            anew.append(found)
            continue
        for number, row in enumerate(found.rows, start=count):
            if row.vector < 0:
                row.vector = number
        count += len(found.rows)
        chunks.append(np.asarray(found.vectors, dtype=np.float32))
    settle(rows)
    vectors = np.concatenate([np.zeros((0, classifier.embedding_dim), dtype=np.float32), *chunks])
    half = np.full(count, doubt is not None)
    at = np.asarray([position for part in anew for position in part.at], dtype=np.int64)
    reach = None
    if doubt is not None and len(at):
        full = np.concatenate([part.vectors for part in anew])
        reach = doubt.reach(vectors[at], full)
        if reach > 1:
            raise BeyondBandError
        vectors[at], half[at] = full, False
    facts = {"encoded": count, "half": int(half.sum()), "again": len(at), "reach": reach}
    return Encoded(rows, vectors, half, facts if doubt is None else {**facts, "file": doubt.measured.name})


def by_groups(
    items: Iterable[ArchiveItem],
    rows: list[Row],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
    doubt: Doubt | None,
) -> Iterator[Found | Anew]:
    """For encoders on the CPU: each worker decodes and encodes a group of images on one core.

    Nothing waits for anything else: decoding threads beside an encoder that itself runs on all cores would only take turns, and
    would hold it up at each of its barriers. Neither the groups nor what is encoded anew together depend on the number of workers, so
    neither do the results.
    """
    full: Encode = classifier.encode_on_one_core if isinstance(classifier, ParallelEncoder) else classifier.encode
    encode = full if doubt is None or not isinstance(classifier, HalfEncoder) else classifier.encode_in_half

    def work(number: int, listed: Listed) -> Found:
        group = doubt.measured.ahead.take(listed) if doubt is not None else None
        if group is None:
            group = encoded_group(listed, classifier=classifier, encode=encode, size=size, max_pixels=config.max_pixels)
        if doubt is None:
            return Found(group.found, group.vectors)
        again = doubt.of(group.vectors)
        again[:1] |= number * size % CHECKED < size
        return Found(group.found, group.vectors, {at: group.inputs[at] for at in np.flatnonzero(again).tolist()})

    size = group_size(config)
    told = 0
    _ = classifier.embedding_dim  # found out once, not by every worker at once
    with one_core_each(classifier, workers), Pool(workers, window=workers + 1) as pool:
        second = _SecondPass(pool, full, size)
        for number, group in enumerate(listed_groups(items, rows, size)):
            yield from second.after(pool.submit(work, number, group))
            advance(len(rows) - told)  # those in hand are at most a few groups more
            told = len(rows)
        yield from second.after(pool.drain())
        yield from second.rest()
    advance(len(rows) - told)


class _SecondPass:
    """Gathers what is to be encoded in full, and has it done in groups of `size` that depend on nothing but the order of the images."""

    def __init__(self, pool: Pool, encode: Encode, size: int) -> None:
        self._pool, self._encode, self._size = pool, encode, size
        self._waiting: list[tuple[int, ByteArray]] = []
        self._count = 0

    def after(self, results: Iterable[Found | Anew]) -> Iterator[Found | Anew]:
        """The results, and those of groups that they filled."""
        for result in results:
            yield result
            if isinstance(result, Anew):
                continue
            self._waiting += [(self._count + position, pixels) for position, pixels in result.again.items()]
            self._count += len(result.rows)
            while len(self._waiting) >= self._size:
                yield from self.after(self._submit())

    def rest(self) -> Iterator[Found | Anew]:
        """The last group, which may be smaller, when no more results come."""
        if self._waiting:
            yield from self._submit()
        yield from self._pool.drain()

    def _submit(self) -> Iterator[Found | Anew]:
        now, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        return self._pool.submit(self._work, [at for at, _ in now], [pixels for _, pixels in now])

    def _work(self, at: list[int], pixels: list[ByteArray]) -> Anew:
        return Anew(at, self._encode(np.stack(pixels)))


def by_batches(
    items: Iterable[ArchiveItem],
    rows: list[Row],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[Found]:
    """For encoders on a device: workers decode, this thread fills batches and keeps one in flight.

    Every batch has the same number of images (the last is padded), so that a device's kernels are chosen once.
    """
    size = config.batch_size
    batch = Batch(classifier, size)
    flying: deque[tuple[list[Row], Callable[[], FloatArray]]] = deque()

    def landed() -> Found:
        those, result = flying.popleft()
        return Found(those, result())

    for row, value in decoded_rows(
        items,
        rows,
        finish=Preparation(classifier),
        workers=workers,
        window=2 * size + 4 * workers,
        max_pixels=config.max_pixels,
    ):
        if value is not None:
            row.boxes, row.skins = value.boxes, value.skins
        for pixels in value.inputs if value is not None else ():
            if batch.add(row, pixels):
                flying.append(batch.launch())
                if len(flying) > 1:
                    yield landed()
        advance(1)
    if len(batch):
        flying.append(batch.launch())
    while flying:
        yield landed()


def decoded_rows(
    items: Iterable[ArchiveItem],
    rows: list[Row],
    *,
    finish: Callable[[Image.Image], Any],
    workers: int,
    window: int,
    max_pixels: int,
) -> Iterator[tuple[Row, Any]]:
    """Every listed image in order, decoded in threads (Pillow releases the GIL) at most `window` images ahead.

    The value is None for images that cannot be read and for twins of an earlier one.
    """
    first_of: dict[str, Row] = {}

    def work(row: Row, data: bytes | None) -> tuple[Row, Any]:
        if data is None or row.error is not None or row.twin is not None:
            return row, None
        return row, decode_row(row, data, finish, max_pixels)

    with Pool(workers, window=window) as pool:
        for item in items:
            row = listed_row(item, first_of)
            rows.append(row)
            yield from pool.submit(work, row, item.data)
        yield from pool.drain()
