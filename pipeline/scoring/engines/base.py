"""What every engine does with a shard, and the interface of the engines.

The unit of work is a shard: it is read, scored and committed by one worker as a whole. A shard may be begun any number of times,
by any worker; its rows are in the tables once. A shard that took three workers with it is set aside: its images are rows with an
error, and the others are scored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from allfour.models.classifiers.base import AskedPeople, Classifier, EmbeddingClassifier, HalfEncoder, encodes_in_half
from allfour.pipeline.archives.base import INDEX_STRIDE, NO_PROMPT_ID, ArchivedImage, ArchiveSource, Shard
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.ranks import check_rank
from allfour.pipeline.scoring.parts import PartStore, ShardTables
from allfour.pipeline.scoring.precision import BeyondBandError, Doubt, Measured
from allfour.pipeline.scoring.scorer import (
    asked_of,
    doubtful_rows,
    encoding_fingerprint,
    fits,
    score_shard,
    scoring_fingerprint,
    stored_tables,
    unscored_tables,
)

DEATHS = 3
"""So many workers may die of one shard."""

SET_ASIDE = f"set aside: its worker died {DEATHS} times on this shard"


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """Everything that a worker needs, in any process and on any machine that sees the run folder and the source. Picklable."""

    run: Path
    source: ArchiveSource
    config: ScoringConfig
    build: Callable[[], Classifier]
    """Loads the model; called once per worker."""
    actors: int | None = None
    """Workers of the Ray engine; by default one per device, or one for the whole machine where there is none."""
    measured: Measured | None = None
    """How far half precision is off, for a classifier that encodes in it; None: every image is encoded in full."""


class Engine(Protocol):
    """Runs shards until each is committed."""

    def score(
        self, job: ScoringJob, shards: Sequence[Shard], *, classifier: Classifier, advance: Callable[[int], None]
    ) -> int:
        """Score and commit every shard given.

        Parameters
        ----------
        classifier
            The job's classifier as this process has it.
        advance
            Called with the number of images that were finished since the last call.

        Returns
        -------
        How many images were scored.
        """
        ...


class Worker:
    """Scores shards, one after another, with one classifier."""

    def __init__(self, job: ScoringJob, classifier: Classifier) -> None:
        self._source, self._config, self._classifier = job.source, job.config, classifier
        self._store = part_store(job.run, classifier, job.config)
        self._doubt: Doubt | None = None
        if job.measured is not None and isinstance(classifier, EmbeddingClassifier) and encodes_in_half(classifier):
            self._doubt = Doubt(classifier, job.measured)

    def score(self, shard: Shard, advance: Callable[[int], None] = lambda count: None) -> int:
        """Score and commit a shard that is not done; returns the number of its images."""
        attempt: contextlib.AbstractContextManager[None]
        if isinstance(self._classifier, AskedPeople):  # whoever ends a process that waits for a server is not the shard
            deaths, attempt = 0, contextlib.nullcontext()
        else:
            deaths, attempt = self._store.deaths(shard), self._store.attempt(shard)
        with attempt:
            if deaths >= DEATHS:
                tables = self._set_aside(shard, listing=deaths == DEATHS)
                self._store.commit(shard, tables, set_aside=True)
                advance(tables.images.num_rows)
            elif (again := self._rescored(shard)) is not None:
                tables = again
                self._store.commit(shard, tables, rescored=True)
                advance(tables.images.num_rows)
            else:
                tables = self._scored(shard, advance)
                self._store.commit(shard, tables)
        return int(tables.images.num_rows)

    def _scored(self, shard: Shard, advance: Callable[[int], None]) -> ShardTables:
        gains = isinstance(self._classifier, HalfEncoder) and self._classifier.gains_by_half
        doubt = self._doubt if gains and self._doubt is not None and self._doubt.pays else None
        with contextlib.suppress(BeyondBandError):
            return score_shard(
                self._source.read(shard), classifier=self._classifier, config=self._config, advance=advance, doubt=doubt
            )
        # it was counted already; what is scored a second time is not
        return score_shard(self._source.read(shard), classifier=self._classifier, config=self._config)

    def _rescored(self, shard: Shard) -> ShardTables | None:
        """Scores from stored embeddings, where the input and the encoder are those that made them.

        Not where some were made in half precision and could, under this wording, have another decision in full: the images are at hand.
        """
        if not isinstance(self._classifier, EmbeddingClassifier):
            return None
        stored = self._store.encoded(shard)
        if stored is None or not fits(*stored):
            return None
        if any(doubtful_rows(table, self._doubt).any() for table in stored[1:] if table is not None):
            return None
        return replace(stored_tables(*stored, self._classifier), precision=self._store.precision(shard.id))

    def _set_aside(self, shard: Shard, *, listing: bool) -> ShardTables:
        """A row with an error per image; without `listing` (it killed a worker too) one row for them all."""
        images: Iterable[ArchivedImage]
        if listing:
            images = (item.image for item in self._source.read(shard))
        else:
            count = f"{shard.images} images" if shard.images is not None else "an unknown number of images"
            images = [
                ArchivedImage(
                    prompt_id=NO_PROMPT_ID,
                    prompt="",
                    index=shard.ordinal * INDEX_STRIDE,
                    path=f"shard {shard.id}, {count}",
                )
            ]
        return unscored_tables(images, SET_ASIDE, asked_of(self._classifier))


def part_store(run: Path, classifier: Classifier, config: ScoringConfig) -> PartStore:
    """The parts of a run that this classifier makes."""
    return PartStore(
        RunFolder(run),
        scoring_fingerprint=scoring_fingerprint(classifier, config),
        encoding_fingerprint=encoding_fingerprint(classifier, config),
    )


def share_of(shards: Sequence[Shard], *, rank: int, world_size: int) -> list[Shard]:
    """A rank's shards.

    Raises
    ------
    UsageError
        There is no such rank.
    """
    check_rank(rank, world_size)
    return [shard for shard in shards if shard.ordinal % world_size == rank]
