"""Runs stages in order, each only if it is not done: generate -> score -> metrics -> report."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import Classifier
from allfour.models.generators.base import Generator, estimate_of, facts_of, settle, spent_of
from allfour.models.settings import named_if_missing
from allfour.pipeline.analyses import against as against_run
from allfour.pipeline.analyses import second_opinion, sensitivity
from allfour.pipeline.analyses.against import against_summary, write_against
from allfour.pipeline.analyses.review.results import review_summary
from allfour.pipeline.analyses.second_opinion import second_opinion_summary, write_second_opinion
from allfour.pipeline.analyses.sensitivity import sensitivity_summary
from allfour.pipeline.archives import open_source
from allfour.pipeline.archives.base import ArchiveSource, Shard
from allfour.pipeline.archives.marked import MarkedSource
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.start import check_apart, check_kind, check_source, start_run
from allfour.pipeline.config import (
    RunConfig,
    load_attributes,
    load_prompts,
    load_reference,
    recorded_config,
    validate,
)
from allfour.pipeline.generation.generate import generate_images
from allfour.pipeline.generation.plan import Plan, make_plan
from allfour.pipeline.generation.standing import images_fingerprint, take_over
from allfour.pipeline.metrics.calibration import check_calibration, run_calibration_of
from allfour.pipeline.metrics.compute import METRICS_VERSION, compute_metrics
from allfour.pipeline.metrics.scenes import scene_warnings, scenes_of_run
from allfour.pipeline.metrics.tallies import tally
from allfour.pipeline.report import write_report
from allfour.pipeline.report.exports import write_prompts_csv
from allfour.pipeline.run.columns import SEVERAL
from allfour.pipeline.run.folder import (
    IMAGES_STAGE,
    TABLE_STAGES,
    RunFolder,
    RunFolderBusyError,
    fingerprint,
    package_versions,
    sweep_temp_files,
    utc_now,
    write_json,
)
from allfour.pipeline.scoring.engines import ScoringJob, engine, share_of
from allfour.pipeline.scoring.engines.base import part_store


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished command did."""

    run: Path
    metrics: dict[str, Any]
    report: Path | None
    work: Mapping[str, int]
    """Images that this process generated and scored: 0 where everything stood."""

    @property
    def missing(self) -> int:
        """Images that were requested or listed and have no score."""
        accounting = self.metrics["accounting"]
        return int(accounting["refused"] + accounting["failed"] + accounting["unreadable"])


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


def build_classifier(config: RunConfig, attributes: AttributeSet) -> Classifier:
    """The configured classifier. Raises ClassifierError, ConfigError."""
    settings = config.classifier
    with named_if_missing(settings, f"classifier.backend={settings.backend}"):
        return settings.build(attributes=attributes)


def build_generator(config: RunConfig, run: RunFolder) -> Generator:
    """The configured generator. Raises BackendError, ConfigError."""
    settings = config.generator
    if settings is None:
        raise ConfigError(
            "generator is not set: an audit makes images. To score images that exist, use `allfour rescore SOURCE`"
        )
    with named_if_missing(settings, f"generator.backend={settings.backend}"):
        return settings.build(ledger=run.ledger_path)


def planned_generator(config: RunConfig, run: RunFolder, plan: Plan) -> Generator:
    """The configured generator, settled for this plan as the run began. Raises BackendError, ConfigError."""
    generator = build_generator(config, run)
    settle(generator, images=len(plan.requests), earlier=run.header().get("generator"))
    return generator


def audit(
    config: RunConfig,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    overwrite: bool = False,
) -> RunSummary:
    """Generate, score, measure, report.

    Parameters
    ----------
    overwrite
        Replace images that stand and were made for other requests, in place of refusing.
    """
    plan = make_plan(config)
    attributes = load_attributes(config.attributes.file)
    check_calibration(calibration, attributes)
    with run.lock():
        check_kind(run, "audit")
        generator = planned_generator(config, run, plan)
        identity = dict(generator.identity())
        stands = take_over(run, config, plan, identity, reporter, journal=run.journal_path, overwrite=overwrite)
        sweep_temp_files(run.path)
        start_run(run, config, attributes, kind="audit", generator=identity)
        started = time.monotonic()
        missing = [request for request in plan.requests if request.key not in stands]
        if missing and (cost := estimate_of(generator, missing)) is not None:
            reporter.note(cost)
        with reporter.task("generating", len(plan.requests)) as task:
            made = generate_images(run, plan, generator, advance=task.advance, skip=task.skip)
        if (spent := spent_of(generator)) is not None:
            run.update_header(spent=spent)
        if made.made and (facts := facts_of(generator)):
            run.update_header(generation=facts)
        del generator  # a diffusion pipeline and a classifier need not fit into memory together
        return finish_audit(
            run, config, plan, attributes, reporter, calibration,
            identity=identity, generated=made.made, seconds=time.monotonic() - started,
        )  # fmt: skip


