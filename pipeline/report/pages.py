"""Further pages of a large run: every prompt in RUN/report/prompts-NNN.html, bars without pictures."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from allfour.pipeline.report.view import PageBuilder
from allfour.pipeline.run.metrics import Metrics, Prompt
from allfour.pipeline.run.writing import aside_folder, put_in_place, write_atomic

FOLDER = "report"
ROWS_PER_PAGE = 500


def page_count(prompts: int) -> int:
    """How many pages list so many prompts."""
    return -(-prompts // ROWS_PER_PAGE)


def write_pages(
    run_dir: Path, metrics: Metrics, order: Sequence[Prompt], env: jinja2.Environment, **shared: Any
) -> int:
    """Write one page per `ROWS_PER_PAGE` prompts of the ranking: all of them are there, or none, and never some of an earlier list."""
    template = env.get_template("prompts.html.j2")
    builder = PageBuilder(metrics)
    count = page_count(len(order))
    names = [f"prompts-{number:03d}.html" for number in range(1, count + 1)]
    with aside_folder(run_dir / FOLDER) as aside:
        for number, name in enumerate(names):
            start = number * ROWS_PER_PAGE
            rows = [
                builder.row(rank, prompt, [], {})
                for rank, prompt in enumerate(order[start : start + ROWS_PER_PAGE], start + 1)
            ]
            content = template.render(
                rows=rows, number=number + 1, names=names, total=len(order), labels=metrics.headline_labels, **shared
            )
            write_atomic(aside / name, content.encode("utf-8", "replace"))
        remove_pages(run_dir)
        put_in_place(aside, run_dir / FOLDER)
    return count


def remove_pages(run_dir: Path) -> None:
    """Remove the pages of an earlier report, and their folder where nothing else is in it."""
    for stale in (run_dir / FOLDER).glob("prompts-*.html"):
        if re.fullmatch(r"prompts-\d{3,}\.html", stale.name):
            stale.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (run_dir / FOLDER).rmdir()
