"""Images with several people, read person by person: the embeddings of their crops, and scores with a row per person.

Every readable image has an embedding of the whole, whatever it shows. Where the classifier has a detector of people, the crop of each
person found has one too, in a table of its own; so wording, margins and the presence gate can change afterwards (`allfour relabel`)
and the detector is not asked again. Which of the two is read is decided here:

- A person counts where the presence gate, if there is one, lets the crop pass: a face in a pattern is none.
- An image with two or more such persons is read person by person, one without as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from allfour.errors import RunFolderError
from allfour.models import skin_tone
from allfour.models.attributes import PERSON, PRESENCE, AttributeSet
from allfour.models.classifiers.base import ByteArray, EmbeddingClassifier, FloatArray, HalfArray, people_of
from allfour.models.detectors.base import Box
from allfour.pipeline.run.columns import EMBEDDING_COLUMN, HALF_COLUMN, people_schema
from allfour.pipeline.scoring.score_tables import CODED_SCHEMA, coded_scores, readable_rows
from allfour.pipeline.scoring.twins import first_twin_crops, first_twins, shared

Skin = tuple[float, float, float] | None
"""The colour of a face's skin in CIELAB; None where there was none to measure."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What an encoder is given of one image."""

    inputs: tuple[ByteArray, ...]
    """Each [H, W, 3]: the whole image, then the crop of each person."""
    boxes: tuple[Box, ...] = ()
    """Of the persons, in the same order."""
    skins: tuple[Skin, ...] = ()
    """Likewise, where pixels answer an attribute."""


def prepare(image: Image.Image, classifier: EmbeddingClassifier) -> PreparedImage:
    """The whole of an RGB image, and the people that the classifier's detector finds in it, at the encoder's input size."""
    whole = classifier.prepare(image)
    finder = people_of(classifier)
    if finder is None:
        return PreparedImage((whole,))
    people = finder.detections(image)
    boxes = tuple(person.box for person in people)
    skins: tuple[Skin, ...] = ()
    if classifier.attributes.measured:
        colours = [skin_tone.measure(image, person) for person in people]
        skins = tuple(None if colour is None else colour.lab for colour in colours)
    return PreparedImage((whole, *(classifier.prepare(finder.crop(image, box)) for box in boxes)), boxes, skins)


@dataclass(frozen=True, slots=True)
class People:
    """The persons of a shard's images."""

    table: pa.Table
    """people_schema(D), in the order of the images and of the persons in each."""
    vectors: FloatArray | HalfArray
    """[persons, D] as they are to be read: float32 fresh from the encoder, float16 from the store."""

    def __post_init__(self) -> None:
        if self.table.num_rows != len(self.vectors):
            raise ValueError(f"{self.table.num_rows} persons, and embeddings of {len(self.vectors)}")


def people_table(
    embeddings: pa.Table,
    boxes: Sequence[Sequence[Box]],
    vectors: FloatArray,
    *,
    skins: Sequence[Sequence[Skin]] | None = None,
    half: NDArray[np.bool_] | None = None,
) -> pa.Table:
    """The stored form of a shard's persons.

    Parameters
    ----------
    embeddings
        [N] rows of the readable images.
    boxes
        Of the persons of each of these.
    vectors
        [persons, D], image after image.
    skins
        Of the persons of each image, where pixels answer an attribute.
    half
        [persons] whether each was encoded in half precision, where that is told.
    """
    colours = [colour for found in skins for colour in found] if skins is not None else []
    measured = {} if skins is None else {"skin": pa.array(colours, pa.list_(pa.float32(), 3))}
    image = np.repeat(np.arange(len(boxes), dtype=np.int32), [len(found) for found in boxes])
    named = embeddings.select(["prompt_id", "index", "sha256"]).take(pa.array(image))
    flat = pa.array(vectors.astype(np.float16).ravel())
    return pa.table(
        {
            **{name: named[name] for name in named.column_names},
            "image": image,
            "box": pa.array([list(box) for found in boxes for box in found], pa.list_(pa.int32())),
            **measured,
            EMBEDDING_COLUMN: pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            **({} if half is None else {HALF_COLUMN: half}),
        },
        schema=people_schema(vectors.shape[1], skin=skins is not None, half=half is not None),
    )


def belong(people: pa.Table, embeddings: pa.Table) -> bool:
    """Whether these are persons of exactly those images."""
    image = people["image"].to_numpy()
    if len(image) and (image.min() < 0 or image.max() >= embeddings.num_rows or (np.diff(image) < 0).any()):
        return False
    named = embeddings.select(["prompt_id", "index", "sha256"]).take(pa.array(image))
    return bool(named.equals(people.select(named.column_names)))


