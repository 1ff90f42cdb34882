"""Stage 2: images -> embeddings -> probabilities -> decisions, one shard at a time."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from models.attributes import AttributeSet
from models.classifiers.base import Classifier, EmbeddingClassifier, PersonClassifier, PersonScores
from pipeline.archives.base import ArchiveItem
from pipeline.config import ScoringConfig
from pipeline.decisions import Decisions, decide, decide_all
from pipeline.decoding import UnreadableImage, decode
from pipeline.parts import ShardTables
from pipeline.records import (
    IMAGES_SCHEMA,
    NO_PERSON,
    SCORES_SCHEMA,
    UNREADABLE,
    ImageStatus,
    embeddings_schema,
)
from pipeline.run_folder import fingerprint

SCORING_VERSION = 1
"""Raise it when scoring the same image would give another row: it is part of every fingerprint."""


def scoring_fingerprint(classifier: Classifier, config: ScoringConfig) -> str:
    """What a part depends on besides its images."""
    return fingerprint(
        SCORING_VERSION,
        classifier.identity(),
        classifier.attributes.model_dump(mode="json"),
        {"max_pixels": config.max_pixels},
    )


@dataclass(slots=True)
class _Prepared:
    """An image after decoding, in a worker."""

    item: ArchiveItem
    sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None
    value: Any = None
    """The encoder's input [H, W, 3] uint8, or the decoded image for a PersonClassifier."""


def _prepare(item: ArchiveItem, finish: Callable[[Image.Image], Any], max_pixels: int) -> _Prepared:
    prepared = _Prepared(item=item, error=item.error)
    if item.data is None:
        prepared.error = item.error or "no data"
        return prepared
    prepared.sha256 = hashlib.sha256(item.data).hexdigest()
    prepared.size = len(item.data)
    prepared.item = ArchiveItem(image=item.image, data=None, error=item.error)  # the bytes are not needed any more
    if item.error is not None:
        return prepared
    try:
        image = decode(item.data, max_pixels=max_pixels)
        prepared.width, prepared.height = image.size
        prepared.value = finish(image)
    except UnreadableImage as error:
        prepared.error = str(error)
    except (ValueError, OSError, MemoryError) as error:
        # a shape that decodes and still has no crop, such as one row of pixels
        prepared.error = f"cannot be resized for the classifier: {type(error).__name__}"
    return prepared


def _decoded(
    items: Iterable[ArchiveItem], finish: Callable[[Image.Image], Any], *, workers: int, window: int, max_pixels: int
) -> Iterator[_Prepared]:
    """Decode in threads (Pillow releases the GIL), in order, at most `window` images ahead."""
    if workers == 0:
        for item in items:
            yield _prepare(item, finish, max_pixels)
        return
    pending: deque[Future[_Prepared]] = deque()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                pending.append(pool.submit(_prepare, item, finish, max_pixels))
                if len(pending) >= window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


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
    workers = config.workers if config.workers is not None else (os.cpu_count() or 1)
    window = max(2 * config.batch_size, 4 * workers) if isinstance(classifier, EmbeddingClassifier) else 4 * workers + 1
    if isinstance(classifier, EmbeddingClassifier):
        stream = _decoded(items, classifier.prepare, workers=workers, window=window, max_pixels=config.max_pixels)
        return _score_embedded(stream, classifier, config.batch_size, advance)
    if isinstance(classifier, PersonClassifier):
        stream = _decoded(items, lambda image: image, workers=workers, window=window, max_pixels=config.max_pixels)
        return _score_persons(stream, classifier, advance)
    raise TypeError(f"{type(classifier).__name__} is neither an EmbeddingClassifier nor a PersonClassifier")


def _score_embedded(
    stream: Iterator[_Prepared], classifier: EmbeddingClassifier, batch_size: int, advance: Callable[[int], None]
) -> ShardTables:
    rows: list[_Prepared] = []
    row_of_vector: list[int] = []  # vector -> the first row that has it
    vector_of: dict[str, int] = {}  # sha256 -> vector: the same bytes are encoded once, and every row keeps its scores
    vector_of_row: list[int] = []  # row -> vector, -1 where the image is unreadable
    chunks: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []

    def flush() -> None:
        if batch:
            chunks.append(classifier.encode(np.stack(batch)))
            batch.clear()

    for prepared in stream:
        row = len(rows)
        rows.append(prepared)
        if prepared.error is not None or prepared.sha256 is None:
            vector_of_row.append(-1)
        elif prepared.sha256 in vector_of:
            vector_of_row.append(vector_of[prepared.sha256])
        else:
            vector_of[prepared.sha256] = len(row_of_vector)
            vector_of_row.append(len(row_of_vector))
            row_of_vector.append(row)
            batch.append(prepared.value)
        prepared.value = None
        if len(batch) >= batch_size:
            flush()
        advance(1)
    flush()

    dim = classifier.embedding_dim
    vectors = np.concatenate(chunks) if chunks else np.zeros((0, dim), dtype=np.float32)
    index = np.asarray(vector_of_row, dtype=np.int64)
    readable = np.flatnonzero(index >= 0)
    embeddings = vectors[index[readable]]
    return ShardTables(
        images=images_table(rows),
        scores=scores_table(rows, readable, classifier.probabilities(embeddings), classifier.attributes),
        embeddings=_embeddings_table(rows, readable, embeddings, dim),
    )


