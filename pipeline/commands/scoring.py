"""The scoring stage of a command: every shard that is not done, and the tables of all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allfour.models.classifiers.base import Classifier, EmbeddingClassifier, KeepsAccounts, encodes_in_half
from allfour.pipeline.archives.base import ArchiveSource, Shard
from allfour.pipeline.commands import build
from allfour.pipeline.commands.job import Job
from allfour.pipeline.commands.unchanged import backend_state, known_identity, remember
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.folder import IMAGES_STAGE, TABLE_STAGES, RunFolder, fingerprint
from allfour.pipeline.run.writing import write_table
from allfour.pipeline.scoring.engines import ScoringJob, engine
from allfour.pipeline.scoring.engines.base import part_store
from allfour.pipeline.scoring.groups import Ahead
from allfour.pipeline.scoring.parts import PartStore
from allfour.pipeline.scoring.precision import Measured, half_precision, measured_of, summed
from allfour.pipeline.scoring.settled_precision import settle_precision, settled_in_half

_LOG = logging.getLogger(__name__)

_REASONS = 20
"""Different reasons why images have no reading that the header keeps."""


def score(
    job: Job,
    source: ArchiveSource,
    *,
    own_images: bool,
    engine_name: str = "local",
    as_in: RunFolder | None = None,
) -> int:
    """Score every shard that is not done, and merge; returns the number of images scored now.

    Parameters
    ----------
    own_images
        Whether the run made the images, so that images.parquet already exists.
    as_in
        The run that these images are laid beside, which they are to be read like; None: they are the run's own.
    """
    started = time.monotonic()
    run, config = job.run, job.config
    shards = list(source.shards())
    tables = (run.scores_path,) if own_images else (run.scores_path, run.images_path)
    state = backend_state(config.classifier, job.attributes.model_dump(mode="json"), config.scoring.max_pixels)
    if known_identity(run, "classifier", state) is not None:
        scores = run.header().stages.get("scores")
        store = PartStore(run, scoring_fingerprint=str(scores.scoring if scores is not None else None))
        if _stand_already(job, store, shards, tables, own_images=own_images):
            return 0
    classifier = build.build_classifier(config, job.attributes)
    if isinstance(classifier, KeepsAccounts):
        classifier.keep_accounts(run.answers_path)
    settled = settle_precision(
        run,
        source,
        shards,
        classifier,
        config=config.scoring,
        elsewhere=engine_name != "local",
        as_in=as_in,
        tell=job.reporter.note,
    )
    identity = dict(classifier.identity())
    store = part_store(run.path, classifier, config.scoring)
    if _stand_already(job, store, shards, tables, own_images=own_images):
        run.update_header(classifier=identity)
        remember(run, classifier=state)
        return 0
    if isinstance(classifier, KeepsAccounts):
        if (note := classifier.recount(run.header().account or {}, read=store.pictures_read(shards))) is not None:
            _LOG.warning("%s", note)  # also where progress is off
        run.forget_stages(*TABLE_STAGES, classifier=identity)
    else:
        run.forget_stages(*TABLE_STAGES, classifier=identity, account=None)
    if settled.said is not None and settled_in_half(classifier):  # what is as ever is not worth a line
        job.reporter.note(settled.said)
    ids = [s.id for s in shards]
    scored = score_shards(job, source, shards, classifier=classifier, engine_name=engine_name, ahead=settled.ahead)
    if isinstance(classifier, KeepsAccounts):
        unread = dict(store.reasons(ids).most_common(_REASONS))
        run.update_header(account={**classifier.account(), "unread": unread})
    stage = _made_of(store, shards)
    if not all(store.done(shard) for shard in shards):
        stage = fingerprint(stage, "images to be asked about again")
    listed, rows = store.merge(ids, images=not own_images)
    if own_images:
        _tell_reasons(job, store, ids)
    run.commit_stage(
        "scores",
        stage,
        *tables,
        seconds=time.monotonic() - started,
        images=listed or None,
        rows=rows,
        scoring=store.scoring_fingerprint,
        **_precision(job, store, ids),
    )
    remember(run, classifier=state)
    return scored


def _made_of(store: PartStore, shards: Sequence[Shard]) -> str:
    """Fingerprint of the scoring stage: every shard's images, and how they are scored."""
    return fingerprint([(shard.id, store.wanted(shard.fingerprint)) for shard in shards])


