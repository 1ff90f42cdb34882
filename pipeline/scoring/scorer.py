"""Stage 2: images -> embeddings -> probabilities -> decisions, one shard at a time.

Fresh images are scored from their float32 embeddings, as open_clip's own recipe does. What is stored is float16: scores computed
from the store (`allfour relabel`, or a part whose wording alone has changed) differ from fresh ones by that rounding, docs/limits.md.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from allfour.models.classifiers.base import (
    AheadEncoder,
    AskedPeople,
    Classifier,
    EmbeddingClassifier,
    FloatArray,
    HalfArray,
    ParallelEncoder,
    PersonClassifier,
    PersonScores,
    Reading,
    RecordedPeople,
    Unread,
    people_of,
)
from allfour.models.detectors.base import Box
from allfour.models.devices import granted_cores
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.archives.decoding import UnreadableImage, decode_image
from allfour.pipeline.archives.seams import find_grid
from allfour.pipeline.archives.tiles import grid_error
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.run.columns import (
    EMBEDDING_COLUMN,
    IMAGES_SCHEMA,
    SCORES_SCHEMA,
    UNREADABLE,
    ImageStatus,
    embeddings_schema,
)
from allfour.pipeline.run.folder import fingerprint
from allfour.pipeline.run.identities import reading
from allfour.pipeline.scoring.parts import ShardTables
from allfour.pipeline.scoring.people import People, Skin, belong, people_table, prepare, reading_scores
from allfour.pipeline.scoring.persons import person_rows, plain_row
from allfour.pipeline.scoring.score_tables import plain_scores, readable_rows

SCORING_VERSION = 3
"""Raise it when scoring the same image would give another row: it is part of every fingerprint."""

GROUP = 16
"""Images that one core encodes at once: larger batches are hardly faster there, and leave cores idle at a shard's end."""


def scoring_fingerprint(classifier: Classifier, config: ScoringConfig) -> str:
    """What a part depends on besides its images."""
    return fingerprint(
        SCORING_VERSION,
        reading(classifier.identity()),
        classifier.attributes.model_dump(mode="json"),
        {"max_pixels": config.max_pixels},
    )


def encoding_fingerprint(classifier: Classifier, config: ScoringConfig) -> str | None:
    """What a part's images and embeddings depend on besides the input: not the wording. None where there are no embeddings."""
    if not isinstance(classifier, EmbeddingClassifier):
        return None
    return fingerprint(SCORING_VERSION, reading(classifier.encoder_identity()), {"max_pixels": config.max_pixels})


def asked_of(classifier: Classifier) -> tuple[str, ...]:
    """The questions that an image has rows for."""
    if isinstance(classifier, RecordedPeople):
        return classifier.questions
    return (
        classifier.attributes.questions
        if isinstance(classifier, EmbeddingClassifier)
        else tuple(classifier.attributes.attributes)
    )


@dataclass(slots=True)
class _Row:
    """What became of one listed image."""

    image: ArchivedImage
    sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None
    single: bool = True
    """Whether it is known to be one picture, and not looked at for seams."""
    twin: _Row | None = None
    """An earlier row with the same bytes: that one is decoded and encoded, and both keep its scores."""
    vector: int = -1
    """Position among the shard's embeddings; -1 where there is none. Those of its persons follow it."""
    boxes: tuple[Box, ...] = ()
    """Of the persons found in it, where somebody looked."""
    skins: tuple[Skin, ...] = ()
    """Of the same persons, where pixels answer an attribute."""


def _listed(item: ArchiveItem, first_of: dict[str, _Row]) -> _Row:
    row = _Row(image=item.image, error=item.error, single=item.single)
    if item.data is None:
        row.error = item.error or "no data"
        return row
    row.sha256 = hashlib.sha256(item.data).hexdigest()
    row.size = len(item.data)
    if row.error is None:
        first = first_of.setdefault(row.sha256, row)
        row.twin = first if first is not row else None
    return row


def _settle(rows: Iterable[_Row]) -> None:
    """Give every twin what was found of the first."""
    for row in rows:
        if row.twin is not None:
            row.width, row.height, row.error = row.twin.width, row.twin.height, row.twin.error
            row.vector, row.boxes, row.skins = row.twin.vector, row.twin.boxes, row.twin.skins


_STRIP = 50
"""Sides to one another from which on a failing crop is laid to the shape, such as one row of pixels."""


