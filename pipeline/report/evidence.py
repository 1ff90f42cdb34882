"""Sections that are open: how sure the finding is, how it falls by list, what the images show, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.report import lead, prose, svg
from allfour.pipeline.report.estimates import Estimate, estimates
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.spread_figure import spread_curve
from allfour.pipeline.report.tables import ImageRecord, read_missing
from allfour.pipeline.report.view import alone
from allfour.pipeline.run.metrics import Attribute, Metrics, Shares
from allfour.pipeline.run.record import Interval

MAX_MISSING = 200
"""Missing images listed one by one."""
MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class SureView:
    """Estimates with their intervals, and what they mean beside chance."""

    lines: Sequence[tuple[Estimate, Markup]]
    sentences: Sequence[str]
    curve: Markup | None = None
    """Of the corrected figure over the spread of error between prompts."""


def sure_view(material: Material) -> SureView | None:
    """The section of a run; None where there is no figure to be sure of."""
    metrics = material.metrics
    if not (found := estimates(metrics)):
        return None
    text = (lead.because(metrics), lead.chance(metrics), lead.amplification(metrics), lead.corrected(metrics))
    lines = [(line, _estimate_figure(line, metrics)) for line in found]
    curve = spread_curve(metrics.summary.unanimity_corrected)
    return SureView(lines, [sentence for sentence in text if sentence], curve)


def _estimate_figure(line: Estimate, metrics: Metrics) -> Markup:
    if line.kind == "range":
        return svg.range_row(line.at.low or 0.0, line.at.high or 0.0)
    even = lead.even_draws(metrics)
    kind = "quiet" if line.kind in ("chance", "other") else "ink"
    references = () if even is None else (even[0],)
    return svg.interval_row(svg.Mark(line.at.value, line.at.low, line.at.high), references=references, kind=kind)


@dataclass(frozen=True, slots=True)
class GroupLine:
    """Prompts of one list."""

    name: str
    prompts: int
    unanimous: int
    unanimity: Interval | None
    unanimity_figure: Markup | None
    share: svg.Mark | None
    share_figure: Markup | None


def groups_view(material: Material) -> list[GroupLine] | None:
    """A line per list of the prompt set; None where it has none, or no figure of one."""
    lines = []
    for group in material.metrics.groups:
        share = alone(group.share, material.first)
        at = group.unanimity
        mark = None if at is None or at.value is None else svg.Mark(at.value, at.low, at.high)
        lines.append(
            GroupLine(
                name=words.group_text(group.name),
                prompts=group.prompts,
                unanimous=group.unanimous,
                unanimity=at,
                unanimity_figure=None if mark is None else svg.interval_row(mark),
                share=share,
                share_figure=None if share is None else svg.interval_row(share, references=(material.even,)),
            )
        )
    return lines if any(line.share or line.unanimity_figure for line in lines) else None


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One label of an attribute."""

    label: str
    count: int
    mark: svg.Mark | None
    figure: Markup | None


@dataclass(frozen=True, slots=True)
class AttributeView:
    """Shares of one attribute's labels."""

    name: str
    lines: Sequence[LabelLine]
    never: str | None
    unanimous: int | None
    prompts: int
    """With a whole set, and in this attribute's figures."""
    is_headline: bool
    unclear: int
    total: int


@dataclass(frozen=True, slots=True)
class AttributesView:
    """The whole section."""

    attributes: Sequence[AttributeView]
    corrected: bool
    """Whether shares with the classifier's errors taken out stand beside."""


def attributes_view(material: Material) -> AttributesView | None:
    """The section of a run; None where no attribute was read."""
    metrics = material.metrics
    views = []
    for name, attribute in metrics.attributes.items():
        labels = metrics.labels.get(name) or [*attribute.share]
        lines = []
        for label in labels:
            mark = alone(attribute.share, label)
            second = alone(_fitting(attribute), label)
            figure = None if mark is None else svg.interval_row(mark, references=(1 / len(labels),), second=second)
            lines.append(LabelLine(label, attribute.counts.get(label, 0), mark, figure))
        total = sum(line.count for line in lines)
        views.append(
            AttributeView(
                name=words.label_text(name),
                lines=lines,
                never=prose.never_seen(attribute, total),
                unanimous=attribute.unanimous,
                prompts=_whole_sets(attribute, metrics),
                is_headline=name == metrics.headline,
                unclear=attribute.counts.get("ambiguous", 0),
                total=total,
            )
        )
    corrected = any(_fitting(attribute) for attribute in metrics.attributes.values())
    return AttributesView(views, corrected) if any(view.total for view in views) else None


def _whole_sets(attribute: Attribute, metrics: Metrics) -> int:
    """Prompts that unanimity of an attribute is told of: which ones ask for a label differs between attributes."""
    over = attribute.unanimity_all_images
    return metrics.summary.prompts if over is None or over.prompts is None else over.prompts


def _fitting(attribute: Attribute) -> Shares:
    """Corrected shares, where their calibration fits the run: others are no figure to look at, and a note says why."""
    fit = attribute.calibration_fit
    return (attribute.share_corrected or {}) if fit is None or fit.fits else {}


@dataclass(frozen=True, slots=True)
class LeftOutView:
    """The accounting, and every image that is in no share."""

    sums: Sequence[tuple[str, int, Sequence[tuple[int, str]]]]
    notes: Sequence[str]
    asked: str
    """What became of an image first: requested, or listed in an archive."""
    missing: Sequence[ImageRecord]
    missing_total: int
    abstained: str | None
    duplicates: Sequence[Any]


def left_out_view(material: Material) -> LeftOutView:
    """The section of a run."""
    metrics = material.metrics
    missing, total = read_missing(material.run_dir, metrics.headline, MAX_MISSING)
    sums = prose.identities(metrics.accounting, archive=prose.of_an_archive(material.header))
    return LeftOutView(
        sums=sums,
        asked=sums[0][0],
        notes=metrics.warnings[:MAX_NOTES],
        missing=missing,
        missing_total=total,
        abstained=prose.abstained(metrics.accounting),
        duplicates=metrics.duplicates,
    )