def _stand_already(
    job: Job, store: PartStore, shards: Sequence[Shard], tables: Sequence[Path], *, own_images: bool
) -> bool:
    """Whether the scores of these shards stand, which is said."""
    if not job.run.stage_done("scores", _made_of(store, shards), *tables):
        return False
    job.reporter.note("scores already exist: nothing to score")
    if own_images:
        _tell_reasons(job, store, [shard.id for shard in shards])
    return True


def _tell_reasons(job: Job, store: PartStore, ids: Sequence[str]) -> None:
    """Write into the run's own table of images why those without a reading have none, in their column `error`."""
    path = job.run.images_path
    try:
        reasons = store.errors(ids)
    except (OSError, pa.ArrowException):
        return  # existing scores need no parts
    images = pq.read_table(path, columns=["prompt_id", "index", "status", "error"])
    made = pc.equal(images["status"], ImageStatus.GENERATED.value).to_pylist()
    before = images["error"].to_pylist()
    keys = zip(images["prompt_id"].to_pylist(), images["index"].to_pylist(), strict=True)
    now = [reasons.get(key) if ours else old for key, ours, old in zip(keys, made, before, strict=True)]
    if now == before:
        return
    table = pq.read_table(path)
    place = table.schema.get_field_index("error")
    write_table(path, table.set_column(place, table.schema.field(place), pa.array(now, pa.string())))
    job.run.recommit(IMAGES_STAGE, path)


def score_shards(
    job: Job,
    source: ArchiveSource,
    shards: Sequence[Shard],
    *,
    classifier: Classifier,
    engine_name: str = "local",
    listed: Sequence[Shard] | None = None,
    ahead: Ahead | None = None,
) -> int:
    """Commit every shard that is not done; returns the number of images scored.

    Parameters
    ----------
    listed
        All of the source, where `shards` are a rank's share of them.
    ahead
        What this process has encoded of the shards, to settle its precision.
    """
    config = job.config.scoring
    store = part_store(job.run.path, classifier, config)
    todo = [shard for shard in shards if not store.done(shard)]
    total = sum(s.images or 0 for s in shards) if all(s.images is not None for s in shards) else None
    work = ScoringJob(
        run=job.run.path.resolve(),
        source=source,
        config=config,
        build=partial(build.build_classifier, job.config, job.attributes, half=settled_in_half(classifier)),
        actors=config.actors,
        measured=_measured(job, source, listed or shards, classifier, ahead) if todo else None,
    )
    if isinstance(classifier, KeepsAccounts) and total is not None and todo:
        job.reporter.note(classifier.estimate(total))
    with job.reporter.task("scoring", total) as task:
        task.skip(sum(s.images or 0 for s in shards) - sum(s.images or 0 for s in todo))
        return engine(engine_name).score(work, todo, classifier=classifier, advance=task.advance)


def _measured(
    job: Job, source: ArchiveSource, shards: Sequence[Shard], classifier: Classifier, ahead: Ahead | None
) -> Measured | None:
    """How far half precision is off, where the classifier encodes in it."""
    if not (isinstance(classifier, EmbeddingClassifier) and encodes_in_half(classifier)):
        return None
    found = measured_of(job.run.embeddings_folder, source, shards, classifier, job.config.scoring)
    return found if found is None or ahead is None else replace(found, ahead=ahead)


def _precision(job: Job, store: PartStore, ids: Sequence[str]) -> dict[str, Any]:
    """What the header says of half precision, said to the user too; nothing where it was not asked for."""
    found = summed(facts for id_ in ids if (facts := store.precision(id_)) is not None)
    if found is None:
        return {}
    job.reporter.note(half_precision(found))
    return {"precision": found}