def finish_audit(  # noqa: PLR0917
    run: RunFolder,
    config: RunConfig,
    plan: Plan,
    attributes: AttributeSet,
    reporter: Reporter,
    calibration: Path | None,
    *,
    identity: Mapping[str, Any],
    generated: int,
    seconds: float,
) -> RunSummary:
    """Score, measure and report a run whose images.parquet stands. The caller holds the lock."""
    run.commit_stage(IMAGES_STAGE, images_fingerprint(identity, [r.key for r in plan.requests]), seconds=seconds)
    source = open_source(str(run.path), options=ArchiveOptions(layout="run"))
    scored = _score(run, source, config, attributes, reporter, own_images=True)
    return finish_run(run, config, attributes, work={"generated": generated, "scored": scored}, calibration=calibration)


def rescore(
    config: RunConfig,
    location: str,
    run: RunFolder,
    reporter: Reporter,
    calibration: Path | None = None,
    *,
    engine_name: str = "local",
    overwrite: bool = False,
) -> RunSummary:
    """Score images that exist, measure, report.

    Parameters
    ----------
    overwrite
        Replace the result of another source, in place of refusing.
    """
    attributes = load_attributes(config.attributes.file)
    check_calibration(calibration, attributes)
    check_apart(run, location)
    source = _open_archive(location, config)
    with run.lock():
        check_kind(run, "rescore")
        check_source(run, source, overwrite=overwrite)
        sweep_temp_files(run.path)
        start_run(run, config, attributes, kind="rescore", source=dict(source.identity()))
        scored = _score(run, source, config, attributes, reporter, own_images=False, engine_name=engine_name)
        return finish_run(run, config, attributes, work={"scored": scored}, calibration=calibration)


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
    attributes = load_attributes(config.attributes.file)
    check_calibration(calibration, attributes)
    check_apart(run, location)
    source = _open_archive(location, config)
    shards = list(source.shards())
    share = share_of(shards, rank=rank, world_size=world_size)
    started = utc_now()
    with run.lock(shared=True):
        check_kind(run, "rescore")
        check_source(run, source, overwrite=overwrite)
        classifier = build_classifier(config, attributes)
        scored = _score_shards(
            run, source, share, config, attributes, reporter, classifier=classifier, engine_name="local"
        )
        write_json(
            run.ranks_folder / f"rank-{rank}-of-{world_size}.json",
            {"shards": len(share), "scored": scored, "started": started, "finished": utc_now(),
             "classifier": dict(classifier.identity()), "versions": package_versions()},
        )  # fmt: skip
    # Looked at without the lock: of ranks that end at the same moment, one at least sees all done and finds the folder free.
    store = part_store(run.path, classifier, config.scoring)
    left = sum(not store.done(shard) for shard in shards)
    if not left:
        del classifier
        with contextlib.suppress(RunFolderBusyError):
            return rescore(config, location, run, reporter, calibration, overwrite=overwrite)
    return RankSummary(run=run.path, rank=rank, world_size=world_size, scored=scored, shards_left=left)


def _open_archive(location: str, config: RunConfig) -> ArchiveSource:
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


def _score(
    run: RunFolder,
    source: ArchiveSource,
    config: RunConfig,
    attributes: AttributeSet,
    reporter: Reporter,
    *,
    own_images: bool,
    engine_name: str = "local",
) -> int:
    """Score every shard that is not done, and merge; returns the number of images scored now."""
    started = time.monotonic()
    shards = list(source.shards())
    classifier = build_classifier(config, attributes)
    identity = dict(classifier.identity())
    store = part_store(run.path, classifier, config.scoring)
    stage = fingerprint([(s.id, store.wanted(s.fingerprint)) for s in shards])
    tables = (run.scores_path,) if own_images else (run.scores_path, run.images_path)
    if run.stage_done("scores", stage, *tables):
        run.update_header(classifier=identity)
        reporter.note("scores stand already: nothing to score")
        return 0
    run.forget_stages(*TABLE_STAGES, classifier=identity)
    scored = _score_shards(
        run, source, shards, config, attributes, reporter, classifier=classifier, engine_name=engine_name
    )
    listed, rows = store.merge([s.id for s in shards], images=not own_images)
    run.commit_stage("scores", stage, seconds=time.monotonic() - started, images=listed or None, rows=rows)
    return scored


def _score_shards(  # noqa: PLR0917
    run: RunFolder,
    source: ArchiveSource,
    shards: Sequence[Shard],
    config: RunConfig,
    attributes: AttributeSet,
    reporter: Reporter,
    *,
    classifier: Classifier,
    engine_name: str,
) -> int:
    """Commit every shard that is not done; returns the number of images scored."""
    store = part_store(run.path, classifier, config.scoring)
    todo = [shard for shard in shards if not store.done(shard)]
    total = sum(s.images or 0 for s in shards) if all(s.images is not None for s in shards) else None
    job = ScoringJob(
        run=run.path.resolve(),
        source=source,
        config=config.scoring,
        build=partial(build_classifier, config, attributes),
        actors=config.scoring.actors,
    )
    with reporter.task("scoring", total) as task:
        task.skip(sum(s.images or 0 for s in shards) - sum(s.images or 0 for s in todo))
        return engine(engine_name).score(job, todo, classifier=classifier, advance=task.advance)


