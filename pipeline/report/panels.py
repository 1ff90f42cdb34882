"""The panels beside the ranked prompts: histogram, heatmaps, planted shares, the classifier's accuracy by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.report import svg
from allfour.pipeline.report.view import alone
from allfour.pipeline.run.metrics import Metrics, Prompt, Quality
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import clean, label_text, p_value, plural


def histogram_counts(metrics: Metrics, bins: int = 20) -> list[int]:
    """How many prompts have a share of the first label in each bin from 0 to 1."""
    counts = [0] * bins
    for prompt in metrics.prompts:
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
                hint = f"{label_text(one)}, {label_text(two)}: {count:,} of {total:,} images"
                cells.append(HeatCell(_shade(count / most), f"{count:,}", hint))
            rows.append((label_text(two), cells))
        names = [label_text(name) for name in joint.attributes]
        maps.append(
            Heatmap(
                caption=f"Perceived {names[1]} by {names[0]}",
                note=f"{total:,} images with a label for both" + (f"; {other:,} without are left out" if other else ""),
                columns=[plural(label) for label in down],
                rows=rows,
            )
        )
    return maps


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
                hint = f"{clean(prompt.text, 80)}, {label_text(label)}: {count:,} of {total:,} images"
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
