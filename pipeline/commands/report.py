"""`allfour report`, and the two last stages of every command: the tables of a run -> metrics.json -> report.html."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from allfour.pipeline.analyses.listing import with_analyses
from allfour.pipeline.commands.job import Job, RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import load_reference, load_word_lists
from allfour.pipeline.metrics.asked_for import with_asked
from allfour.pipeline.metrics.calibration import Calibration, run_calibration_of
from allfour.pipeline.metrics.compute import METRICS_VERSION, compute_metrics
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.metrics.intersections import chosen, with_intersections
from allfour.pipeline.metrics.notes import asked_notes, gate_notes, left_out_notes, wording_notes
from allfour.pipeline.metrics.scenes import scene_notes, scenes_of_run
from allfour.pipeline.metrics.tallies import copy_counts, sure_counts, tally
from allfour.pipeline.metrics.withheld import withheld_of_run
from allfour.pipeline.report import write_report
from allfour.pipeline.report.exports import write_prompts_csv
from allfour.pipeline.report.prose import of_an_archive, sought_in
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.run.folder import RunFolder, fingerprint, sweep_temp_files, utc_now
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics, Note
from allfour.pipeline.run.tables import connect
from allfour.pipeline.run.writing import write_json
from allfour.pipeline.scoring.near_copies import near_copies

if TYPE_CHECKING:
    from allfour.pipeline.analyses.review.labelled import LabelledImages


def report_again(
    run: RunFolder,
    calibration: Path | None = None,
    *,
    second_opinions: Sequence[RunFolder] = (),
    against: RunFolder | None = None,
) -> RunSummary:
    """Metrics and report of a scored run, from its tables and its own header.

    Parameters
    ----------
    second_opinions
        Runs of other classifiers over the same images, to say how far they agree.
    against
        A run of the same prompts and classifier, to be marked beside every prompt.

    Raises
    ------
    InputError, RunFolderError
        It is not a run folder, its scores do not exist, or one of the other runs is not fit for what it is asked for.
    """
    run.scored_header()  # before the lock, which would make the folder
    with run.lock(option=None):
        job = Job.of_run(run, Reporter(quiet=True), calibration)
        sweep_temp_files(run.path)
        write_opinions(run, second_opinions)
        if against is None:
            return finish_run(job, work={})
        from allfour.pipeline.analyses.against import write_against

        measure(job)
        write_against(run, against)
        return refresh(run, work={})


def write_opinions(run: RunFolder, others: Sequence[RunFolder]) -> None:
    """Keep what other runs read in the same images: the first of them as the second opinion, all of them as a consensus.

    Raises
    ------
    RunFolderError
        See `write_second_opinion`: any of them is fit for none. Nothing is written then.
    """
    if not others:
        return
    from allfour.pipeline.analyses.consensus import write_consensus
    from allfour.pipeline.analyses.second_opinion import check_second_opinion, write_second_opinion

    for other in others:
        check_second_opinion(run, other)
    write_second_opinion(run, others[0])
    write_consensus(run, others)


def finish_run(job: Job, *, work: Mapping[str, int]) -> RunSummary:
    """Metrics and report of a run whose tables stand."""
    metrics = measure(job)
    return _summary(job.run, metrics, work)


def measure(job: Job) -> Metrics:
    """Compute and write metrics.json and prompts.csv.

    Raises
    ------
    InputError, RunFolderError
        The calibration that was given is not one of this run's classifier.
    """
    started = time.monotonic()
    run = job.run
    header = run.header()
    known, about_it = run_calibration_of(run.path, job.calibration, header.classifier or {}, job.attributes)
    with connect(run):  # whatever counts below counts within it
        metrics = _counted(job, header, known, [about_it] if about_it is not None else [])
    metrics = with_headline(with_analyses(metrics, run))
    _write(run, metrics)
    stage = fingerprint(METRICS_VERSION, header.fingerprint_of("scores"))
    run.commit_stage("metrics", stage, run.metrics_path, seconds=time.monotonic() - started)
    return metrics


def _counted(job: Job, header: Header, known: Calibration | None, about_it: Sequence[Note]) -> Metrics:
    """What the tables of a run say, by a calibration and with the notes about it."""
    run, config, attributes = job.run, job.config, job.attributes
    reference = load_reference(config.reference.file) if config.reference else None
    names = [attributes.headline, *(name for name in attributes.attributes if name != attributes.headline)]
    counted = tally(run, attributes=names, set_size=config.prompts.set_size)
    copies = near_copies(run)
    metrics = compute_metrics(
        counted,
        labels={name: attributes.labels(name) for name in names},
        headline=attributes.headline,
        set_size=config.prompts.set_size,
        confidence=config.statistics.confidence,
        include=config.statistics.include,
        asked=header.asked,
        reference=reference,
        calibration=known,
        surely=_surely(run, known, {name: attributes.labels(name) for name in names}, several=counted.persons > 0),
        copies=copy_counts(run, attribute=attributes.headline, images=copies.images, set_size=config.prompts.set_size),
        nearly_shared=copies.shared,
        labelled=_labelled(run) if known is not None else None,
    )
    metrics = with_intersections(metrics, run, counted.prompts, chosen(config.intersections, attributes))
    scenes = scenes_of_run(
        run,
        counted.prompts,
        headline=attributes.headline,
        labels=attributes.labels(attributes.headline),
        confidence=config.statistics.confidence,
    )
    notes = [*about_it, *scene_notes(scenes), *left_out_notes(header.left_out), *asked_notes(header.account)]
    if (header.classifier or {}).get("backend") == "clip":
        notes += [*gate_notes(attributes, metrics.accounting), *wording_notes(attributes)]
    words = load_word_lists(config.rewriting.file)
    withheld = withheld_of_run(run, counted.prompts, words, confidence=config.statistics.confidence)
    metrics = with_asked(metrics, counted.prompts, header.asked)
    return metrics.model_copy(update={"group_scenes": scenes, "withheld": withheld}).noted(*notes)


def _labelled(run: RunFolder) -> LabelledImages:
    from allfour.pipeline.analyses.review.labelled import labelled_images  # only beside a calibration

    return labelled_images(run)


def _surely(
    run: RunFolder, calibration: Calibration | None, labels: Mapping[str, Sequence[str]], *, several: bool
) -> dict[str, dict[str, dict[str, tuple[int, ...]]]]:
    """Attribute -> prompt -> label -> images decided surely, where the calibration says how many those should be."""
    if calibration is None or several:
        return {}
    cells = {name: calibration.sure_cells(name, own) for name, own in labels.items()}
    return {
        name: sure_counts(run, attribute=name, edges=found.edges) for name, found in cells.items() if found is not None
    }


def _write(run: RunFolder, metrics: Metrics) -> None:
    write_json(run.metrics_path, metrics.document())
    write_prompts_csv(run.path, metrics)


def render(run: RunFolder, metrics: Metrics) -> Path:
    """Write report.html."""
    run.check_measured()
    started = time.monotonic()
    counts = metrics.accounting.document()
    run.update_header(counts=counts, finished=utc_now())
    path = write_report(run.path, metrics)
    run.commit_stage("report", fingerprint(counts), seconds=time.monotonic() - started)
    return path


def refresh(run: RunFolder, *, work: Mapping[str, int]) -> RunSummary:
    """Put what stands beside the tables, such as sensitivity.json, into metrics.json, and write the report again.

    The other metrics stay as they are. Where the tables have to be read again for them, as labels of people in a run with a calibration
    do, that is `finish_run`.
    """
    if not run.unchanged(run.metrics_path):  # killed between metrics.json and the header, or damaged: made again
        return finish_run(Job.of_run(run, Reporter(quiet=True), None), work=work)
    run.check_measured()
    metrics = with_headline(with_analyses(read_metrics(run.path), run))
    _write(run, metrics)
    run.recommit("metrics", run.metrics_path)
    return _summary(run, metrics, work)


def _summary(run: RunFolder, metrics: Metrics, work: Mapping[str, int]) -> RunSummary:
    page = render(run, metrics)
    header = run.header()
    archive, sought = of_an_archive(header), sought_in(header)
    return RunSummary(run=run.path, metrics=metrics, report=page, work=work, archive=archive, sought=sought)