def finish_run(
    run: RunFolder,
    config: RunConfig,
    attributes: AttributeSet,
    *,
    work: Mapping[str, int],
    calibration: Path | None,
) -> RunSummary:
    """Metrics and report of a run whose tables stand."""
    metrics = measure(run, config, attributes, calibration)
    report = render(run)
    return RunSummary(run=run.path, metrics=metrics, report=report, work=work)


def measure(
    run: RunFolder, config: RunConfig, attributes: AttributeSet, calibration: Path | None = None
) -> dict[str, Any]:
    """Compute and write metrics.json and prompts.csv.

    Raises
    ------
    ConfigError
        The calibration that was given is not one of this run's classifier.
    """
    started = time.monotonic()
    known, unfit = run_calibration_of(run.path, calibration, run.header()["classifier"], attributes)
    reference = load_reference(config.reference.file) if config.reference else None
    names = [attributes.headline, *(name for name in attributes.attributes if name != attributes.headline)]
    counted = tally(run, attributes=names, set_size=config.prompts.set_size)
    metrics = compute_metrics(
        counted,
        labels={name: attributes.labels(name) for name in names},
        headline=attributes.headline,
        set_size=config.prompts.set_size,
        confidence=config.statistics.confidence,
        reference=reference,
        calibration=known,
    )
    if unfit is not None:
        metrics["warnings"].append(unfit)
    metrics["group_scenes"] = scenes_of_run(
        run,
        counted.prompts,
        headline=attributes.headline,
        labels=attributes.labels(attributes.headline),
        confidence=config.statistics.confidence,
    )
    metrics["warnings"] += scene_warnings(metrics["group_scenes"])
    if (reviewed := review_summary(run)) is not None:
        metrics["review"] = reviewed
    _add_analyses(run, metrics)
    write_json(run.metrics_path, metrics)
    write_prompts_csv(run.path)
    stage = fingerprint(METRICS_VERSION, run.header().get("stages", {}).get("scores", {}).get("fingerprint"))
    run.commit_stage("metrics", stage, seconds=time.monotonic() - started)
    return metrics


def _add_analyses(run: RunFolder, metrics: dict[str, Any]) -> None:
    """What stands in the run folder beside its tables, where it is of the scores that stand."""
    metrics["sensitivity"], moved = sensitivity_summary(run)
    metrics["second_opinion"], second = second_opinion_summary(run)
    metrics["against"], marks = against_summary(run)
    outdated = (sensitivity.OUTDATED, second_opinion.OUTDATED, against_run.OUTDATED)
    kept = [text for text in metrics["warnings"] if text not in outdated]
    metrics["warnings"] = [*kept, *(note for note in (moved, second, marks) if note)]


def render(run: RunFolder) -> Path:
    """Write report.html."""
    run.check_measured()
    started = time.monotonic()
    accounting_counts = _counts(run)
    run.update_header(counts=accounting_counts, finished=utc_now())
    path = write_report(run.path)
    run.commit_stage("report", fingerprint(accounting_counts), seconds=time.monotonic() - started)
    return path


def report_again(
    run: RunFolder,
    calibration: Path | None = None,
    *,
    second_opinion_of: RunFolder | None = None,
    against: RunFolder | None = None,
) -> RunSummary:
    """Metrics and report of a scored run, from its tables and its own header.

    Parameters
    ----------
    second_opinion_of
        A run of another classifier over the same images, to say how far the two agree.
    against
        A run of the same prompts and classifier, to be marked beside every prompt.

    Raises
    ------
    ConfigError
        It is no run folder, its scores do not stand, or one of the other runs is not fit for what it is asked for.
    """
    header = run.scored_header()
    config = recorded_config(header.get("config"), where=str(run.header_path))
    attributes = validate(AttributeSet, header.get("attributes"), where=str(run.header_path))
    with run.lock():
        if second_opinion_of is not None:
            write_second_opinion(run, second_opinion_of)
        if against is None:
            return finish_run(run, config, attributes, work={}, calibration=calibration)
        measure(run, config, attributes, calibration)
        write_against(run, against)
        return refresh(run, work={})


def refresh(run: RunFolder, *, work: Mapping[str, int]) -> RunSummary:
    """Put what stands beside the tables, such as sensitivity.json, into metrics.json, and write the report again.

    The other metrics stay as they are.
    """
    run.check_measured()
    try:
        metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{run.metrics_path} cannot be read: repeat `allfour report {run.path}` first") from None
    _add_analyses(run, metrics)
    write_json(run.metrics_path, metrics)
    return RunSummary(run=run.path, metrics=metrics, report=render(run), work=work)


def _counts(run: RunFolder) -> dict[str, int]:
    metrics = json.loads(run.metrics_path.read_text(encoding="utf-8"))
    return dict(metrics["accounting"])
