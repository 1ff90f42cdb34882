"""`allfour audit --each EXPR`: after the run's images, further sets for prompts whose own question is open, until all are through.

The run's own images are made, read and measured as ever. Those beyond them lie with the others and are booked in the same ledger, but
their tables stand apart (`allfour.pipeline.analyses.each`), so that nothing else rests on images that were made because of what others
showed. What comes next follows from the tables that exist: a run that was killed goes on where it was.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from allfour.errors import MaxCostError, UsageError
from allfour.models.generators.base import (
    GenerationRequest,
    Generator,
    facts_of,
    image_seed,
    spending_of,
    spent_of,
    tell_progress,
)
from allfour.pipeline.analyses.each import Asked, account, more_of, stands
from allfour.pipeline.archives import RunImages
from allfour.pipeline.commands import build
from allfour.pipeline.commands.each_options import DEFAULT_UP_TO, EachEstimate
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.report import finish_run, refresh
from allfour.pipeline.commands.scoring import score
from allfour.pipeline.commands.start import check_kind, start_run
from allfour.pipeline.commands.unchanged import remember
from allfour.pipeline.config import RunConfig
from allfour.pipeline.generation.books import recount
from allfour.pipeline.generation.existing import images_fingerprint, reconcile, take_inventory, valid_outcomes
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.metrics.each_prompt import EachQuestion
from allfour.pipeline.metrics.stopping import EACH_OPTION, StopRule
from allfour.pipeline.run.each import Each
from allfour.pipeline.run.folder import IMAGES_STAGE, RunFolder
from allfour.pipeline.run.header import PICKED_KIND
from allfour.pipeline.statistics.planning import Population
from allfour.pipeline.words import quantity

MOST = 400
"""Images that a prompt may have: beyond, the limits of hardly any prompt get narrower."""
STATED_UNANIMITY = 0.6
"""Of the population from which the expected images are told before there are any: that of `allfour plan`."""


@dataclass(frozen=True)
class _Work:
    """One command at work."""

    job: Job
    base: Plan
    question: EachQuestion
    identity: Mapping[str, Any]

    @property
    def run(self) -> RunFolder:
        return self.job.run

    @property
    def more(self) -> Job:
        """The same command on the tables of images beyond the run's."""
        return replace(self.job, run=more_of(self.run))


def audit_each(job: Job, *, rule: StopRule, up_to: int = DEFAULT_UP_TO, overwrite: bool = False) -> RunSummary:
    """Make, read and measure the run's images; then further sets of prompts whose question is open.

    Parameters
    ----------
    job
        Of an audit that begins or goes on.
    up_to
        Images that a prompt may have, those of the run among them.

    Raises
    ------
    UsageError
        The question is about a label that there is not, no prompt can be asked it, or so many images can settle it for none.
    """
    config, run = job.config, job.run
    base = make_plan(config)
    question = question_of(job, base, rule=rule, up_to=up_to)
    with run.lock():
        check_kind(run, "audit")
        generator = build.planned_generator(config, run, base)
        identity = dict(generator.identity())
        whole = _with_images(base, config, up_to)
        kept = reconcile(run, config, whole, identity, job.reporter.note, journal=run.journal_path, overwrite=overwrite)
        start_run(run, config, job.attributes, kind="audit", asked=job.asked, generator=identity)
        remember(run, generator=None)
        recount(run, generator)
        job.reporter.note(_estimate(job, base, question, kept).describe())
        work = _Work(job, base, question, identity)
        made = _make(work, base, generator)
        del generator  # a diffusion pipeline and a classifier need not fit into memory together
        scored = score(job, RunImages(run.path), own_images=True)
        asked = Asked(rule.text, up_to, question.prompts)
        asked.keep(run)
        finish_run(job, work={})  # what the run says without further images stands while those are made
        further = _further(work, asked)
        return refresh(run, work={"generated": made + further["generated"], "scored": scored + further["scored"]})