def _decode(row: _Row, data: bytes, finish: Callable[[Image.Image], Any], max_pixels: int) -> Any:
    """The decoded and prepared image; None, and the reason in the row, where it cannot be read."""
    try:
        decoded = decode_image(data, max_pixels=max_pixels)
    except UnreadableImage as error:
        row.error = error.reason
        return None
    except (ValueError, OSError, MemoryError) as error:
        row.error = f"cannot be decoded: {type(error).__name__}"
        return None
    row.width, row.height = decoded.width, decoded.height
    grid = find_grid(decoded.image) if not row.single else None
    if grid is not None:
        row.error = grid_error(grid)
        return None
    try:
        return finish(decoded.image)
    except (ValueError, OSError, MemoryError) as error:
        strip = max(decoded.image.size) > _STRIP * min(decoded.image.size)
        why = "cannot be resized for the classifier" if strip else "the classifier could not take it"
        row.error = f"{why}: {type(error).__name__}" + ("" if strip else f": {' '.join(str(error).split())[:200]}")
    return None


def score_shard(
    items: Iterable[ArchiveItem],
    *,
    classifier: Classifier,
    config: ScoringConfig,
    advance: Callable[[int], None] = lambda count: None,
) -> ShardTables:
    """Score every image of a shard.

    Parameters
    ----------
    items
        The shard's images in order. Every item gets a row in `images` and rows in `scores`.
    advance
        Called with the number of images that were finished since the last call.
    """
    workers = config.workers if config.workers is not None else granted_cores()
    if isinstance(classifier, EmbeddingClassifier):
        rows, encoded = _encoded(items, classifier, config, workers, advance)
        read = [row for row in rows if row.error is None]
        vectors = encoded[np.asarray([row.vector for row in read], dtype=np.int64)]
        embeddings = _embeddings_table(rows, vectors)
        people = None
        if people_of(classifier) is not None:
            crops = [row.vector + 1 + number for row in read for number in range(len(row.boxes))]
            of_people = encoded[np.asarray(crops, dtype=np.int64)]
            skins = [row.skins for row in read] if classifier.attributes.measured else None
            table = people_table(embeddings, [row.boxes for row in read], of_people, skins=skins)
            people = People(table, of_people)
        return _embedded_tables(images_table(rows), embeddings, vectors, people, classifier)
    if isinstance(classifier, PersonClassifier | RecordedPeople | AskedPeople):
        return _score_persons(items, classifier, config, workers, advance)
    raise TypeError(f"{type(classifier).__name__} is none of the kinds in allfour.models.classifiers.base")


def stored_tables(
    images: pa.Table, embeddings: pa.Table, people: pa.Table | None, classifier: EmbeddingClassifier
) -> ShardTables:
    """Score the stored embeddings of a shard's readable images (in the order of `images`) and of the people in them."""
    found = None if people is None else People(people, matrix_of(people))
    return _embedded_tables(images, embeddings, matrix_of(embeddings), found, classifier)


def _embedded_tables(
    images: pa.Table,
    embeddings: pa.Table,
    vectors: FloatArray | HalfArray,
    people: People | None,
    classifier: EmbeddingClassifier,
) -> ShardTables:
    return ShardTables(
        images=images,
        scores=plain_scores(reading_scores(images, vectors, people, classifier)),
        embeddings=embeddings,
        people=None if people is None else people.table,
    )


def matrix_of(embeddings: pa.Table) -> NDArray[np.float16]:
    """[N, D] of an embeddings table, without a copy where it is one chunk."""
    column = embeddings[EMBEDDING_COLUMN].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), column.type.list_size)


def fits(images: pa.Table, embeddings: pa.Table, people: pa.Table | None = None) -> bool:
    """Whether the embeddings are those of exactly the readable images, in their order, and the people those of these images."""
    read = images.filter(pa.array(readable_rows(images)))
    same = all(read[name].equals(embeddings[name]) for name in ("prompt_id", "index", "sha256"))
    return same and (people is None or belong(people, embeddings))


_Found = tuple[list[_Row], FloatArray]
"""The rows that could be read, each as often as it was encoded (the whole, then each person), and [N, D] of them."""


def _encoded(
    items: Iterable[ArchiveItem],
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
) -> tuple[list[_Row], FloatArray]:
    """The rows, and [N, D] of everything encoded, in which `_Row.vector` is a position."""
    rows: list[_Row] = []
    chunks: list[FloatArray] = []
    count = 0
    parallel = isinstance(classifier, ParallelEncoder) and classifier.encodes_in_parallel
    stream = _by_groups if parallel else _by_batches
    for found, vectors in stream(items, rows, classifier=classifier, config=config, workers=workers, advance=advance):
        for number, row in enumerate(found, start=count):
            if row.vector < 0:
                row.vector = number
        count += len(found)
        chunks.append(np.asarray(vectors, dtype=np.float32))
    _settle(rows)
    return rows, np.concatenate(chunks) if chunks else np.zeros((0, classifier.embedding_dim), dtype=np.float32)


