"""Stage 2: images -> embeddings -> probabilities -> decisions, one shard at a time.

Fresh images are scored from their float32 embeddings, as open_clip's own recipe does. What is stored is float16: scores computed
from the store (`allfour relabel`, or a part whose wording alone has changed) differ from fresh ones by that rounding, docs/limits.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.models.classifiers.base import (
    AskedPeople,
    Classifier,
    EmbeddingClassifier,
    FloatArray,
    HalfArray,
    PersonClassifier,
    PersonScores,
    Reading,
    RecordedPeople,
    Unread,
    encodes_in_half,
    people_of,
)
from allfour.models.devices import granted_cores
from allfour.pipeline.archives.base import ArchivedImage, ArchiveItem
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.run.columns import (
    EMBEDDING_COLUMN,
    HALF_COLUMN,
    IMAGES_SCHEMA,
    SCORES_SCHEMA,
    UNREADABLE,
    ImageStatus,
    embeddings_schema,
)
from allfour.pipeline.run.folder import fingerprint
from allfour.pipeline.run.identities import reading
from allfour.pipeline.scoring.encoding import decoded_rows, encoded
from allfour.pipeline.scoring.parts import ShardTables
from allfour.pipeline.scoring.people import People, belong, people_table, reading_scores
from allfour.pipeline.scoring.persons import person_rows, plain_row
from allfour.pipeline.scoring.precision import Doubt
from allfour.pipeline.scoring.rows import Row, settle
from allfour.pipeline.scoring.score_tables import readable_rows

SCORING_VERSION = 3
"""Raise it when scoring the same image would give another row: it is part of every fingerprint."""


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


def score_shard(
    items: Iterable[ArchiveItem],
    *,
    classifier: Classifier,
    config: ScoringConfig,
    advance: Callable[[int], None] = lambda count: None,
    doubt: Doubt | None = None,
) -> ShardTables:
    """Score every image of a shard.

    Parameters
    ----------
    items
        The shard's images in order. Every item gets a row in `images` and rows in `scores`.
    advance
        Called with the number of images that were finished since the last call.
    doubt
        Which images are encoded again in full precision, of a classifier that encodes in half; None: all are encoded in full.

    Raises
    ------
    BeyondBandError
        Half precision was further off than was measured: the shard is to be scored without `doubt`.
    """
    workers = config.workers if config.workers is not None else granted_cores()
    if isinstance(classifier, EmbeddingClassifier):
        return _score_embedded(
            items, classifier=classifier, config=config, workers=workers, advance=advance, doubt=doubt
        )
    if isinstance(classifier, PersonClassifier | RecordedPeople | AskedPeople):
        return _score_persons(items, classifier, config, workers, advance)
    raise TypeError(f"{type(classifier).__name__} is none of the kinds in allfour.models.classifiers.base")


def _score_embedded(
    items: Iterable[ArchiveItem],
    *,
    classifier: EmbeddingClassifier,
    config: ScoringConfig,
    workers: int,
    advance: Callable[[int], None],
    doubt: Doubt | None,
) -> ShardTables:
    found = encoded(items, classifier=classifier, config=config, workers=workers, advance=advance, doubt=doubt)
    rows, half = found.rows, found.half if encodes_in_half(classifier) else None
    read = [row for row in rows if row.error is None]
    whole = np.asarray([row.vector for row in read], dtype=np.int64)
    vectors = found.vectors[whole]
    embeddings = _embeddings_table(rows, vectors, half=None if half is None else half[whole])
    people = None
    if people_of(classifier) is not None:
        crops = np.asarray([row.vector + 1 + n for row in read for n in range(len(row.boxes))], dtype=np.int64)
        table = people_table(
            embeddings,
            [row.boxes for row in read],
            found.vectors[crops],
            skins=[row.skins for row in read] if classifier.attributes.measured else None,
            half=None if half is None else half[crops],
        )
        people = People(table, found.vectors[crops])
    tables = _embedded_tables(images_table(rows), embeddings, vectors, people, classifier)
    return tables if half is None else replace(tables, precision=found.facts)


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
        scores=reading_scores(images, vectors, people, classifier),
        embeddings=embeddings,
        people=None if people is None else people.table,
    )


def matrix_of(embeddings: pa.Table) -> NDArray[np.float16]:
    """[N, D] of an embeddings table, without a copy where it is one chunk."""
    column = embeddings[EMBEDDING_COLUMN].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), column.type.list_size)


def half_rows(embeddings: pa.Table) -> NDArray[np.bool_]:
    """[N] which stored embeddings were made in half precision."""
    if HALF_COLUMN not in embeddings.column_names:
        return np.zeros(embeddings.num_rows, dtype=bool)
    return np.asarray(embeddings[HALF_COLUMN].to_numpy(), dtype=bool)


def doubtful_rows(embeddings: pa.Table, doubt: Doubt | None) -> NDArray[np.bool_]:
    """[N] which of those could have another decision in full; all of them where no band is known."""
    half = half_rows(embeddings)
    return half & doubt.of(matrix_of(embeddings)) if doubt is not None and half.any() else half


def fits(images: pa.Table, embeddings: pa.Table, people: pa.Table | None = None) -> bool:
    """Whether the embeddings are those of exactly the readable images, in their order, and the people those of these images."""
    read = images.filter(pa.array(readable_rows(images)))
    same = all(read[name].equals(embeddings[name]) for name in ("prompt_id", "index", "sha256"))
    return same and (people is None or belong(people, embeddings))


def images_table(rows: Sequence[Row]) -> pa.Table:
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


def _status(row: Row) -> str:
    return (ImageStatus.UNREADABLE if row.error is not None else ImageStatus.GENERATED).value


def _embeddings_table(rows: Sequence[Row], vectors: FloatArray, *, half: NDArray[np.bool_] | None) -> pa.Table:
    read = [row for row in rows if row.error is None]
    dim = vectors.shape[1]
    return pa.table(
        {
            "prompt_id": pa.array([row.image.prompt_id for row in read], pa.string()),
            "index": pa.array([row.image.index for row in read], pa.int64()),
            "sha256": pa.array([row.sha256 for row in read], pa.string()),
            EMBEDDING_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim),
            **({} if half is None else {HALF_COLUMN: half}),
        },
        schema=embeddings_schema(dim, half=half is not None),
    )


def unscored_tables(images: Iterable[ArchivedImage], error: str, questions: Sequence[str]) -> ShardTables:
    """Rows of images that are listed and cannot be scored, all for one reason."""
    rows = [Row(image=image, error=error) for image in images]
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
    rows: list[Row] = []
    people: dict[int, Sequence[PersonScores]] = {}
    again = False
    finish = classifier.prepare if isinstance(classifier, AskedPeople) else lambda image: image
    decoded = decoded_rows(
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
    settle(rows)
    if isinstance(classifier, RecordedPeople):
        _own_records(rows, people, classifier)
    attributes = classifier.attributes
    questions = asked_of(classifier)
    scores: list[dict[str, Any]] = []
    for row in rows:
        if row.error is None:
            scores += person_rows(row.image, people[id(row if id(row) in people else row.twin)], attributes)
        else:
            scores += [plain_row(row.image, name, UNREADABLE) for name in questions]
    table = pa.Table.from_pylist(scores, schema=SCORES_SCHEMA)
    return ShardTables(images=images_table(rows), scores=table, embeddings=None, open=again)


def _own_records(rows: Iterable[Row], people: dict[int, Sequence[PersonScores]], classifier: RecordedPeople) -> None:
    """What was recorded of a path is said of that image alone, not of another one with the same bytes."""
    for row in rows:
        if row.twin is None or row.error not in (None, classifier.missing()):
            continue
        found = classifier.find(sha256=row.sha256 or "", path=row.image.path)
        row.error = classifier.missing() if found is None else None
        if found is not None:
            people[id(row)] = found


def _read(
    decoded: Iterator[tuple[Row, Any]],
    classifier: PersonClassifier | RecordedPeople | AskedPeople,
    advance: Callable[[int], None],
) -> Generator[tuple[Row, Reading]]:
    """What is in each image that could be decoded; the others, and twins, are told to `advance` alone."""
    if isinstance(classifier, AskedPeople):
        waiting: dict[str, Row] = {}

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