def question_of(job: Job, base: Plan, *, rule: StopRule, up_to: int) -> EachQuestion:
    """The question with all that its limits depend on. Raises UsageError: see `audit_each`."""
    headline, config = job.attributes.headline, job.config
    labels = job.attributes.labels(headline)
    rule.check_labels(labels)
    prompts = [prompt for prompt in base.prompts.prompts if headline not in prompt.expect]
    if not prompts:
        raise UsageError(
            f"{EACH_OPTION}: every prompt asks explicitly for a {headline}, so there is no share to settle. Run "
            "`allfour audit` without it"
        )
    if not config.prompts.images_per_prompt < up_to <= MOST:
        raise UsageError(
            f"--up-to {up_to}: every prompt has {config.prompts.images_per_prompt} images to begin with (prompts.images_per_prompt), so "
            f"name more than that, and {MOST} at most"
        )
    question = EachQuestion(rule, labels, len(prompts), up_to, config.statistics.confidence)
    if not question.in_reach({}, up_to):
        needed = question.fewest(MOST)
        enough = f"name {needed} or more" if needed else f"not even {MOST} images would be"
        raise UsageError(
            f"{EACH_OPTION} {rule.text!r}: with {quantity(len(prompts), 'prompt')} asked at once, {up_to} images (--up-to) do not settle it "
            f"for a prompt even if all of them show one label: {enough}"
        )
    if not question.some_outcome_settles():
        raise UsageError(
            f"{EACH_OPTION} {rule.text!r}: with {quantity(len(prompts), 'prompt')} asked at once, no outcome of {up_to} images (--up-to) settles it "
            "for a prompt. Raise --up-to, or ask for less: its comparisons may contradict each other"
        )
    return question


def dry_run(job: Job, *, rule: StopRule, up_to: int = DEFAULT_UP_TO) -> EachEstimate:
    """What `audit_each` would still have to make. Nothing is made or written. Raises as `audit_each`."""
    base = make_plan(job.config)
    question = question_of(job, base, rule=rule, up_to=up_to)
    check_kind(job.run, "audit")
    generator = build.planned_generator(job.config, job.run, base)
    whole = _with_images(base, job.config, up_to)
    return _estimate(job, base, question, take_inventory(job.run, whole, dict(generator.identity())).valid)


def _estimate(job: Job, base: Plan, question: EachQuestion, kept: frozenset[tuple[str, int]]) -> EachEstimate:
    first = [request for request in base.requests if request.key not in kept]
    more, basis = None, ""
    headline = job.attributes.headline
    asked = {prompt.key: question.up_to for prompt in base.prompts.prompts if headline not in prompt.expect}
    beyond = {request.key for request in _with_images(base, job.config, asked).requests} - {
        r.key for r in base.requests
    }
    most = len(first) + len(beyond - kept)
    found = None if first else _known(job, question)
    if found is not None:
        still = [prompt for prompt in found.prompts if prompt.state == "open"]
        most = sum(question.up_to - prompt.images for prompt in still)
        more, basis = (
            _expected_of(found, question, job.config.prompts.set_size),
            "estimated from the images made so far",
        )
    elif question.of_one_share is not None and len(question.labels) == 2:
        spread, own = Population.of_unanimity(STATED_UNANIMITY), job.config.prompts.images_per_prompt
        each = question.expected_first(spread, images=own, step=job.config.prompts.set_size)
        more = len(first) + question.prompts * each
        basis = f"assuming that {STATED_UNANIMITY:.0%} of prompts show one label in four images"
    price, currency = build.price_of(job.config) or (None, None)
    return EachEstimate(
        prompts=question.prompts,
        existing=len(kept),
        most=most,
        expected=more,
        basis=basis,
        cost=None if price is None else price * most,
        expected_cost=None if price is None or more is None else price * more,
        currency=currency,
    )


def _known(job: Job, question: EachQuestion) -> Each | None:
    """What the run's images say of the question, where they are measured."""
    run, begun = job.run, more_of(job.run).images_path.exists()
    measured = run.header().fingerprint_of("scores") is not None and run.unchanged(run.scores_path)
    if not measured or (begun and not stands(run)):
        return None
    return account(run, Asked(question.rule.text, question.up_to, question.prompts), with_more=begun)


def _expected_of(found: Each, question: EachQuestion, step: int) -> float | None:
    """Images that prompts will be given beyond those that exist, where shares are spread as in these; None where that is not known."""
    label = question.of_one_share
    if label is None:
        return None
    table = [(prompt.counts.get(label, 0), sum(prompt.counts.values()), prompt.images) for prompt in found.prompts]
    try:
        spread = Population.of_pilot([[hits, total - hits] for hits, total, _ in table])
    except ValueError:
        return None
    known: dict[tuple[int, ...], float] = {}
    return sum(
        question.expected_more(spread, hits=hits, trials=total, requested=images, step=step, known=known)
        for hits, total, images in table
    )


