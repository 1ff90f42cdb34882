"""`allfour rescore`: score images that exist, measure, report; each stage only if it is not done."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allfour.errors import UsageError
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.base import ArchiveSource, HasDoubts, Shard
from allfour.pipeline.archives.entries import Lost
from allfour.pipeline.archives.limited import LimitedSource
from allfour.pipeline.archives.marked import MarkedSource
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands import build
from allfour.pipeline.commands.each_tables import rescore_more
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import finish_run
from allfour.pipeline.commands.scoring import score, score_shards
from allfour.pipeline.commands.start import check_apart, check_kind, check_source, start_run
from allfour.pipeline.config import RunConfig, load_prompts
from allfour.pipeline.run.columns import SEVERAL
from allfour.pipeline.run.folder import RunFolder, utc_now
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.run.ranks import write_record
from allfour.pipeline.scoring.engines import share_of
from allfour.pipeline.scoring.engines.base import part_store
from allfour.pipeline.scoring.same_classifier import agree_with_ranks
from allfour.pipeline.scoring.settled_precision import settle_precision, settled_in_half, take_up_precision


@dataclass(frozen=True, slots=True)
class RankSummary:
    """What a rank did that did not end the run."""

    run: Path
    rank: int
    world_size: int
    scored: int
    """Images that this process scored."""
    shards_left: int
    """Shards of any rank that are not done; 0 where another rank is ending the run."""


def rescore(
    config: RunConfig,
    location: str,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    engine_name: str = "local",
    overwrite: bool = False,
    limit: int | None = None,
) -> RunSummary:
    """Score images that exist, measure, report.

    Parameters
    ----------
    overwrite
        Replace the result of another source, instead of refusing.
    limit
        Images of a first look; None: all.
    """
    if engine_name != "local":
        _check_not_hosted(config, f"--engine {engine_name}")
    job = Job.begin(config, run, reporter, calibration)
    source = open_archive(location, config)
    check_apart(run, location)
    if limit is not None:
        source = LimitedSource(source, limit)
    with run.lock():
        check_kind(run, "rescore")
        check_source(run, source, overwrite=overwrite)
        doubts = source.doubts() if isinstance(source, HasDoubts) else []
        left_out = [str(doubt) for doubt in doubts if isinstance(doubt, Lost)]
        made_from = {
            "source": dict(source.identity()),
            **({"left_out": left_out} if left_out or run.header().left_out else {}),
        }
        start_run(run, config, job.attributes, kind="rescore", asked=job.asked, **made_from)
        for doubt in doubts:
            reporter.note(doubt)
        scored = score(job, source, own_images=False, engine_name=engine_name)
        scored += rescore_more(job, source, location, whole=limit is None, engine_name=engine_name)
        return finish_run(job, work={"scored": scored})


def rescore_rank(
    config: RunConfig,
    location: str,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    rank: int,
    world_size: int,
    overwrite: bool = False,
) -> RunSummary | RankSummary:
    """One rank's share of `rescore`. The rank that finds every shard done ends the run; the others leave it to that one."""
    _check_not_hosted(config, "--rank")
    job = Job.begin(config, run, reporter, calibration)
    source = open_archive(location, config)
    check_apart(run, location)
    shards = list(source.shards())
    share = share_of(shards, rank=rank, world_size=world_size)
    started = utc_now()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(run.lock(shared=True))
        except RunFolderBusyError:
            if _nothing_left(run, job, shards):
                return RankSummary(run=run.path, rank=rank, world_size=world_size, scored=0, shards_left=0)
            raise
        check_kind(run, "rescore")
        check_source(run, source, overwrite=overwrite)
        classifier = build.build_classifier(config, job.attributes)
        settled = settle_precision(run, source, shards, classifier, config=config.scoring, tell=reporter.note)
        if settled.said is not None and settled_in_half(classifier):
            reporter.note(settled.said)
        agree_with_ranks(run, config, job.attributes, classifier)
        scored = score_shards(job, source, share, classifier=classifier, listed=shards, ahead=settled.ahead)
        write_record(
            run,
            rank,
            world_size,
            started=started,
            shards=len(share),
            scored=scored,
            classifier=dict(classifier.identity()),
        )
    # Looked at without the lock: of ranks that end at the same moment, one at least sees all done and finds the folder free.
    store = part_store(run.path, classifier, config.scoring)
    left = sum(not store.done(shard) for shard in shards)
    if not left:
        del classifier
        with contextlib.suppress(RunFolderBusyError):
            return rescore(config, location, run, reporter, calibration, overwrite=overwrite)
    return RankSummary(run=run.path, rank=rank, world_size=world_size, scored=scored, shards_left=left)


def _nothing_left(run: RunFolder, job: Job, shards: Sequence[Shard]) -> bool:
    """Whether every shard of a run that another process holds is done: that process is ending it, and a rank that comes now, as all do
    where a whole array of tasks is started again, has nothing to do."""
    classifier = build.build_classifier(job.config, job.attributes)
    if not take_up_precision(run, classifier):
        return False
    store = part_store(run.path, classifier, job.config.scoring)
    return all(store.done(shard) for shard in shards)


def _check_not_hosted(config: RunConfig, option: str) -> None:
    """Raise UsageError where the classifier is asked over a network: many processes would pass its limits."""
    if config.classifier.hosted:
        raise UsageError(
            f"{option} is for classifiers on this machine: a hosted one is asked by one process, with classifier.concurrency"
        )


def open_archive(location: str, config: RunConfig) -> ArchiveSource:
    """The archive at a location, with the config's prompts marked that ask for several people."""
    source = open_source(location, options=archive_options(config))
    known = load_prompts(config.prompts.file).prompts if config.prompts.file is not None else ()
    several = frozenset(prompt.key for prompt in known if prompt.people == SEVERAL)
    return MarkedSource(source, several) if several else source


def archive_options(config: RunConfig) -> ArchiveOptions:
    """Reading options of a config, with its prompt set where it names one."""
    prompts = {}
    if config.prompts.file is not None:
        prompts = {p.key: (p.text, p.group) for p in load_prompts(config.prompts.file).prompts}
    return ArchiveOptions(**config.archive.model_dump(), prompts=prompts)
