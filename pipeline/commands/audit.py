"""`allfour audit`: generate, score, measure, report; each stage only if it is not done."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from allfour.errors import UsageError
from allfour.models.generators.base import estimate_of, facts_of, spending_of, spent_of, tell_progress
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands import build
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import finish_run
from allfour.pipeline.commands.scoring import score
from allfour.pipeline.commands.start import check_kind, start_run
from allfour.pipeline.commands.unchanged import backend_state, known_identity, remember
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.books import recount
from allfour.pipeline.generation.existing import images_fingerprint, read_outcomes, reconcile, valid_outcomes
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.run.folder import IMAGES_STAGE, RunFolder


def audit(
    config: RunConfig,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    overwrite: bool = False,
    limit: int | None = None,
) -> RunSummary:
    """Generate, score, measure, report.

    Parameters
    ----------
    overwrite
        Replace existing images that were made for other requests, instead of refusing.
    limit
        Images of a first look, rounded up to whole sets. The same command without it goes on from there.

    Raises
    ------
    UsageError
        The run has more images already than a first look would leave it.
    """
    plan = make_plan(config, limit=limit)
    job = Job.begin(config, run, reporter, calibration)
    with run.lock():
        check_kind(run, "audit")
        if limit is not None:
            _check_limit(run, plan)
        asked = [(r.key, r.prompt, r.seed) for r in plan.requests]
        state = backend_state(config.generator, asked) if config.generator is not None else None
        if (known := known_identity(run, "generator", state)) is not None and _all_made(run, plan, known):
            start_run(run, config, job.attributes, kind="audit", asked=job.asked, generator=known)
            return finish_audit(job, plan, identity=known, generated=0, seconds=0.0)
        generator = build.planned_generator(config, run, plan)
        identity = dict(generator.identity())
        kept = reconcile(run, config, plan, identity, reporter.note, journal=run.journal_path, overwrite=overwrite)
        start_run(run, config, job.attributes, kind="audit", asked=job.asked, generator=identity)
        remember(run, generator=None)  # until the table of images is of these requests
        started = time.monotonic()
        missing = [request for request in plan.requests if request.key not in kept]
        recount(run, generator)  # also where nothing is missing: the header is written from the ledger below
        if missing and (cost := estimate_of(generator, missing)) is not None:
            reporter.note(cost)
        tell_progress(generator, reporter.note)
        with reporter.task("generating", len(plan.requests)) as task:
            task.money = functools.partial(spending_of, generator, price=build.price_of(config))
            made = generate_images(run, plan, generator, advance=task.advance, skip=task.skip)
        if (spent := spent_of(generator)) is not None:
            run.update_header(spent=spent)
        if made.made and (facts := facts_of(generator)):
            run.update_header(generation=facts)
        remember(run, generator=state)
        del generator  # a diffusion pipeline and a classifier need not fit into memory together
        return finish_audit(job, plan, identity=identity, generated=made.made, seconds=time.monotonic() - started)


def _check_limit(run: RunFolder, plan: Plan) -> None:
    if not run.images_path.is_file() or not run.unchanged(run.images_path):
        return  # what is damaged is made again
    if (made := pq.read_metadata(run.images_path).num_rows) > len(plan.requests):
        raise UsageError(
            f"--limit: {run.path} has {made} images already, more than the {len(plan.requests)} of this first look. Leave --limit "
            "out, or name another folder with --run"
        )


def _all_made(run: RunFolder, plan: Plan, identity: Mapping[str, Any]) -> bool:
    """Whether every image of the plan stands, and the table of them."""
    made = images_fingerprint(identity, [request.key for request in plan.requests])
    if not run.stage_done(IMAGES_STAGE, made, run.images_path):
        return False
    if read_outcomes(run)[1]:
        return False  # damaged lines are to be told of
    kept = valid_outcomes(run, plan, identity)
    return all(request.key in kept for request in plan.requests)


def finish_audit(job: Job, plan: Plan, *, identity: Mapping[str, Any], generated: int, seconds: float) -> RunSummary:
    """Score, measure and report a run whose images.parquet stands. The caller holds the lock."""
    made_of = images_fingerprint(identity, [r.key for r in plan.requests])
    job.run.commit_stage(IMAGES_STAGE, made_of, job.run.images_path, seconds=seconds)
    source = open_source(str(job.run.path), options=ArchiveOptions(layout="run"))
    scored = score(job, source, own_images=True)
    return finish_run(job, work={"generated": generated, "scored": scored})
