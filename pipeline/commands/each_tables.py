"""The tables of images beyond a run's own, when the run is read anew into another folder: they come along, or none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from allfour.pipeline.analyses.each import FILE, asked_of_each, more_of, stands
from allfour.pipeline.archives import RunImages
from allfour.pipeline.archives.base import ArchiveSource
from allfour.pipeline.archives.marked import MarkedSource
from allfour.pipeline.archives.remote import scheme_of
from allfour.pipeline.commands.job import Job
from allfour.pipeline.commands.scoring import score
from allfour.pipeline.commands.start import start_run
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.header import PICKED_KIND


def has_more(run: RunFolder, job: Job) -> bool:
    """Whether a run asked its prompts, with all that it takes to say so of it; what does not stand is told of."""
    if asked_of_each(run) is None:
        return False
    if more_of(run).images_path.exists() and not stands(run):
        job.reporter.note(
            f"{run.path / FILE} is left out: its images for single prompts were read otherwise than those of the run. Repeat `allfour audit --each`"
        )
        return False
    return True


def rescore_more(job: Job, source: ArchiveSource, location: str, *, whole: bool, engine_name: str = "local") -> int:
    """Read what `audit --each` made beyond the images of a run that is an archive now; returns the number of images read.

    Parameters
    ----------
    whole
        Whether all of the archive is read, and not a first look.
    """
    local = scheme_of(location) is None and source.identity().get("layout") == "run"
    run = RunFolder(Path(location).expanduser())
    asked = asked_of_each(run) if local else None
    if asked is None or not whole or not has_more(run, job):
        (job.run.path / FILE).unlink(missing_ok=True)
        return 0
    scored, more = 0, more_of(run)
    if more.images_path.exists():
        target = more_of(job.run)
        images: ArchiveSource = RunImages(more.path, root=run.path)
        if isinstance(source, MarkedSource):
            images = MarkedSource(images, source.several)
        start_run(target, job.config, job.attributes, kind=PICKED_KIND, source=dict(source.identity()))
        beside = replace(job, run=target)
        scored = score(beside, images, own_images=False, engine_name=engine_name, as_in=job.run)
    asked.keep(job.run)
    return scored