def _with_images(base: Plan, config: RunConfig, images: int | Mapping[str, int]) -> Plan:
    """The plan with so many images of every prompt, or of each."""
    texts = {prompt.key: prompt.text for prompt in base.prompts.prompts}
    numbers = images if isinstance(images, Mapping) else dict.fromkeys(texts, images)
    requests = [
        GenerationRequest(prompt_id=key, index=index, prompt=texts[key], seed=image_seed(config.seed, key, index))
        for key, number in numbers.items()
        for index in range(number)
    ]
    return replace(base, requests=tuple(requests))


# --- rounds ----------------------------------------------------------------------------------------------------------


def _further(work: _Work, asked: Asked) -> dict[str, int]:
    """Rounds of one set for every prompt that is open, until none is, or there is no money left."""
    run, step = work.run, work.job.config.prompts.set_size
    done = {"generated": 0, "scored": 0}
    numbers, begun, more = _standing(work), False, more_of(run)
    while True:
        if numbers and not begun:
            start_run(more, work.job.config, work.job.attributes, kind=PICKED_KIND, generator=dict(work.identity))
            begun = True
        if numbers and not _round(work, numbers, done):
            replace(asked, stopped="generator.max_cost is spent").keep(run)
            return done
        found = account(run, asked, with_more=bool(numbers))
        still = [prompt for prompt in found.prompts if prompt.state == "open"]
        if numbers or not still:
            work.job.reporter.note(f"{found.settled} of {quantity(found.asked, 'prompt')} settled, {len(still)} open")
        if not still:
            return done
        for prompt in still:
            images = min(prompt.images + step, work.question.up_to)
            numbers[prompt.id] = images


def _standing(work: _Work) -> dict[str, int]:
    """Prompt -> its images in all, of prompts that were given further ones, as far as those are of this plan."""
    more, config = more_of(work.run), work.job.config
    if more.header().kind != PICKED_KIND or not more.images_path.is_file() or not more.unchanged(more.images_path):
        return {}
    texts = {prompt.key: prompt.text for prompt in work.base.prompts.prompts}
    table = pq.read_table(more.images_path, columns=["prompt_id", "index", "prompt", "seed"]).to_pylist()
    found: dict[str, int] = {}
    for row in table:
        key, index = row["prompt_id"], row["index"]
        if texts.get(key) == row["prompt"] and row["seed"] == image_seed(config.seed, key, index):
            found[key] = max(found.get(key, 0), index + 1)
    return {key: number for key, number in found.items() if number > config.prompts.images_per_prompt}


def _round(work: _Work, numbers: Mapping[str, int], done: dict[str, int]) -> bool:
    """Make and read what these prompts lack; False where the money came to an end."""
    own, paid = work.job.config.prompts.images_per_prompt, True
    whole = _with_images(work.base, work.job.config, numbers)
    # a table that only grows at its end: shards that were read stay as they are
    beyond = sorted((r for r in whole.requests if r.index >= own), key=lambda r: r.index)
    plan = replace(whole, requests=tuple(beyond))
    generator = build.planned_generator(work.job.config, work.run, work.base)
    try:
        done["generated"] += _make(work, plan, generator)
    except MaxCostError as error:
        work.job.reporter.note(str(error))
        paid = False
        outcomes = valid_outcomes(work.run, plan, work.identity, retry_failed=False)
        there = {
            key for key, outcome in outcomes.items() if outcome.status != "failed"
        }  # which would be asked for again
        plan = replace(plan, requests=tuple(r for r in plan.requests if r.key in there))
        _make(work, plan, generator)
    del generator
    images = RunImages(work.more.run.path, root=work.run.path, shard_size=4 * work.job.config.prompts.set_size)
    done["scored"] += score(work.more, images, own_images=True, as_in=work.run)
    return paid


def _make(work: _Work, plan: Plan, generator: Generator) -> int:
    """Make the images of a plan, all into the run's own folder, and commit their table; returns how many were made."""
    run, started = work.run, time.monotonic()
    own = plan is work.base
    tables = run if own else work.more.run
    tell_progress(generator, work.job.reporter.note)
    try:
        with work.job.reporter.task("generating", len(plan.requests)) as task:
            task.money = functools.partial(spending_of, generator, price=build.price_of(work.job.config))
            made = generate_images(run, plan, generator, table=tables.images_path, advance=task.advance, skip=task.skip)
    finally:
        if (spent := spent_of(generator)) is not None:
            run.update_header(spent=spent)
    if made.made and (facts := facts_of(generator)):
        run.update_header(generation=facts)
    stage = images_fingerprint(work.identity, [request.key for request in plan.requests])
    seconds = time.monotonic() - started
    tables.commit_stage(IMAGES_STAGE, stage, tables.images_path, seconds=seconds)
    return made.made