def images_table(rows: Sequence[_Prepared]) -> pa.Table:
    """IMAGES_SCHEMA rows of an archive's images."""
    return pa.Table.from_pylist(
        [
            {
                "prompt_id": row.item.image.prompt_id,
                "prompt": row.item.image.prompt,
                "group": row.item.image.group,
                "index": row.item.image.index,
                "seed": row.item.image.seed,
                "status": ImageStatus.UNREADABLE if row.error is not None else ImageStatus.GENERATED,
                "path": row.item.image.path,
                "sha256": row.sha256,
                "size": row.size,
                "width": row.width,
                "height": row.height,
                "error": row.error,
                "extra": dict(row.item.image.extra) or None,
            }
            for row in rows
        ],
        schema=IMAGES_SCHEMA,
    )


def scores_table(
    rows: Sequence[_Prepared],
    readable: NDArray[np.int64],
    probabilities: dict[str, NDArray[np.float32]],
    attributes: AttributeSet,
) -> pa.Table:
    """SCORES_SCHEMA rows: image after image, question after question within an image.

    Parameters
    ----------
    readable
        [N] positions in `rows` of the images that were encoded.
    probabilities
        Question -> [N, labels], in the order of `readable`.
    """
    decided = decide_all(probabilities, attributes)
    questions = attributes.questions
    total = len(rows)
    unreadable = np.ones(total, dtype=bool)
    unreadable[readable] = False
    tables = []
    for question in questions:
        tables.append(
            _question_table(
                rows,
                question,
                readable=readable,
                unreadable=unreadable,
                probabilities=probabilities[question],
                decided=decided[question],
                labels=attributes.labels(question),
            )
        )
    table = pa.concat_tables(tables)
    order = np.arange(total * len(questions)).reshape(len(questions), total).T.ravel()
    return table.take(pa.array(order)).combine_chunks()


def _question_table(
    rows: Sequence[_Prepared],
    question: str,
    *,
    readable: NDArray[np.int64],
    unreadable: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
    decided: Decisions,
    labels: tuple[str, ...],
) -> pa.Table:
    total, width = len(rows), len(labels)
    decision = np.full(total, UNREADABLE, dtype=object)
    decision[readable] = decided.decision
    probability, margin = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=np.float32)
    probability[readable], margin[readable] = decided.probability, decided.margin
    offsets = np.zeros(total + 1, dtype=np.int32)
    offsets[1:] = np.cumsum(~unreadable) * width
    offset_array = pa.array(offsets, mask=np.append(unreadable, False))
    keys = pa.array(labels, pa.string()).take(pa.array(np.tile(np.arange(width), len(readable))))
    return pa.table(
        {
            "prompt_id": pa.array([row.item.image.prompt_id for row in rows], pa.string()),
            "index": pa.array([row.item.image.index for row in rows], pa.int64()),
            "person": pa.array(np.zeros(total, dtype=np.int32)),
            "attribute": pa.array([question] * total, pa.string()),
            "decision": pa.array(decision, pa.string()),
            "probability": pa.array(probability, mask=unreadable),
            "margin": pa.array(margin, mask=unreadable),
            "probabilities": pa.MapArray.from_arrays(offset_array, keys, pa.array(probabilities.ravel(), pa.float32())),
            "box": pa.nulls(total, pa.list_(pa.int32())),
        },
        schema=SCORES_SCHEMA,
    )


def _embeddings_table(
    rows: Sequence[_Prepared], readable: NDArray[np.int64], embeddings: NDArray[np.float32], dim: int
) -> pa.Table:
    flat = pa.array(embeddings.astype(np.float16).ravel())
    return pa.table(
        {
            "prompt_id": pa.array([rows[i].item.image.prompt_id for i in readable], pa.string()),
            "index": pa.array([rows[i].item.image.index for i in readable], pa.int64()),
            "sha256": pa.array([rows[i].sha256 for i in readable], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, dim),
        },
        schema=embeddings_schema(dim),
    )


def _score_persons(
    stream: Iterator[_Prepared], classifier: PersonClassifier, advance: Callable[[int], None]
) -> ShardTables:
    rows: list[_Prepared] = []
    scores: list[dict[str, Any]] = []
    seen: dict[str, Sequence[PersonScores]] = {}
    for prepared in stream:
        rows.append(prepared)
        if prepared.error is None and prepared.sha256 is not None:
            if prepared.sha256 not in seen:
                seen[prepared.sha256] = classifier.classify(prepared.value)
            scores += _person_rows(prepared, seen[prepared.sha256], classifier.attributes)
        else:
            scores += [_plain_row(prepared, name, UNREADABLE) for name in classifier.attributes.attributes]
        prepared.value = None
        advance(1)
    return ShardTables(
        images=images_table(rows), scores=pa.Table.from_pylist(scores, schema=SCORES_SCHEMA), embeddings=None
    )


def _plain_row(row: _Prepared, attribute: str, decision: str, *, person: int = 0) -> dict[str, Any]:
    image = row.item.image
    return {
        "prompt_id": image.prompt_id,
        "index": image.index,
        "person": person,
        "attribute": attribute,
        "decision": decision,
    }


def _person_rows(row: _Prepared, people: Sequence[PersonScores], attributes: AttributeSet) -> list[dict[str, Any]]:
    if not people:
        return [_plain_row(row, name, NO_PERSON) for name in attributes.attributes]
    result = []
    for number, person in enumerate(people):
        for name, spec in attributes.attributes.items():
            given = person.probabilities.get(name)
            if given is None:
                result.append(_plain_row(row, name, "ambiguous", person=number))
                continue
            labels = tuple(spec.labels)
            decided = decide(
                np.asarray([[given[label] for label in labels]], dtype=np.float32), labels, margin=spec.margin
            )
            result.append(
                {
                    **_plain_row(row, name, str(decided.decision[0]), person=number),
                    "probability": float(decided.probability[0]),
                    "margin": float(decided.margin[0]),
                    "probabilities": [(label, float(given[label])) for label in labels],
                    "box": list(person.box) if person.box else None,
                }
            )
    return result
