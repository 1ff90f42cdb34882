"""Puts the page together: reads the run, builds the views, renders the template, writes RUN/report.html."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.report import lead, prose, svg
from allfour.pipeline.report.html import environment, inlined, script_json, security_policy
from allfour.pipeline.report.pages import remove_pages, write_pages
from allfour.pipeline.report.panels import by_prompt, histogram_counts, intersections, planted_points, qualities
from allfour.pipeline.report.reviewed import reviewed_view
from allfour.pipeline.report.scenes import scenes_view
from allfour.pipeline.report.sensitivity_view import sensitivity_view
from allfour.pipeline.report.tables import ImageRecord, read_images, read_missing
from allfour.pipeline.report.thumbnails import make_thumbnails
from allfour.pipeline.report.view import (
    MAX_ROWS,
    PageBuilder,
    TileView,
    alone,
    flatten,
    images_per_row,
    page_path,
    ranked,
    sample,
)
from allfour.pipeline.report.withheld import withheld_view
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.folder import write_atomic
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics

MAX_TILES = 400
"""Runs with more prompts show a histogram of shares in place of a square per prompt."""
MAX_MISSING = 200
"""Missing images listed one by one."""


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
        banner=_banner(header),
        perceived=prose.PERCEIVED,
        series=svg.series_class,
    )


def render(run_dir: Path, header: Header, metrics: Metrics, *, pages: int = 0) -> str:
    """The whole page as text; `pages` is the number of further pages that list every prompt."""
    order = ranked(metrics)
    chosen = sample(order)
    limit = images_per_row(len(chosen), metrics.summary.set_size)
    shown = read_images(run_dir, [prompt.id for _, prompt in chosen], limit)
    size = metrics.summary.set_size
    queue = [record for images in shown.values() for record in images[:size]]
    queue += [record for images in shown.values() for record in images[size:]]
    thumbnails = make_thumbnails(run_dir, queue)
    builder = PageBuilder(metrics)
    rows = [builder.row(rank, prompt, shown[prompt.id], thumbnails) for rank, prompt in chosen]
    missing, missing_total = read_missing(run_dir, metrics.headline, MAX_MISSING)
    css, css_hash = inlined("report.css")
    script, script_hash = inlined("common.js", "report.js")
    context = {
        "css": css,
        "script": script,
        "policy": security_policy(css_hash, script_hash),
        "title": prose.title(header.name),
        "header": header,
        "metrics": metrics,
        "summary": metrics.summary,
        "labels": metrics.headline_labels,
        "first": metrics.headline_labels[0],
        "even": 1 / len(metrics.headline_labels),
        "series": svg.series_class,
        "headline": lead.headline(metrics),
        "standfirst": lead.standfirst(metrics),
        "sides": lead.sides(metrics),
        "perceived": prose.PERCEIVED,
        "banner": _banner(header),
        "chance": lead.chance(metrics),
        "corrected": lead.corrected(metrics),
        "because": lead.because(metrics),
        "amplification": lead.amplification(metrics),
        "estimates": [(line, _estimate_figure(line, metrics)) for line in prose.estimates(metrics)],
        "identities": prose.identities(
            metrics.accounting, archive=header.generator is None and header.source is not None
        ),
        "tiles": _tiles(builder, order, shown),
        "histogram": _histogram(metrics) if len(order) > MAX_TILES else None,
        "rows": rows,
        "without_picture": thumbnails.note,
        "total_prompts": len(order),
        "scale": svg.scale_row(),
        "groups": _groups(metrics),
        "scenes": scenes_view(run_dir, metrics),
        "withheld": withheld_view(metrics),
        "reviewed": reviewed_view(metrics),
        "attributes": _attributes(metrics),
        "missing": missing,
        "missing_total": missing_total,
        "planted": _planted(metrics, header),
        "abstained": prose.abstained(metrics.accounting),
        "intersections": intersections(metrics),
        "by_prompt": by_prompt(metrics, order),
        "qualities": qualities(metrics),
        "sensitivity": sensitivity_view(run_dir, metrics),
        "has_corrected": any(attribute.share_corrected for attribute in metrics.attributes.values()),
        "pages": pages,
        "identity": flatten(header.classifier) if header.classifier else [],
        "maker": flatten(header.generator or header.source or {}),
        "maker_name": "Generator" if header.generator else "Source",
        "command": _command(header),
        "config": _config_text(header.config),
        "page_data": script_json({"images": builder.data}),
        "against": prose.against(metrics),
        "level": words.level(metrics.summary.confidence),
        "calibration_level": words.level((metrics.calibration and metrics.calibration.confidence) or 0.95),
        "has_reference": any(prompt.reference for prompt in metrics.prompts),
        "subject": _subject(header),
    }
    return environment().get_template("report.html.j2").render(context)


def _banner(header: Header) -> str | None:
    notice = words.clean(header.notice) if header.notice else ""
    if not header.drawn_world:
        return notice or None
    return prose.DRAWN_WORLD if "drawn world" in notice.casefold() else f"{prose.DRAWN_WORLD} {notice}".strip()


def _subject(header: Header) -> str:
    """What was measured, in a few words."""
    for part in (header.generator, header.source):
        if isinstance(part, dict):
            for key in ("model", "name", "location", "path", "backend", "layout"):
                if part.get(key):
                    return words.clean(_last_part(str(part[key])), 80)
        elif part:
            return words.clean(part, 80)
    return words.clean(header.name, 80)


def _last_part(location: str) -> str:
    """A folder's or file's own name; a model's name such as `org/model` stays whole."""
    local = location.startswith(("/", ".", "~")) or "://" in location or "\\" in location
    return location.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] if local else location


