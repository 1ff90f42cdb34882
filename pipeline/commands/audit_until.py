"""`allfour audit --until EXPR`: prompts in rounds, until the question is settled by limits that hold at every look.

Prompts are visited in an order that the run's seed and their ids decide, so that those visited are a random sample of the list, a
run that was killed goes on in the same order, and the looks that it had are seen again from the prompts that exist.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from allfour.errors import UsageError
from allfour.models.generators.base import estimate_of, facts_of, spending_of, spent_of, tell_progress
from allfour.pipeline.analyses.until import UNTIL
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands import build
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.report import measure, refresh
from allfour.pipeline.commands.scoring import score
from allfour.pipeline.commands.start import check_kind, start_run
from allfour.pipeline.commands.unchanged import remember
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.books import recount
from allfour.pipeline.generation.existing import images_fingerprint, reconcile
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.metrics.stopping import StopRule
from allfour.pipeline.metrics.stopping import looks as limits_at_looks
from allfour.pipeline.run.folder import IMAGES_STAGE, RunFolder
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Interval
from allfour.pipeline.run.until import Look, Until
from allfour.pipeline.words import interval_text, join_words, level, quantity

DEFAULT_ROUND = 10
PAID_ROUND = 4
"""Of a hosted generator: every image is paid for, and there is no model to be loaded anew."""


def audit_until(
    config: RunConfig,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    rule: StopRule,
    round_prompts: int | None = None,
    overwrite: bool = False,
) -> RunSummary:
    """Make, score and measure prompts in rounds, and stop when the question is settled or the prompts have come to an end.

    Raises
    ------
    UsageError
        As `audit`; or the question is about a label that there is not.
    """
    hosted = config.generator is not None and config.generator.hosted
    size = (PAID_ROUND if hosted else DEFAULT_ROUND) if round_prompts is None else round_prompts
    if size < 1:
        raise UsageError(f"--round {size}: a round has one prompt or more")
    plan = visited(make_plan(config), seed=config.seed)
    job = Job.begin(config, run, reporter, calibration)
    asking = [prompt.key for prompt in plan.prompts.prompts if job.attributes.headline in prompt.expect]
    if len(asking) == len(plan.prompts.prompts):
        raise UsageError(
            f"--until: every prompt asks explicitly for a {job.attributes.headline}, so there is no {', '.join(rule.figures)} of "
            "its own to settle. Run `allfour audit` without it"
        )
    rule.check_labels(job.attributes.labels(job.attributes.headline))
    with run.lock():
        check_kind(run, "audit")
        generator = build.planned_generator(config, run, plan)
        identity = dict(generator.identity())
        kept = reconcile(run, config, plan, identity, reporter.note, journal=run.journal_path, overwrite=overwrite)
        start_run(run, config, job.attributes, kind="audit", asked=job.asked, generator=identity)
        remember(run, generator=None)
        rounds = _rounds(plan, size)
        missing = [request for request in plan.requests if request.key not in kept]
        recount(run, generator)
        if missing and (cost := estimate_of(generator, missing)) is not None:
            reporter.note(f"cost at most, if the question is not settled earlier: {cost}")
        del generator
        whole = next((at for at, part in enumerate(rounds) if not {r.key for r in part.requests} <= kept), len(rounds))
        generated = scored = 0
        looks: list[Look] = []
        for at in range(max(whole - 1, 0), len(rounds)):
            made, read = _round(job, plan, rounds[at], identity, images_per_round=size * _images(config))
            generated, scored = generated + made, scored + read
            looks = _looks(measure(job), rule, rounds[: at + 1], confidence=config.statistics.confidence)
            reporter.note(f"after {quantity(looks[-1].prompts, 'prompt')}: {_figures_text(looks[-1].figures)}")
            if rule.settled(looks[-1].figures):
                break
        UNTIL.kept.write(run, _account(rule, looks, plan, config.statistics.confidence).document())
        return refresh(run, work={"generated": generated, "scored": scored})


def visited(plan: Plan, *, seed: int) -> Plan:
    """The same plan with its prompts in the order of a hash over seed and id, which is a random order that stays."""

    def place(prompt_id: str) -> bytes:
        return hashlib.sha256(f"visit\x00{seed}\x00{prompt_id}".encode()).digest()

    prompts = tuple(sorted(plan.prompts.prompts, key=lambda prompt: place(prompt.key)))
    at = {prompt.key: number for number, prompt in enumerate(prompts)}
    requests = tuple(sorted(plan.requests, key=lambda request: (at[request.prompt_id], request.index)))
    return replace(plan, prompts=plan.prompts.model_copy(update={"prompts": prompts}), requests=requests)


def _rounds(plan: Plan, size: int) -> list[Plan]:
    """The plan up to the end of each round."""
    prompts = plan.prompts.prompts
    found = []
    for end in range(size, len(prompts) + size, size):
        part = prompts[:end]
        keys = {prompt.key for prompt in part}
        requests = tuple(request for request in plan.requests if request.prompt_id in keys)
        found.append(Plan(prompts=plan.prompts.model_copy(update={"prompts": part}), requests=requests))
    return found


def _images(config: RunConfig) -> int:
    return config.prompts.images_per_prompt


def _round(job: Job, plan: Plan, part: Plan, identity: Mapping[str, Any], *, images_per_round: int) -> tuple[int, int]:
    """Everything up to the end of a round; how many images were made, and scored. The generator goes before the classifier comes: both need not fit into memory."""
    run, started = job.run, time.monotonic()
    generator = build.planned_generator(job.config, run, plan)
    tell_progress(generator, job.reporter.note)
    with job.reporter.task("generating", len(part.requests)) as task:
        task.money = functools.partial(spending_of, generator, price=build.price_of(job.config))
        made = generate_images(run, part, generator, advance=task.advance, skip=task.skip)
    if (spent := spent_of(generator)) is not None:
        run.update_header(spent=spent)
    if made.made and (facts := facts_of(generator)):
        run.update_header(generation=facts)
    del generator
    keys = [request.key for request in part.requests]
    made_of = images_fingerprint(identity, keys)
    run.commit_stage(IMAGES_STAGE, made_of, run.images_path, seconds=time.monotonic() - started)
    # A shard per round: shards of earlier rounds stay as they are, and are not scored again.
    source = open_source(str(run.path), options=ArchiveOptions(layout="run", shard_size=images_per_round))
    return made.made, score(job, source, own_images=True)


def _looks(metrics: Metrics, rule: StopRule, rounds: Sequence[Plan], *, confidence: float) -> list[Look]:
    """Every look so far, also those from before a kill: all are seen from the prompts in their order."""
    ends = [len(part.prompts.prompts) for part in rounds]
    found = limits_at_looks(metrics, rule.figures, ends=ends, confidence=confidence)
    return [
        Look(prompts=end, images=len(part.requests), figures=figures)
        for end, part, figures in zip(ends, rounds, found, strict=True)
    ]


def _account(rule: StopRule, looks: list[Look], plan: Plan, confidence: float) -> Until:
    last = looks[-1]
    settled = rule.settled(last.figures)
    listed = len(plan.prompts.prompts)
    of = f"{last.prompts} of {quantity(listed, 'prompt')} ({last.images} of {quantity(len(plan.requests), 'image')})"
    why = f"`{rule.text}` holds" if settled else f"all prompts were used before `{rule.text}` held"
    return Until(
        expression=rule.text,
        settled=settled,
        because=f"Stopped after {of}: {why}; {_figures_text(last.figures)} ({level(confidence)} interval, valid for all looks at once).",
        prompts=last.prompts,
        prompts_listed=listed,
        confidence=confidence,
        figures=last.figures,
        looks=looks,
    )


def _figures_text(figures: Mapping[str, Interval]) -> str:
    return join_words(f"{name} {interval_text(found.low, found.high)}" for name, found in figures.items())
