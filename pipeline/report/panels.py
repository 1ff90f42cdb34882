"""The panels beside the ranked prompts: histogram, heatmaps, planted shares, the classifier's accuracy by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.report import svg
from allfour.pipeline.report.view import alone
from allfour.pipeline.run.metrics import Intersection, Metrics, Prompt, Quality
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    clean,
    grouped,
    interval_text,
    join_words,
    label_text,
    p_value,
    percent,
    percent_exact,
    plural,
    quantity,
)


def histogram_counts(metrics: Metrics, bins: int = 20) -> list[int]:
    """How many prompts have a share of the first label in each bin from 0 to 1."""
    counts = [0] * bins
    for prompt in metrics.headline_prompts:
        mark = alone(prompt.share, metrics.headline_labels[0])
        if mark is not None and mark.value is not None:
            counts[min(bins - 1, int(mark.value * bins))] += 1
    return counts


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One cell of a heatmap."""

    shade: int
    """0 to 10, in proportion to the share."""
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A table of shaded cells."""

    caption: str
    note: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]


def _shade(share: float) -> int:
    return 0 if share <= 0 else max(1, min(10, round(share * 10)))


def intersections(metrics: Metrics) -> list[Heatmap]:
    """Joint counts of two attributes: the second's labels down, the headline's across."""
    maps = []
    for joint in metrics.intersections:
        if len(joint.attributes) != 2 or not all(name in metrics.labels for name in joint.attributes):
            continue
        down, across = (metrics.labels[name] for name in joint.attributes)
        counts = {tuple(cell.labels): cell.images for cell in joint.counts}
        total = sum(counts.get((one, two), 0) for one in down for two in across)
        other = sum(counts.values()) - total
        if not total:
            continue
        most = max(counts.get((one, two), 0) for one in down for two in across)
        rows = []
        for two in across:
            cells = []
            for one in down:
                count = counts.get((one, two), 0)
                hint = f"{label_text(one)}, {label_text(two)}: {count:,} of {quantity(total, 'image')}"
                cells.append(HeatCell(_shade(count / most), f"{count:,}", hint))
            rows.append((label_text(two), cells))
        names = [label_text(name) for name in joint.attributes]
        maps.append(
            Heatmap(
                caption=f"Perceived {names[1]} by {names[0]}",
                note=f"{quantity(total, 'image')} with a label for both"
                + (f"; {other:,} without are left out" if other else ""),
                columns=[plural(label) for label in down],
                rows=rows,
            )
        )
    return maps


MAX_JOINT = 24
"""Combinations of an intersection that the page lists, the commonest first; metrics.json has all."""
MAX_NEVER = 12
"""Absent combinations that it names."""


@dataclass(frozen=True, slots=True)
class JointLine:
    """One combination of labels."""

    name: str
    images: int
    share: Interval
    figure: Markup


@dataclass(frozen=True, slots=True)
class JointTable:
    """An intersection with the figures of a single attribute."""

    caption: str
    sentence: str
    absent: str | None
    lines: Sequence[JointLine]
    unlisted: int


def joint_tables(metrics: Metrics) -> list[JointTable]:
    """Shares, unanimity and absent combinations of the intersections that the run was asked for."""
    tables = []
    for found in metrics.intersections:
        if not found.images:
            continue
        known = [(cell, cell.share) for cell in found.counts if cell.share is not None and cell.share.value is not None]
        shown = sorted((pair for pair in known if pair[0].images), key=lambda pair: -(pair[1].value or 0.0))
        lines = [
            JointLine(
                ", ".join(label_text(label) for label in cell.labels),
                cell.images,
                share,
                svg.interval_row(svg.Mark(share.value, share.low, share.high)),
            )
            for cell, share in shown[:MAX_JOINT]
        ]
        names = [label_text(name) for name in found.attributes]
        caption = f"Perceived {join_words(names)} together"
        tables.append(JointTable(caption, _joint_sentence(found), _absent(found), lines, len(shown) - len(lines)))
    return tables


def _joint_sentence(found: Intersection) -> str:
    are, has = ("is" if found.without_label == 1 else "are"), ("has" if found.images == 1 else "have")
    rest = f"; {quantity(found.without_label, 'image')} without one {are} left out" if found.without_label else ""
    text = f"{quantity(found.images or 0, 'image')} of {quantity(found.prompts or 0, 'prompt')} {has} a label of each{rest}."
    at = found.unanimity
    if at is None or at.value is None or not found.evaluated:
        return text
    floor = "" if found.unanimity_floor is None else f"; {percent_exact(found.unanimity_floor)} if all were as likely"
    return (
        f"{text} For {grouped(found.unanimous or 0)} of {quantity(found.evaluated, 'prompt')} every image of the set shows one combination "
        f"({interval_text(at.low, at.high)}{floor})."
    )


def _absent(found: Intersection) -> str | None:
    if not found.never:
        return None
    names = [" ".join(label_text(label) for label in absent.labels) for absent in found.never[:MAX_NEVER]]
    more = len(found.never) - len(names)
    high = found.never[0].high
    each = "Each" if len(found.never) > 1 else "It"
    limit = (
        "" if high is None else f" {each} may still make up as much as {percent(high)} of a prompt's images on average."
    )
    return f"Never seen: {join_words(names + ([f'{more:,} more'] if more else []))}.{limit}"


def by_prompt(metrics: Metrics, order: Sequence[Prompt], limit: int = 60) -> list[Heatmap]:
    """Every other attribute's counts per prompt; nothing for runs with more than `limit` prompts."""
    if len(order) > limit:
        return []
    maps = []
    for name, labels in metrics.labels.items():
        if name == metrics.headline or not any(name in prompt.attributes for prompt in order):
            continue
        rows = []
        for prompt in order:
            counts = prompt.attributes[name].counts if name in prompt.attributes else {}
            total = sum(counts.get(label, 0) for label in labels)
            cells = []
            for label in labels:
                count = counts.get(label, 0)
                hint = f"{clean(prompt.text, 80)}, {label_text(label)}: {count:,} of {quantity(total, 'image')}"
                cells.append(HeatCell(_shade(count / total if total else 0.0), f"{count:,}" if count else "·", hint))
            rows.append((clean(prompt.text, 80), cells))
        maps.append(
            Heatmap(
                caption=f"Perceived {label_text(name)} by prompt",
                note="Images with each label; the darker, the larger their share of the prompt",
                columns=[label_text(label) for label in labels],
                rows=rows,
            )
        )
    return maps


