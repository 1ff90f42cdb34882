"""`allfour audit --rank R --world-size N`: one process per GPU makes its share of a plan, into one run folder.

A rank holds the run folder's lock together with the others and writes images, a journal of its own and RUN/ranks/rank-R-of-N.json,
nothing else. The rank that finds an outcome of every image ends the run alone: table, scores, metrics, report.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from allfour.errors import UsageError
from allfour.models.generators.base import facts_of
from allfour.pipeline.commands import build
from allfour.pipeline.commands.audit import finish_audit
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.start import check_kind, start_run
from allfour.pipeline.commands.unchanged import remember
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.existing import reconcile
from allfour.pipeline.generation.generate import generate_images, merge_outcomes, outcomes_left
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.run.folder import RunFolder, utc_now
from allfour.pipeline.run.journal import RunFolderBusyError
from allfour.pipeline.run.ranks import one_world, write_record


@dataclass(frozen=True, slots=True)
class GenerationRankSummary:
    """What a rank did that did not end the run."""

    run: Path
    rank: int
    world_size: int
    generated: int
    """Images that this process made, refused and failed ones counted."""
    images_left: int
    """Images of any rank that have no outcome; 0 where another process, most often a rank that ends the run, holds the folder."""


def audit_rank(
    config: RunConfig,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    rank: int,
    world_size: int,
    overwrite: bool = False,
) -> RunSummary | GenerationRankSummary:
    """One rank's share of `audit`. What is refused without `overwrite` is seen from the whole plan, so all ranks are refused alike.

    Raises
    ------
    UsageError
        There is no such rank, it is at work already, or ranks of another world size are.
    """
    if config.generator is not None and config.generator.hosted:
        raise UsageError(
            "--rank is for generators on this machine: a hosted one is asked by one process, with generator.concurrency"
        )
    os.environ.setdefault("LOCAL_RANK", str(rank))  # each rank of one machine takes a GPU of its own
    plan = make_plan(config)
    job = Job.begin(config, run, reporter, calibration)
    share = plan.share(rank=rank, world_size=world_size, set_size=config.prompts.set_size)
    check_kind(run, "audit")
    clock = time.monotonic()
    summary = partial(GenerationRankSummary, run=run.path, rank=rank, world_size=world_size)
    try:
        identity, made = _make_share(job, plan, share, rank=rank, world_size=world_size, overwrite=overwrite)
    except RunFolderBusyError:
        if outcomes_left(run, plan, build.planned_generator(config, run, plan).identity()):
            raise
        return summary(generated=0, images_left=0)  # it comes as another rank ends the run
    # Looked at without the lock: of ranks that end at the same moment, one at least sees all done and finds the folder free.
    left = outcomes_left(run, plan, identity)
    if not left:
        with contextlib.suppress(RunFolderBusyError), run.lock():
            left = outcomes_left(run, plan, identity)  # a rank with --overwrite may have come between
            if not left:
                start_run(run, config, job.attributes, kind="audit", asked=job.asked, generator=identity)
                remember(run, generator=None)
                merge_outcomes(run, plan, identity)
                return finish_audit(job, plan, identity=identity, generated=made, seconds=time.monotonic() - clock)
    return summary(generated=made, images_left=left)


def _make_share(
    job: Job, plan: Plan, share: Plan, *, rank: int, world_size: int, overwrite: bool
) -> tuple[dict[str, Any], int]:
    """Make a rank's part of a plan; the identity of its generator, and how many images were made.

    The generator goes with this call: the rank that ends the run scores, and needs its memory.
    """
    run, started = job.run, utc_now()
    with run.lock(shared=True), one_world(run, world_size):
        generator = build.planned_generator(job.config, run, plan)
        identity = dict(generator.identity())
        journal = run.rank_journal_path(rank)
        reconcile(run, job.config, plan, identity, job.reporter.note, journal=journal, overwrite=overwrite)
        with job.reporter.task("generating", len(share.requests)) as task:
            made = generate_images(run, share, generator, rank=rank, advance=task.advance, skip=task.skip).made
        write_record(
            run, rank, world_size, started=started, images=len(share.requests), generated=made, generator=identity,
            generation=facts_of(generator),
        )  # fmt: skip
    return identity, made
