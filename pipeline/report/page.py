"""Puts the page together: reads the run, builds the views, renders the template, writes RUN/report.html."""

from __future__ import annotations

from pathlib import Path

from allfour.pipeline import words
from allfour.pipeline.report import prose, svg
from allfour.pipeline.report.exports import prompts_table
from allfour.pipeline.report.html import environment, inlined, script_json, security_policy
from allfour.pipeline.report.material import Material, gather
from allfour.pipeline.report.opening import banner, opening_of
from allfour.pipeline.report.pages import remove_pages, write_pages
from allfour.pipeline.report.sections import parts_of
from allfour.pipeline.report.view import MAX_ROWS, page_path, ranked
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.writing import write_atomic

SCRIPTS = ("list.js", "detail.js", "copy.js")
"""What a page with rows of prompts and images needs beside what every page does."""


def write_report(run_dir: Path, metrics: Metrics | None = None) -> Path:
    """Write RUN/report.html from the run's tables and return its path.

    Parameters
    ----------
    metrics
        What metrics.json holds, where it was just written.

    Raises
    ------
    ReportError
        A table or document of the run is missing or not as expected.
    """
    header, metrics = read_header(run_dir), metrics or read_metrics(run_dir)
    with words.seeking(prose.sought_in(header)):
        pages = _further_pages(run_dir, header, metrics)
    page = render(run_dir, header, metrics, pages=pages)
    path = page_path(run_dir)
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def _further_pages(run_dir: Path, header: Header, metrics: Metrics) -> int:
    if len(metrics.prompts) <= MAX_ROWS:
        remove_pages(run_dir)
        return 0
    css, css_hash = inlined("report.css")
    return write_pages(
        run_dir,
        metrics,
        ranked(metrics),
        environment(),
        css=css,
        policy=security_policy(css_hash, "'none'"),
        title=prose.title(header.name),
        banner=banner(header),
        perceived=prose.PERCEIVED,
        series=svg.series_class,
    )


def render(run_dir: Path, header: Header, metrics: Metrics, *, pages: int = 0) -> str:
    """The whole page as text; `pages` is the number of further pages that list every prompt."""
    with words.seeking(prose.sought_in(header)):
        return _rendered(run_dir, header, metrics, pages=pages)


def _rendered(run_dir: Path, header: Header, metrics: Metrics, *, pages: int) -> str:
    material = gather(run_dir, header, metrics, pages=pages)
    css, css_hash = inlined("report.css")
    script, script_hash = inlined("common.js", *SCRIPTS)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            css=css,
            script=script,
            policy=security_policy(css_hash, script_hash),
            title=prose.title(header.name),
            perceived=prose.PERCEIVED,
            opening=opening_of(material),
            sections=parts_of(material),
            summary=metrics.summary,
            labels=metrics.headline_labels,
            first=material.first,
            level=words.level(metrics.summary.confidence),
            series=svg.series_class,
            scale=svg.scale_row(),
            page_data=script_json({"images": material.builder.data, "tables": {"figure-prompts": _numbers(material)}}),
        )
    )


def _numbers(material: Material) -> dict[str, object]:
    """The rows of prompts.csv for the prompts on the page, by anchor."""
    header, rows = prompts_table(material.metrics, [material.order[row.rank - 1] for row in material.rows])
    return {"columns": header, "rows": dict(zip((row.anchor for row in material.rows), rows, strict=True))}
