"""The section on what prompts asked for in so many words: shown, overridden, refused; and whether that differs by what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline.run.asked import AskedDifference, AskedFor, AskedInRuns, AskedLabel
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    clean,
    grouped,
    interval_text,
    label_text,
    p_value,
    percent,
    plural,
    points,
    points_interval,
    quantity,
    run_name,
)


@dataclass(frozen=True, slots=True)
class AskedLine:
    """What came of one label that was asked for."""

    name: str
    meaning: str
    cells: Sequence[tuple[str, str]]
    """Value and interval of: shown, other, no label, refused or failed."""


@dataclass(frozen=True, slots=True)
class AskedTable:
    """One attribute."""

    caption: str
    sentences: Sequence[str]
    lines: Sequence[AskedLine]


def asked_view(metrics: Metrics) -> list[AskedTable] | None:
    """The tables of the section; None where no prompt asks for a label."""
    if not metrics.asked_for:
        return None
    return [_table(name, found) for name, found in metrics.asked_for.items()]


MAX_PROMPTS = 240
"""That ask for a label, listed on a page over several runs."""


@dataclass(frozen=True, slots=True)
class AskedInRunsLine:
    """A prompt that asks, and what each run shows of it."""

    text: str
    label: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class AskedInRunsView:
    """All such prompts of a comparison or a study."""

    runs: Sequence[str]
    lines: Sequence[AskedInRunsLine]
    totals: Sequence[str]
    hidden: int


def asked_in_runs(listed: Sequence[AskedInRuns]) -> AskedInRunsView | None:
    """The table of prompts that ask for a label; None where none does."""
    if not listed:
        return None
    names = list(dict.fromkeys(side.run for prompt in listed for side in prompt.sides))
    sums = dict.fromkeys(names, (0, 0))
    lines = []
    for prompt in listed:
        sides = {side.run: side for side in prompt.sides}
        for name, side in sides.items():
            sums[name] = sums[name][0] + side.shown, sums[name][1] + side.images
        cells = [_of(sides[name].shown, sides[name].images) if name in sides else "–" for name in names]
        lines.append(AskedInRunsLine(clean(prompt.text, 200), clean(label_text(prompt.label), 60), cells))
    return AskedInRunsView(
        [run_name(name) for name in names],
        lines[:MAX_PROMPTS],
        [_of(*sums[name]) for name in names],
        max(0, len(lines) - MAX_PROMPTS),
    )


def _of(shown: int, images: int) -> str:
    return f"{grouped(shown)} of {grouped(images)}"


def _table(attribute: str, found: AskedFor) -> AskedTable:
    sentences = [_finding(label, entry) for label, entry in found.labels.items()]
    if found.shown_p_value is not None:
        verdict = "Some labels are" if found.shown_p_value < 0.05 else "There is no sign that some labels are"
        sentences.append(
            f"{verdict} shown less often than others when they are asked for ({p_value(found.shown_p_value)})."
        )
    if found.refused_p_value is not None and any(entry.counts.get("refused") for entry in found.labels.values()):
        verdict = "Refusals" if found.refused_p_value < 0.05 else "There is no sign that refusals"
        sentences.append(f"{verdict} depend on what is asked for ({p_value(found.refused_p_value)}).")
    sentences += [_difference(pair) for pair in found.differences]
    return AskedTable(f"Perceived {label_text(attribute)}", sentences, [_line(k, v) for k, v in found.labels.items()])


def asked_headline(metrics: Metrics) -> str:
    """The first line where every prompt asks for a label: `Women were asked for in 20 prompts, and 71 of 80 images show one. ...`"""
    found = (metrics.asked_for or {}).get(metrics.headline)
    if found is None or not found.labels:
        return f"Every prompt asks for a perceived {label_text(metrics.headline)}."
    if len(found.labels) > MAX_LABELS_SHOWN:
        shown, images = (
            sum(n) for n in zip(*((e.counts.get("shown", 0), e.images) for e in found.labels.values()), strict=True)
        )
        return f"Every prompt asks for a perceived {label_text(metrics.headline)}, and {grouped(shown)} of {quantity(images, 'image')} show it."
    return " ".join(_finding(label, entry) for label, entry in found.labels.items())


MAX_LABELS_SHOWN = 3
"""In the first line."""


def _finding(label: str, entry: AskedLabel) -> str:
    shown, images = entry.counts.get("shown", 0), quantity(entry.images, "image")
    return f"{plural(label).capitalize()} were asked for in {quantity(entry.prompts, 'prompt')}, and {grouped(shown)} of {images} show one."


def _difference(pair: AskedDifference) -> str:
    counts = quantity(pair.subjects, "subject")
    text = (
        f"Of {counts} with prompts for both, {plural(pair.second)} less {plural(pair.first)}: shown {points(pair.shown.value)} points "
        f"({points_interval(pair.shown.low, pair.shown.high)}; {_p(pair.shown_p_value)})"
    )
    if pair.refused.value:
        text += (
            f", refused {points(pair.refused.value)} points ({points_interval(pair.refused.low, pair.refused.high)}; "
            f"{_p(pair.refused_p_value)})"
        )
    return text + "."


def _p(value: float | None) -> str:
    return "no test" if value is None else p_value(value)


def _line(label: str, entry: AskedLabel) -> AskedLine:
    rates: Sequence[Interval] = (entry.shown, entry.other, entry.unclear, entry.refused, entry.failed)
    return AskedLine(
        clean(label_text(label), 60),
        f"{grouped(entry.images)} images, {quantity(entry.prompts, 'prompt')}",
        [(percent(rate.value), interval_text(rate.low, rate.high)) for rate in rates],
    )
