"""What the sections of a report are made from: the run's documents, its ranked prompts and the pictures that get a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from allfour.pipeline.report.tables import ImageRecord, read_images
from allfour.pipeline.report.thumbnails import make_thumbnails
from allfour.pipeline.report.view import PageBuilder, RowView, images_per_row, ranked, sample
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics, Prompt


@dataclass(frozen=True, slots=True)
class Material:
    """One run, read once for all sections of its page."""

    run_dir: Path
    header: Header
    metrics: Metrics
    order: Sequence[Prompt]
    """Every prompt, ranked."""
    records: Mapping[str, Sequence[ImageRecord]]
    """The first images of the prompts on the page, by prompt id."""
    builder: PageBuilder
    rows: Sequence[RowView]
    """The prompts on the page: all of them, or a sample."""
    without_picture: str
    """Why some images have no picture."""
    pages: int
    """Further pages that list every prompt."""

    @property
    def first(self) -> str:
        """The headline's first label, whose share is ranked."""
        return self.metrics.headline_labels[0]

    @property
    def even(self) -> float:
        """An even split of the headline's labels."""
        return 1 / len(self.metrics.headline_labels)


def gather(run_dir: Path, header: Header, metrics: Metrics, *, pages: int = 0) -> Material:
    """Read the tables of a run for its page.

    Raises
    ------
    ReportError
        A table of the run is missing or not as expected.
    """
    order = ranked(metrics)
    chosen = sample(order)
    size = metrics.summary.set_size
    shown = read_images(run_dir, [prompt.id for _, prompt in chosen], images_per_row(len(chosen), size))
    queue = [record for images in shown.values() for record in images[:size]]
    queue += [record for images in shown.values() for record in images[size:]]
    thumbnails = make_thumbnails(run_dir, queue)
    builder = PageBuilder(metrics)
    rows = [builder.row(rank, prompt, shown[prompt.id], thumbnails) for rank, prompt in chosen]
    return Material(
        run_dir=run_dir,
        header=header,
        metrics=metrics,
        order=order,
        records=shown,
        builder=builder,
        rows=rows,
        without_picture=thumbnails.note or "",
        pages=pages,
    )
