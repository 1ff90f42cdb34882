"""Record types and arrow schemas of the run folder: the one home of every column name."""

from __future__ import annotations

import enum

import pyarrow as pa

from allfour.models.attributes import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE

__all__ = [
    "AMBIGUOUS",
    "EMBEDDING_COLUMN",
    "HALF_COLUMN",
    "IMAGES_SCHEMA",
    "MIXED",
    "NO_PERSON",
    "PEOPLE",
    "SCORES_SCHEMA",
    "SEVERAL",
    "UNREADABLE",
    "ImageStatus",
    "embeddings_schema",
    "people_schema",
]


class ImageStatus(enum.StrEnum):
    """What became of a requested or archived image."""

    GENERATED = "generated"
    """The bytes stand: made by the run's generator, or found in the archive and readable."""
    REFUSED = "refused"
    """A content policy withheld it."""
    FAILED = "failed"
    """No image, for any other reason."""
    UNREADABLE = "unreadable"
    """Listed in an archive, but its bytes are missing or no image; `error` says why."""


IMAGES_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),  # as requested, or as found in the archive
        pa.field("group", pa.string()),  # the prompt's group in its prompt set, such as extreme-she
        pa.field(
            "index", pa.int64(), nullable=False
        ),  # position within the prompt; ordered, unique, not always gapless
        pa.field("seed", pa.int64()),
        pa.field("status", pa.string(), nullable=False),  # ImageStatus
        pa.field(
            "path", pa.string()
        ),  # relative to the run folder where it made the image, else as the source names it
        pa.field("sha256", pa.string()),  # of the original bytes; equal hashes are duplicates
        pa.field("size", pa.int64()),  # bytes
        pa.field("width", pa.int32()),  # pixels, as shown (after EXIF orientation)
        pa.field("height", pa.int32()),
        pa.field("revised_prompt", pa.string()),  # where the service rewrote the prompt
        pa.field("code", pa.string()),  # provider's code of a refusal
        pa.field("error", pa.string()),  # why there is no image, or why it cannot be read
        pa.field("truth", pa.map_(pa.string(), pa.string())),  # true labels, where the generator knows them
        pa.field("extra", pa.map_(pa.string(), pa.string())),  # further columns of a manifest, or the backend's details
    ]
)

SCORES_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("person", pa.int32(), nullable=False),  # 0 for a whole-image score and for the first person found
        pa.field("attribute", pa.string(), nullable=False),  # includes 'presence' where the classifier has the gate
        pa.field("decision", pa.string(), nullable=False),  # a label, or ambiguous / no_person / unreadable
        pa.field("probability", pa.float32()),  # of the most probable label
        pa.field("margin", pa.float32()),  # most probable minus second
        pa.field("probabilities", pa.map_(pa.string(), pa.float32())),  # by label name
        pa.field("box", pa.list_(pa.int32())),  # left, top, right, bottom of the person, where one was located
    ]
)

EMBEDDING_COLUMN = "embedding"

HALF_COLUMN = "half"
"""Whether an embedding was made in half precision; a column of runs whose classifier makes some of them so."""

PEOPLE, SEVERAL = "people", "several"
"""Key and value in an image's `extra`: its prompt asks for a group of people."""


def _made_in(half: bool) -> list[pa.Field[pa.DataType]]:
    return [pa.field(HALF_COLUMN, pa.bool_(), nullable=False)] if half else []


def embeddings_schema(dim: int, *, half: bool = False) -> pa.Schema:
    """Schema of RUN/embeddings/part-*.arrow: a row per encoded image, unit vectors in fp16.

    Parameters
    ----------
    half
        Whether it is told which were made in half precision.
    """
    return pa.schema(
        [
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field(EMBEDDING_COLUMN, pa.list_(pa.float16(), dim), nullable=False),
            *_made_in(half),
        ]
    )


def people_schema(dim: int, *, skin: bool = False, half: bool = False) -> pa.Schema:
    """Schema of RUN/embeddings/part-*.people.arrow: a row per person that a detector found, unit vectors of the crops in fp16.

    Parameters
    ----------
    skin
        Whether the colour of each face's skin was measured: CIELAB, null where there was none to measure.
    half
        As in `embeddings_schema`.
    """
    measured = [pa.field("skin", pa.list_(pa.float32(), 3))] if skin else []
    return pa.schema(
        [
            pa.field("prompt_id", pa.string(), nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("image", pa.int32(), nullable=False),  # position of the image among the part's embeddings
            pa.field("box", pa.list_(pa.int32()), nullable=False),  # as in the scores
            *measured,
            pa.field(EMBEDDING_COLUMN, pa.list_(pa.float16(), dim), nullable=False),
            *_made_in(half),
        ]
    )