def _estimate_figure(line: prose.Estimate, metrics: Metrics) -> Markup:
    if line.kind == "range":
        return svg.range_row(line.at.low or 0.0, line.at.high or 0.0)
    null = metrics.summary.unanimity_null
    expected = null.expected if null is not None else None
    kind = "quiet" if line.kind in ("chance", "other") else "ink"
    references = () if expected is None else (expected,)
    return svg.interval_row(svg.Mark(line.at.value, line.at.low, line.at.high), references=references, kind=kind)


def _tiles(builder: PageBuilder, order: list[Any], records: dict[str, list[ImageRecord]]) -> list[TileView]:
    if len(order) > MAX_TILES:
        return []
    return [
        builder.tile(f"p{rank}", prompt, records[prompt.id])
        for rank, prompt in enumerate(order, 1)
        if prompt.id in records
    ]


def _histogram(metrics: Metrics) -> Markup:
    counts = histogram_counts(metrics)
    label = words.plural(metrics.headline_labels[0])
    return svg.histogram(
        counts,
        f"Prompts by share of {label}: {counts[0]} prompts at 0 to 5%, {counts[-1]} prompts at 95 to 100%.",
        labels=len(metrics.headline_labels),
    )


def _groups(metrics: Metrics) -> list[dict[str, Any]]:
    first = metrics.headline_labels[0]
    views = []
    for group in metrics.groups:
        share = alone(group.share, first)
        unanimity = group.unanimity
        views.append(
            {
                "name": words.group_text(group.name),
                "prompts": group.prompts,
                "unanimous": group.unanimous,
                "unanimity": unanimity,
                "unanimity_figure": None
                if unanimity is None or unanimity.value is None
                else svg.interval_row(svg.Mark(unanimity.value, unanimity.low, unanimity.high)),
                "share": share,
                "share_figure": None
                if share is None
                else svg.interval_row(share, references=(1 / len(metrics.headline_labels),)),
            }
        )
    return views


def _attributes(metrics: Metrics) -> list[dict[str, Any]]:
    views = []
    for name, attribute in metrics.attributes.items():
        labels = metrics.labels.get(name) or [*attribute.share]
        even = 1 / len(labels) if labels else 0.0
        lines = []
        for label in labels:
            mark = alone(attribute.share, label)
            second = alone(attribute.share_corrected or {}, label)
            figure = None if mark is None else svg.interval_row(mark, references=(even,), second=second)
            count = attribute.counts.get(label, 0)
            lines.append({"label": label, "count": count, "mark": mark, "second": second, "figure": figure})
        views.append(
            {
                "name": words.label_text(name),
                "lines": lines,
                "even": even,
                "never": prose.never_seen(attribute, sum(attribute.counts.get(label, 0) for label in labels)),
                "unanimous": attribute.unanimous,
                "is_headline": name == metrics.headline,
                "unclear": attribute.counts.get("ambiguous", 0),
                "total": sum(attribute.counts.get(label, 0) for label in labels),
            }
        )
    return views


def _planted(metrics: Metrics, header: Header) -> dict[str, Any] | None:
    if metrics.reference is None or not metrics.reference.planted:
        return None
    points = planted_points(metrics)
    if not points:
        return None
    covered = sum(point.covered for point in points)
    label = words.plural(metrics.headline_labels[0])
    sentence = f"{covered} of {words.quantity(len(points), 'interval')} hold the planted share."
    return {
        "figure": svg.planted_chart(points, f"Measured against planted share of {label} per prompt. {sentence}", label),
        "sentence": sentence,
        "total": len(points),
        "learned": not header.drawn_world,
        "missed": [point for point in points if not point.covered],
    }


def _command(header: Header) -> str | None:
    """The command that repeats the run, for a configuration saved as run.yaml."""
    if header.generator:
        return "allfour audit --config run.yaml"
    location = header.source.get("location") if isinstance(header.source, dict) else None
    return f"allfour rescore {words.clean(shlex.quote(str(location)), 400)} --config run.yaml" if location else None


def _config_text(config: Any) -> str:
    if not config:
        return ""
    dumped = yaml.safe_dump(
        json.loads(json.dumps(config, default=str)), sort_keys=False, allow_unicode=False, width=100
    )
    return "\n".join(words.clean(line, 500) for line in dumped.splitlines()[:400])