def _by_groups(
    items: Iterable[ArchiveItem],
    rows: list[_Row],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[_Found]:
    """For encoders on the CPU: each worker decodes and encodes a group of images on one core.

    Nothing waits for anything else: decoding threads beside an encoder that itself runs on all cores would only take turns, and
    would hold it up at each of its barriers. The groups do not depend on the number of workers, so neither do the results.
    """
    encode = classifier.encode_on_one_core if workers and isinstance(classifier, ParallelEncoder) else classifier.encode

    def work(group: list[tuple[_Row, bytes]]) -> _Found:
        found, prepared = [], []
        while group:
            row, data = group.pop(0)  # the bytes are let go one by one
            value = _decode(row, data, partial(prepare, classifier=classifier), config.max_pixels)
            if value is not None:
                row.boxes, row.skins = value.boxes, value.skins
                found += [row] * len(value.inputs)
                prepared += value.inputs
        vectors = [encode(np.stack(prepared[start : start + size])) for start in range(0, len(prepared), size)]
        return found, np.concatenate([np.zeros((0, classifier.embedding_dim), dtype=np.float32), *vectors])

    size = min(config.batch_size, GROUP)
    first_of: dict[str, _Row] = {}
    group: list[tuple[_Row, bytes]] = []
    listed = 0
    _ = classifier.embedding_dim  # found out once, not by every worker at once
    with _Pool(workers, window=workers + 1) as pool:
        for item in items:
            row = _listed(item, first_of)
            rows.append(row)
            listed += 1
            if row.error is None and row.twin is None and item.data is not None:
                group.append((row, item.data))
            if len(group) == size:
                yield from pool.submit(work, group)
                group = []
                advance(listed)  # those in hand are at most a few groups more
                listed = 0
        if group:
            yield from pool.submit(work, group)
        yield from pool.drain()
    advance(listed)


def _by_batches(
    items: Iterable[ArchiveItem],
    rows: list[_Row],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[_Found]:
    """For encoders on a device: workers decode, this thread fills batches and keeps one in flight.

    Every batch has the same shape (the last is padded), so that a device's kernels are chosen once.
    """
    size = config.batch_size
    found: list[_Row] = []
    batch: NDArray[np.uint8] | None = None
    flying: deque[tuple[list[_Row], int, Callable[[], FloatArray]]] = deque()

    def launch() -> Iterator[_Found]:
        nonlocal found, batch
        if batch is not None and found:
            count = len(found)
            batch[count:] = 0
            if isinstance(classifier, AheadEncoder):
                flying.append((found, count, classifier.encode_ahead(batch)))
            else:
                vectors = classifier.encode(batch[:count])
                flying.append((found, count, lambda: vectors))
            found, batch = [], None
        while len(flying) > 1:
            yield landed()

    def landed() -> _Found:
        those, count, result = flying.popleft()
        return those, result()[:count]

    for row, value in _decoded(
        items,
        rows,
        finish=partial(prepare, classifier=classifier),
        workers=workers,
        window=2 * size + 4 * workers,
        max_pixels=config.max_pixels,
    ):
        if value is not None:
            row.boxes, row.skins = value.boxes, value.skins
        for pixels in value.inputs if value is not None else ():
            if batch is None:
                batch = np.empty((size, *pixels.shape), dtype=np.uint8)
            batch[len(found)] = pixels
            found.append(row)
            if len(found) == size:
                yield from launch()
        advance(1)
    yield from launch()
    while flying:
        yield landed()


def _decoded(
    items: Iterable[ArchiveItem],
    rows: list[_Row],
    *,
    finish: Callable[[Image.Image], Any],
    workers: int,
    window: int,
    max_pixels: int,
) -> Iterator[tuple[_Row, Any]]:
    """Every listed image in order, decoded in threads (Pillow releases the GIL) at most `window` images ahead.

    The value is None for images that cannot be read and for twins of an earlier one.
    """
    first_of: dict[str, _Row] = {}

    def work(row: _Row, data: bytes | None) -> tuple[_Row, Any]:
        if data is None or row.error is not None or row.twin is not None:
            return row, None
        return row, _decode(row, data, finish, max_pixels)

    with _Pool(workers, window=window) as pool:
        for item in items:
            row = _listed(item, first_of)
            rows.append(row)
            yield from pool.submit(work, row, item.data)
        yield from pool.drain()


class _Pool:
    """Threads whose results come in the order of submission, at most `window` of them waiting; 0 workers work at once."""

    def __init__(self, workers: int, *, window: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="score") if workers else None
        self._window = window
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> _Pool:
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


def images_table(rows: Sequence[_Row]) -> pa.Table:
    """IMAGES_SCHEMA rows of an archive's images."""
    images = [row.image for row in rows]
    columns: dict[str, list[Any]] = {
        "prompt_id": [image.prompt_id for image in images],
        "prompt": [image.prompt for image in images],
        "group": [image.group for image in images],
        "index": [image.index for image in images],
        "seed": [image.seed for image in images],
        "status": [_status(row) for row in rows],
        "path": [image.path for image in images],
        "sha256": [row.sha256 for row in rows],
        "size": [row.size for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "error": [row.error for row in rows],
        "extra": [list(image.extra.items()) or None for image in images],
    }
    return pa.table(
        [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(rows), field.type)
            for field in IMAGES_SCHEMA
        ],
        schema=IMAGES_SCHEMA,
    )


def _status(row: _Row) -> str:
    return (ImageStatus.UNREADABLE if row.error is not None else ImageStatus.GENERATED).value


def _embeddings_table(rows: Sequence[_Row], vectors: FloatArray) -> pa.Table:
    read = [row for row in rows if row.error is None]
    dim = vectors.shape[1]
    return pa.table(
        {
            "prompt_id": pa.array([row.image.prompt_id for row in read], pa.string()),
            "index": pa.array([row.image.index for row in read], pa.int64()),
            "sha256": pa.array([row.sha256 for row in read], pa.string()),
            EMBEDDING_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim),
        },
        schema=embeddings_schema(dim),
    )


def unscored_tables(images: Iterable[ArchivedImage], error: str, questions: Sequence[str]) -> ShardTables:
    """Rows of images that are listed and cannot be scored, all for one reason."""
    rows = [_Row(image=image, error=error) for image in images]
    scores = [plain_row(row.image, name, UNREADABLE) for row in rows for name in questions]
    return ShardTables(
        images=images_table(rows), scores=pa.Table.from_pylist(scores, schema=SCORES_SCHEMA), embeddings=None
    )


def _score_persons(
    items: Iterable[ArchiveItem],
    classifier: PersonClassifier | RecordedPeople | AskedPeople,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
) -> ShardTables:
    rows: list[_Row] = []
    people: dict[int, Sequence[PersonScores]] = {}
    again = False
    finish = classifier.prepare if isinstance(classifier, AskedPeople) else lambda image: image
    decoded = _decoded(
        items, rows, finish=finish, workers=workers, window=4 * workers + 1, max_pixels=config.max_pixels
    )
    with contextlib.closing(_read(decoded, classifier, advance)) as readings:
        for row, found in readings:
            if isinstance(found, Unread):
                row.error = found.reason
                again |= found.again
            else:
                people[id(row)] = found
            advance(1)
    _settle(rows)
    attributes = classifier.attributes
    questions = asked_of(classifier)
    scores: list[dict[str, Any]] = []
    for row in rows:
        if row.error is None:
            scores += person_rows(row.image, people[id(row.twin or row)], attributes)
        else:
            scores += [plain_row(row.image, name, UNREADABLE) for name in questions]
    table = pa.Table.from_pylist(scores, schema=SCORES_SCHEMA)
    return ShardTables(images=images_table(rows), scores=table, embeddings=None, open=again)


def _read(
    decoded: Iterator[tuple[_Row, Any]],
    classifier: PersonClassifier | RecordedPeople | AskedPeople,
    advance: Callable[[int], None],
) -> Generator[tuple[_Row, Reading]]:
    """What is in each image that could be decoded; the others, and twins, are told to `advance` alone."""
    if isinstance(classifier, AskedPeople):
        waiting: dict[str, _Row] = {}

        def prepared() -> Iterator[tuple[str, bytes]]:
            for row, data in decoded:
                if data is None or row.sha256 is None:
                    advance(1)
                    continue
                waiting[row.sha256] = row
                yield row.sha256, data

        with contextlib.closing(classifier.read(prepared())) as answers:
            for sha256, found in answers:
                yield waiting.pop(sha256), found
        return
    for row, image in decoded:
        if image is None:
            advance(1)
        elif isinstance(classifier, RecordedPeople):
            known = classifier.find(sha256=row.sha256 or "", path=row.image.path)
            yield row, Unread(classifier.missing()) if known is None else known
        else:
            yield row, classifier.classify(image)