def reading_scores(
    images: pa.Table, vectors: FloatArray | HalfArray, people: People | None, classifier: EmbeddingClassifier
) -> pa.Table:
    """CODED_SCHEMA rows of a shard: image after image, person after person, question after question.

    Parameters
    ----------
    images
        [listed images] with prompt_id, index, status and sha256.
    vectors
        [readable images, D], of the images as a whole.
    people
        None where no detector was asked.

    Returns
    -------
    An image that is read as a whole has person 0; and the box of the one person found in it, where one was. Images with the same
    bytes have the same figures to the last bit.
    """
    attributes = classifier.attributes
    readable = readable_rows(images)
    first = first_twins(images.filter(pa.array(readable)))
    whole = shared(classifier.probabilities(vectors), first)
    if people is None or not people.table.num_rows:
        return coded_scores(images, {**whole, **_unmeasured(len(vectors), attributes)}, attributes)
    image_of = people.table["image"].to_numpy()
    crops = shared(classifier.probabilities(people.vectors), first_twin_crops(image_of, first))
    kept = present(crops, attributes, len(image_of))
    image_of = image_of[kept]
    found = np.bincount(image_of, minlength=len(vectors))
    readings = readings_of(kept, image_of, found)
    # rows of the listing, as often as the image is read
    listed = np.flatnonzero(readable)
    times = np.ones(images.num_rows, dtype=np.int64)
    times[listed] = np.where(found >= 2, found, 1)
    expanded = images.select(["prompt_id", "index", "status"]).take(pa.array(np.repeat(np.arange(len(times)), times)))
    both = {name: np.concatenate([table, crops[name]])[readings] for name, table in whole.items()}
    who = _box_rows(readings, kept, image_of, found)
    scores = coded_scores(expanded, {**both, **_measured(people.table, who, attributes)}, attributes)
    first = np.cumsum(times) - times
    person = np.arange(len(expanded)) - np.repeat(first, times)
    boxes = np.full(len(expanded), -1, dtype=np.int64)
    boxes[readable_rows(expanded)] = who
    return _with_people(scores, person, boxes, people.table, questions=len(attributes.questions))


def _unmeasured(readings: int, attributes: AttributeSet) -> dict[str, FloatArray]:
    """Even probabilities: nobody was found whose pixels could answer."""
    return {
        name: np.full((readings, len(labels)), 1 / len(labels), dtype=np.float32)
        for name, labels in ((name, attributes.labels(name)) for name in attributes.measured)
    }


def _measured(people: pa.Table, who: NDArray[np.int64], attributes: AttributeSet) -> dict[str, FloatArray]:
    """Attribute -> [readings, labels] by the skin of the person that each reading is of; even where none could be measured.

    Parameters
    ----------
    who
        [readings] row of `people`; -1 for none.
    """
    tables = _unmeasured(len(who), attributes)
    if tables and "skin" not in people.column_names:
        raise RunFolderError(
            f"the run's embeddings hold no measure of skin, which {', '.join(tables)} would be read from: score the images again, with "
            "`allfour rescore`"
        )
    colours = people["skin"].to_pylist() if tables else []
    for name, table in tables.items():
        labels = attributes.attributes[name].labels
        known = {row: list(skin_tone.probabilities(c, labels).values()) for row, c in enumerate(colours) if c}
        for reading, row in enumerate(who):
            if row in known:
                table[reading] = known[row]
    return tables


def present(crops: Mapping[str, FloatArray], attributes: AttributeSet, count: int) -> NDArray[np.int64]:
    """Positions of the `count` crops that the presence gate lets pass, from their probabilities by question."""
    if attributes.presence is None:
        return np.arange(count, dtype=np.int64)
    sure = crops[PRESENCE][:, attributes.labels(PRESENCE).index(PERSON)]
    return np.flatnonzero(sure >= np.float32(attributes.presence.threshold))


def readings_of(kept: NDArray[np.int64], image_of: NDArray[np.int32], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """[readings] the embedding that each is of, image after image: n is image n as a whole, and images + m crop m.

    Parameters
    ----------
    kept
        [persons] crops that count, in order.
    image_of
        [persons] the image of each.
    found
        [images] persons of each.
    """
    alone = np.flatnonzero(found < 2)
    grouped = found[image_of] >= 2
    image = np.concatenate([alone, image_of[grouped]])
    source = np.concatenate([alone, len(found) + kept[grouped]])
    return source[np.argsort(image, kind="stable")]


def _box_rows(
    readings: NDArray[np.int64], kept: NDArray[np.int64], image_of: NDArray[np.int32], found: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[readings] the crop whose box goes with each; -1 for none."""
    only = np.full(len(found), -1, dtype=np.int64)
    single = found[image_of] == 1
    only[image_of[single]] = kept[single]
    whole = readings < len(found)
    return np.where(whole, only[np.where(whole, readings, 0)], readings - len(found))


def _with_people(
    scores: pa.Table, person: NDArray[np.int64], boxes: NDArray[np.int64], people: pa.Table, *, questions: int
) -> pa.Table:
    """The scores with their columns `person` and `box`; both are given per reading, and a reading has a row per question."""
    number = pa.array(np.repeat(person, questions).astype(np.int32))
    rows = np.repeat(boxes, questions)
    box = people["box"].combine_chunks().take(pa.array(rows, mask=rows < 0))
    for name, values in (("person", number), ("box", box)):
        place = CODED_SCHEMA.get_field_index(name)
        scores = scores.set_column(place, CODED_SCHEMA.field(place), values)
    return scores
