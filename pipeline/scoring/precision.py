"""Half precision with the decisions of full: which embeddings are encoded a second time, and how that is known.

Before a run's first shard is scored, `MEASURED` of its images are encoded both in half precision and in full. The largest difference
between the two, over every pair of a question's labels, times `SAFETY` is the band of that pair. An image is encoded in full where a
decision on it is not the same for all leads within their bands (`closeness`), and so is every `CHECKED`th image, whatever it shows. Where an image
that was encoded twice is found beyond its band, its whole shard is scored in full.

What was measured is kept beside the embeddings, as embeddings: so the bands of other wording are known later. It is taken from images that
do not depend on who scores what, and the first to write it is right for all ranks, so that a run that was killed or spread has the
tables of one that was neither. The process that measured does not read and encode those images in half precision again when their turn
comes (`Ahead`); the tables are the same to the last bit.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allfour.files import read_regular
from allfour.models.classifiers.base import (
    ByteArray,
    EmbeddingClassifier,
    FloatArray,
    HalfArray,
    HalfEncoder,
    ParallelEncoder,
)
from allfour.models.devices import granted_cores
from allfour.pipeline.archives.base import ArchiveItem, ArchiveSource, Shard
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.run.folder import fingerprint
from allfour.pipeline.run.identities import reading
from allfour.pipeline.run.writing import write_first
from allfour.pipeline.scoring.closeness import in_doubt, leads
from allfour.pipeline.scoring.groups import (
    Ahead,
    Encode,
    Group,
    Listed,
    Pool,
    encoded_group,
    group_size,
    listed_groups,
    one_core_each,
)

MEASURED, SPREAD = 128, 8
"""Images that are encoded both ways beforehand, and the shards that they are the first of."""
SAFETY = 4.0
"""A band is so many times the largest difference that was measured."""
CHECKED = 64
"""Every so many images one is encoded twice, wherever its decisions lie."""
WORTH = 0.35
"""Share of the measured images in doubt from which on half precision gains nothing, and all are encoded in full."""
FEWEST = 512
"""Images of a run below which measuring costs more than it gains."""


class BeyondBandError(Exception):
    """An image differed by more than its band."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Images that were encoded both ways: [N, D] each, in one order. Picklable."""

    half: FloatArray
    full: FloatArray
    name: str = ""
    """Of the file that holds them."""
    ahead: Ahead = field(default_factory=Ahead, compare=False, repr=False)
    """What this process, where it measured, has encoded of the shards to come."""

    def data(self) -> bytes:
        """The bytes of an Arrow file that `load` reads: the same for the same figures."""
        columns = {name: np.ascontiguousarray(getattr(self, name), dtype=np.float32) for name in ("half", "full")}
        table = pa.table(
            {
                name: pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
                for name, matrix in columns.items()
            }
        ).replace_schema_metadata({"sha256": _digest(columns)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def load(cls, path: Path) -> Measured | None:
        """What is there; None where nothing is, or something else than was written."""
        try:
            table = pa.ipc.open_file(pa.py_buffer(read_regular(path))).read_all().combine_chunks()
            columns = {
                name: table[name].chunk(0).flatten().to_numpy().reshape(table.num_rows, -1) for name in ("half", "full")
            }
            if (table.schema.metadata or {}).get(b"sha256", b"").decode() != _digest(columns):
                return None
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException):
            return None
        return cls(**columns, name=path.name)


def _digest(columns: Mapping[str, FloatArray]) -> str:
    digest = hashlib.sha256()
    for name in ("half", "full"):
        digest.update(np.ascontiguousarray(columns[name], dtype=np.float32).tobytes())
    return digest.hexdigest()


class Doubt:
    """Which embeddings in half precision have to be made anew, by one classifier's own questions."""

    def __init__(self, classifier: EmbeddingClassifier, measured: Measured) -> None:
        self._classifier, self.measured = classifier, measured
        worst = {name: error.max(axis=0) for name, error in self._errors(measured.half, measured.full).items()}
        self.bands = {name: np.asarray(SAFETY * error, dtype=np.float32) for name, error in worst.items()}

    def of(self, vectors: FloatArray | HalfArray) -> NDArray[np.bool_]:
        """[N] of embeddings [N, D]."""
        if not len(vectors):
            return np.zeros(0, dtype=bool)
        return in_doubt(self._classifier.probabilities(vectors), self._classifier.attributes, self.bands)

    def reach(self, half: FloatArray, full: FloatArray) -> float:
        """How far the furthest of some images lies, in bands."""
        errors = self._errors(half, full)
        return max(
            (
                float(np.max(errors[name] / np.maximum(band, np.float32(1e-9)), initial=0.0))
                for name, band in self.bands.items()
            ),
            default=0.0,
        )

    def _errors(self, half: FloatArray, full: FloatArray) -> dict[str, FloatArray]:
        """Question -> [N, labels, labels] how far leads differ."""
        one, other = self._classifier.probabilities(half), self._classifier.probabilities(full)
        return {name: np.abs(leads(one[name]) - leads(other[name])) for name in self._classifier.attributes.worded}

    @cached_property
    def share(self) -> float:
        """Of the measured images, how many are in doubt."""
        return float(self.of(self.measured.half).mean())

    @property
    def pays(self) -> bool:
        """Whether encoding in half precision first is less work."""
        return self.share < WORTH


def measured_of(
    folder: Path, source: ArchiveSource, shards: Sequence[Shard], classifier: EmbeddingClassifier, config: ScoringConfig
) -> Measured | None:
    """What was measured for this source and encoder, now or before; None where the run is too small for it.

    Parameters
    ----------
    folder
        Where it is kept.
    shards
        All of the source, whoever scores which.
    """
    counts = [shard.images for shard in shards]
    known = sum(count for count in counts if count is not None)
    if None not in counts and known < FEWEST:
        return None
    chosen = [shards[len(shards) * n // SPREAD] for n in range(SPREAD)] if len(shards) > SPREAD else list(shards)
    made_of = fingerprint(reading(classifier.encoder_identity()), config.max_pixels, [s.fingerprint for s in chosen])
    path = folder / f"precision-{made_of[:16]}.arrow"
    if (found := Measured.load(path)) is not None:
        return found
    if not (isinstance(classifier, HalfEncoder) and classifier.gains_by_half):
        return None
    made = _measured(source, chosen, classifier, config)
    if made is None:
        return None
    write_first(path, made.data(), whole=lambda: Measured.load(path) is not None)
    found = Measured.load(path)
    return None if found is None else replace(found, ahead=made.ahead)


def _measured(
    source: ArchiveSource, chosen: Sequence[Shard], classifier: EmbeddingClassifier, config: ScoringConfig
) -> Measured | None:
    """The first images of some shards, encoded both ways, as each core would encode them when their turn comes."""
    assert isinstance(classifier, HalfEncoder)
    workers = config.workers if config.workers is not None else granted_cores()
    size = group_size(config)
    full: Encode = classifier.encode_on_one_core if isinstance(classifier, ParallelEncoder) else classifier.encode
    half = partial(
        encoded_group, classifier=classifier, encode=classifier.encode_in_half,
        size=size, max_pixels=config.max_pixels,
    )  # fmt: skip
    _ = classifier.embedding_dim  # found out once, not by every worker at once
    groups: list[Group] = []
    of_shard: list[int] = []
    with one_core_each(classifier, workers), Pool(workers, window=workers + 1) as pool:
        for number, listed in _first_groups(source, chosen, size):
            of_shard.append(number)
            groups += pool.submit(half, listed)
        groups += pool.drain()
        inputs: list[ByteArray] = []
        vectors: list[FloatArray] = []
        for number in range(len(chosen)):
            most = _share(len(inputs), number, len(chosen))
            for group in (group for of, group in zip(of_shard, groups, strict=True) if of == number):
                inputs += group.inputs[:most]
                vectors.append(group.vectors[:most])
                most -= len(vectors[-1])
        if len(inputs) < MEASURED / 2:
            return None
        parts: list[FloatArray] = []
        for start in range(0, len(inputs), size):
            parts += pool.submit(full, np.stack(inputs[start : start + size]))
        parts += pool.drain()
    ahead = Ahead()
    for group in groups:
        ahead.put(group)
    return Measured(np.concatenate(vectors), np.concatenate(parts), ahead=ahead)


def _share(found: int, number: int, shards: int) -> int:
    """How many of the measured the shard of this number is to give, after those before it gave so many."""
    return -(-(MEASURED - found) // (shards - number))


def _first_groups(source: ArchiveSource, chosen: Sequence[Shard], size: int) -> Iterator[tuple[int, Listed]]:
    """Number of a shard and images of its first groups: as many whole groups as hold its share."""
    listed = 0
    for number, shard in enumerate(chosen):
        most = _share(listed, number, len(chosen))
        before = listed
        with contextlib.closing(closing_items(source.read(shard))) as items:
            for group in listed_groups(items, [], size):
                listed += len(group)
                yield number, group
                if listed - before >= most:
                    break
        listed = min(listed, before + most)


def closing_items(items: Iterable[ArchiveItem]) -> Generator[ArchiveItem]:
    """A generator over anything: closing it lets go what it stands on."""
    yield from items


def summed(facts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What a run says of its parts' facts; None where no part was encoded in half precision or could have been."""
    found = list(facts)
    if not found:
        return None
    total = {key: sum(int(one.get(key, 0)) for one in found) for key in ("encoded", "half", "again")}
    reach = [float(one["reach"]) for one in found if one.get("reach") is not None]
    return {
        **total,
        "measured": MEASURED,
        "safety": SAFETY,
        "reach": max(reach) if reach else None,
        "shards_in_full": sum(not one.get("half") for one in found),
    }


def half_precision(facts: Mapping[str, Any]) -> str:
    """What `summed` found, in a sentence."""
    encoded, again = facts["encoded"], facts["again"]
    if not facts["half"]:
        return f"bfloat16: of no use here, so all {encoded:,} embeddings are float32"
    text = f"bfloat16: {encoded:,} embeddings, {again:,} of them ({again / encoded:.1%}) encoded again in float32"
    reach = facts.get("reach")
    return text if reach is None else f"{text}; the furthest of those was off by {reach:.2f} of the band"