def planted_points(metrics: Metrics) -> list[svg.Point]:
    """Prompts with a reference for the first label."""
    label = metrics.headline_labels[0]
    points = []
    for prompt in metrics.prompts:
        planted = (prompt.reference or {}).get(label)
        mark = alone(prompt.share, label)
        if planted is None or mark is None or mark.low is None or mark.high is None:
            continue
        points.append(svg.Point(planted, mark, mark.low <= planted <= mark.high, clean(prompt.text, 80)))
    return points


@dataclass(frozen=True, slots=True)
class QualityLine:
    """Accuracy of one group."""

    name: str
    images: int
    accuracy: Interval
    figure: Markup


@dataclass(frozen=True, slots=True)
class QualityTable:
    """Accuracy about one attribute by the groups of one grouping."""

    caption: str
    sentence: str | None
    lines: Sequence[QualityLine]


def qualities(metrics: Metrics) -> list[QualityTable]:
    """How often the classifier is right: per attribute of the calibration, overall and by group."""
    if metrics.calibration is None:
        return []
    tables = []
    for name, quality in metrics.calibration.attributes.items():
        overall = _quality_line("all images", quality.images, quality.accuracy)
        for by, members in (quality.groups or {"": {}}).items():
            lines = [_quality_line(clean(value, 60), group.images, group.accuracy) for value, group in members.items()]
            known = [line for line in (overall, *lines) if line is not None]
            if not known:
                continue
            grouping = f", by {label_text(by)} in the labelled set" if members else ""
            tables.append(QualityTable(f"Perceived {label_text(name)}{grouping}", _disparity(quality, by), known))
    return tables


def _quality_line(name: str, images: int, accuracy: Interval | None) -> QualityLine | None:
    if accuracy is None or accuracy.value is None:
        return None
    return QualityLine(name, images, accuracy, svg.interval_row(svg.Mark(accuracy.value, accuracy.low, accuracy.high)))


def _disparity(quality: Quality, by: str) -> str | None:
    found = quality.disparities.get(by)
    if found is None or found.difference is None or found.p_value is None:
        return None
    best, worst = label_text(found.best), label_text(found.worst)
    return (
        f"Right most often for {best}, least often for {worst}: {100 * found.difference:.1f} points apart "
        f"({p_value(found.p_value)} if the groups did not differ)."
    )
