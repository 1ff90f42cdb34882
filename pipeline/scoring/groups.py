"""Groups of images that one core reads and encodes together, and the threads that do so.

Which images are a group depends on their order in a shard alone. So a group that was encoded before its shard's turn has come (to measure
by, see `allfour.pipeline.scoring.precision`) has the embeddings that it would have had then, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from allfour.models.classifiers.base import ByteArray, EmbeddingClassifier, FloatArray, ParallelEncoder
from allfour.models.devices import on_one_core
from allfour.pipeline.archives.base import ArchiveItem
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.scoring.people import prepare
from allfour.pipeline.scoring.rows import Row, decode_row, listed_row

GROUP = 16
"""Images that one core encodes at once: larger batches are hardly faster there, and leave cores idle at a shard's end."""

Encode = Callable[[ByteArray], FloatArray]
Listed = list[tuple[Row, bytes]]
"""Images of a group, as they are listed."""
Key = tuple[tuple[str | None, bool], ...]


def group_size(config: ScoringConfig) -> int:
    """Images of a group; a shard's last may have fewer."""
    return min(config.batch_size, GROUP)


def listed_groups(items: Iterable[ArchiveItem], rows: list[Row], size: int) -> Iterator[Listed]:
    """The images of a shard that are to be read, in groups; `rows` gets a row of every item, as far as it was listed."""
    first_of: dict[str, Row] = {}
    group: Listed = []
    for item in items:
        row = listed_row(item, first_of)
        rows.append(row)
        if row.error is None and row.twin is None and item.data is not None:
            group.append((row, item.data))
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class Group:
    """Images that were read and encoded together."""

    rows: Sequence[Row]
    """Those that can be read, and those that cannot."""
    of: Sequence[int]
    """[N] which of the rows each input is of: the whole of the image first, then each person."""
    inputs: Sequence[ByteArray]
    """[N] of [H, W, 3]."""
    vectors: FloatArray
    """[N, D]."""

    @property
    def found(self) -> list[Row]:
        """[N] the row of each input."""
        return [self.rows[place] for place in self.of]

    def given_to(self, rows: Sequence[Row]) -> Group:
        """The same of rows that were listed anew."""
        for row, before in zip(rows, self.rows, strict=True):
            row.take(before)
        return Group(rows, self.of, self.inputs, self.vectors)


def encoded_group(
    listed: Listed, *, classifier: EmbeddingClassifier, encode: Encode, size: int, max_pixels: int
) -> Group:
    """Read and encode a group, `size` inputs at a time. What is listed is let go."""
    rows = [row for row, _ in listed]
    of: list[int] = []
    inputs: list[ByteArray] = []
    for place in range(len(rows)):
        row, data = listed.pop(0)  # the bytes are let go one by one
        value = decode_row(row, data, partial(prepare, classifier=classifier), max_pixels)
        if value is not None:
            row.boxes, row.skins = value.boxes, value.skins
            of += [place] * len(value.inputs)
            inputs += value.inputs
    parts = [encode(np.stack(inputs[start : start + size])) for start in range(0, len(inputs), size)]
    none = np.zeros((0, classifier.embedding_dim), dtype=np.float32)
    return Group(rows, of, inputs, np.concatenate([none, *parts]))


def key_of(rows: Iterable[Row]) -> Key:
    """What a group is known by: the bytes of its images, and how they are looked at."""
    return tuple((row.sha256, row.single) for row in rows)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Groups that one encoder encoded before their turn, each to be taken once. They stay in this process."""

    _groups: dict[Key, Group] = field(default_factory=dict)

    def put(self, group: Group) -> None:
        self._groups[key_of(group.rows)] = group

    def take(self, listed: Listed) -> Group | None:
        """What was encoded of these very images; None where they have to be encoded. May be called by several threads at once."""
        if not self._groups:
            return None
        rows = [row for row, _ in listed]
        found = self._groups.pop(key_of(rows), None)
        if found is None:
            return None
        listed.clear()
        return found.given_to(rows)

    def __len__(self) -> int:
        return len(self._groups)

    def __reduce__(self) -> tuple[type[Ahead], tuple[()]]:
        return Ahead, ()  # elsewhere they are encoded again, to the same figures


def one_core_each(classifier: EmbeddingClassifier, workers: int) -> AbstractContextManager[None]:
    """What holds while groups are encoded, so that figures are the same to the last bit with workers and without: these have one core each."""
    if workers or not isinstance(classifier, ParallelEncoder):
        return nullcontext()
    return on_one_core()


class Pool:
    """Threads whose results come in the order of submission, at most `window` of them waiting; 0 workers work at once."""

    def __init__(self, workers: int, *, window: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="score") if workers else None
        self._window = window
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Pool:
        return self

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        if self._threads is None:
            yield work(*arguments)
            return
        self._waiting.append(self._threads.submit(work, *arguments))
        while len(self._waiting) > self._window:
            yield self._waiting.popleft().result()

    def drain(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting.popleft().result()

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
