"""The page of a comparison: one self-contained HTML file with the runs' images side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.report import compare_prose as say
from allfour.pipeline.report import compare_svg, lead, prose, svg
from allfour.pipeline.report.html import environment, inlined, security_policy
from allfour.pipeline.report.tables import ImageRecord, read_images
from allfour.pipeline.report.thumbnails import make_thumbnails
from allfour.pipeline.report.view import PageBuilder, flatten
from allfour.pipeline.report.withheld import withheld_facts
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Interval
from allfour.pipeline.statistics import wilson

MAX_ROWS = 12
"""Prompts with images; with more pairs there are fewer of each."""
MAX_TILES = 60
"""Comparisons of more prompts show a scatter in place of a pair of squares per prompt."""
MAX_LISTED = 400
"""Prompts of the full table; comparison.json has all."""
MAX_REFERRED = 60
"""Prompts beside their reference, those that are furthest from it."""


class _Run:
    """One run's tables, read for the page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header = read_header(path)
        self.metrics: Metrics = read_metrics(path)
        self.builder = PageBuilder(self.metrics)
        self.by_id = {prompt.id: prompt for prompt in self.metrics.prompts}


def render_comparison(comparison: Mapping[str, Any], paths: Sequence[Path]) -> str:
    """The page as text.

    Parameters
    ----------
    comparison
        What `allfour.pipeline.analyses.comparison.compare.compare` returned.
    paths
        The run folders, in its order.

    Raises
    ------
    ReportError
        A table of a run is missing or not as expected.
    """
    runs = [_Run(path) for path in paths]
    css, css_hash = inlined("report.css", "compare.css")
    script, script_hash = inlined("common.js")
    pairs = comparison["comparisons"]
    rows_each = max(6, MAX_ROWS // max(len(pairs), 1))
    context = {
        "css": css,
        "script": script,
        "policy": security_policy(css_hash, script_hash),
        "title": f"allfour: {say.names(comparison['runs'])}",
        "subject": say.names(comparison["runs"]),
        "banners": list(dict.fromkeys(_banners(runs))),
        "headline": say.headline(comparison),
        "standfirst": _standfirst(comparison),
        "doubt": say.because(pairs[0]) if len(pairs) == 1 else None,
        "perceived": prose.PERCEIVED,
        "labels": comparison["labels"][comparison["headline"]],
        "series": svg.series_class,
        "size": comparison["set_size"],
        "confidence": words.level(comparison["confidence"]),
        "runs": [
            _provenance(run, entry, comparison["confidence"], _of_one(run, runs))
            for run, entry in zip(runs, comparison["runs"], strict=True)
        ],
        "pairs": [
            _pair(pair, comparison, runs, number=number, limit=rows_each) for number, pair in enumerate(pairs, 1)
        ],
        "reference": _references(comparison),
        "held": _same_in_all(runs) if pairs else [],
        "method": say.METHOD,
    }
    return environment().get_template("compare.html.j2").render(context)


def _banners(runs: Sequence[_Run]) -> Iterator[str]:
    for run in runs:
        if run.header.drawn_world:
            yield prose.DRAWN_WORLD
        elif run.header.notice:
            yield words.clean(run.header.notice)


def _standfirst(comparison: Mapping[str, Any]) -> str | None:
    if len(comparison["comparisons"]) == 1:
        return say.standfirst(comparison["comparisons"][0], comparison["confidence"])
    return None


def _provenance(
    run: _Run, entry: Mapping[str, Any], confidence: float, differing: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    summary = run.metrics.summary
    same = summary.confidence == confidence
    if not same and lead.has_unanimity(summary):
        own = wilson(summary.unanimous, summary.prompts, confidence=confidence)
        summary = summary.model_copy(update={"unanimity": Interval(value=own.value, low=own.low, high=own.high)})
    maker = run.header.generator or run.header.source or {}
    return {
        "name": words.clean(entry["name"], 80),
        "facts": [
            ("created", run.header.created or "–"),
            ("images", words.grouped(run.metrics.accounting.requested)),
            ("prompts", words.grouped(len(run.metrics.prompts))),
            *withheld_facts(run.metrics),
            ("first line", lead.one_line(run.metrics)),
            *([("calibration", words.clean(entry["calibration"], 200))] if entry.get("calibration") else []),
            *flatten(maker),
            *differing,
        ],
        "unanimous": summary.unanimous,
        "prompts": summary.prompts,
        "mark": summary.unanimity,
        "corrected": summary.unanimity_corrected if same else None,
        "figure": None
        if summary.unanimity is None or summary.unanimity.value is None
        else svg.interval_row(svg.Mark(summary.unanimity.value, summary.unanimity.low, summary.unanimity.high)),
    }


def _same_in_all(runs: Sequence[_Run]) -> list[tuple[str, str]]:
    """What all runs share: where each has its own calibration, that need not be the classifier."""
    facts = [_classifier(run) for run in runs]
    same = [fact for fact in facts[0] if all(fact in other for other in facts[1:])]
    sizes = {run.metrics.summary.set_size for run in runs}
    return [
        ("prompts", "same ids and texts"),
        *([("images in a set", str(sizes.pop()))] if len(sizes) == 1 else []),
        *([("wording and margins", "same")] if len(same) == len(facts[0]) else []),
        *((f"classifier {key}", value) for key, value in same),
    ]


def _of_one(run: _Run, runs: Sequence[_Run]) -> list[tuple[str, str]]:
    """What is this run's own of its classifier."""
    others = [_classifier(other) for other in runs if other is not run]
    return [(f"classifier {k}", v) for k, v in _classifier(run) if any((k, v) not in other for other in others)]


def _classifier(run: _Run) -> list[tuple[str, str]]:
    return flatten(run.header.classifier) if run.header.classifier else []


# --- one pair --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Both:
    """Two runs and the images of theirs that the page needs, first and second."""

    number: int
    """Place of the pair on the page."""
    runs: tuple[_Run, _Run]
    records: tuple[dict[str, list[ImageRecord]], dict[str, list[ImageRecord]]]


def _pair(
    pair: Mapping[str, Any], comparison: Mapping[str, Any], runs: Sequence[_Run], *, number: int, limit: int
) -> dict[str, Any]:
    labels = comparison["labels"][comparison["headline"]]
    size = comparison["set_size"]
    rows = pair["prompts"]
    tiles = len(rows) <= MAX_TILES
    chosen = [row for row in rows if _moved(row)][:limit] or rows[:1]
    first, second = runs[0], runs[number]
    shown = rows if tiles else chosen
    records = [
        read_images(run.path, [_id(row, side) for row in shown], size)
        for run, side in zip((first, second), _SIDES, strict=True)
    ]
    both = _Both(number, (first, second), (records[0], records[1]))
    names = words.clean(pair["first"], 60), words.clean(pair["second"], 60)
    return {
        "id": f"pair-{number}",
        "first": names[0],
        "second": names[1],
        "several": len(comparison["comparisons"]) > 1,
        "in_part": any(row[side]["images"] > size for row in chosen for side in ("first", "second")),
        "standfirst": say.standfirst(pair, comparison["confidence"]),
        "doubt": say.because(pair),
        "change": say.change(pair),
        "warnings": [words.clean(warning, 500) for warning in pair["warnings"]],
        "tiles": _tiles(rows, both, len(chosen)) if tiles else [],
        "scatter": None if tiles else _scatter(rows, labels[0], names),
        "estimates": _estimates(pair, labels, size),
        "moves": _moves(pair["summary"]["unanimous"], labels),
        "rows": _rows(chosen, both, labels, size),
        "more": max(0, len(rows) - len(chosen)),
        "attributes": _attributes(pair, comparison["labels"]),
        "listed": [_listed(row, labels) for row in rows[:MAX_LISTED]],
        "unlisted": max(0, len(rows) - MAX_LISTED),
    }


_SIDES = ("first", "second")


def _id(row: Mapping[str, Any], side: str) -> str:
    """Of a run's own prompt."""
    return str(row[side].get("id") or row["id"])


def _name(row: Mapping[str, Any]) -> str:
    """The prompt; of variants that were paired by subject, both."""
    other = row["second"].get("text")
    return row["text"] if other in (None, row["text"]) else f"{row['text']} → {other}"


def _moved(row: Mapping[str, Any]) -> bool:
    return bool(row["change"]) or row["first"]["unanimous"] != row["second"]["unanimous"]


def _tiles(rows: Sequence[Mapping[str, Any]], both: _Both, linked: int) -> list[dict[str, Any]]:
    """Each prompt's first set in both runs, as a pair of squares."""
    found = []
    for place, row in enumerate(rows, 1):
        anchor = f"c{both.number}-{place}"
        pictures = [
            run.builder.tile(anchor, run.by_id[_id(row, side)], images[_id(row, side)]).picture
            for run, images, side in zip(both.runs, both.records, _SIDES, strict=True)
        ]
        found.append(
            {"anchor": anchor if place <= linked else None, "name": words.clean(_name(row), 80), "pictures": pictures}
        )
    return found


def _scatter(rows: Sequence[Mapping[str, Any]], label: str, names: tuple[str, str]) -> Markup:
    points = []
    for row in rows:
        one, two = _mark(row["first"]["share"].get(label)), _mark(row["second"]["share"].get(label))
        if one is not None and two is not None and one.value is not None and two.value is not None:
            changed = row["q_value"] is not None and row["q_value"] <= 0.05
            points.append((one.value, two.value, words.clean(row["text"], 80), changed))
    what = f"share of {words.plural(label)}"
    return compare_svg.scatter(points, f"{what} per prompt in {names[1]} over {names[0]}", names[0], names[1], what)


def _mark(interval: Mapping[str, Any] | None) -> svg.Mark | None:
    if interval is None or interval.get("value") is None:
        return None
    return svg.Mark(interval["value"], interval.get("low"), interval.get("high"))


def _line(name: str, meaning: str, one: str, two: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "meaning": meaning,
        "first": one,
        "second": two,
        "difference": say.points(entry["value"]),
        "interval": say.points_interval(entry.get("low"), entry.get("high")),
        "p": "–" if entry.get("p_value") is None else words.p_value(entry["p_value"]),
        "mark": svg.Mark(entry["value"], entry.get("low"), entry.get("high")),
    }


def _with_figures(lines: list[dict[str, Any]]) -> dict[str, Any]:
    ends = [end for line in lines for end in (line["mark"].value, line["mark"].low, line["mark"].high)]
    scale = compare_svg.scale_of(ends)
    for line in lines:
        line["figure"] = compare_svg.difference_row(line["mark"], scale)
    return {"lines": lines, "scale": compare_svg.difference_scale(scale)}


def _estimates(pair: Mapping[str, Any], labels: Sequence[str], size: int) -> dict[str, Any]:
    summary = pair["summary"]
    moves, prompts = summary["unanimous"], summary["unanimous"]["prompts"]
    whole, shares = words.all_of(size), summary["share_difference"]
    lines = [
        _line(
            f"{whole[:1].upper()}{whole[1:]} of one kind",
            f"Share of prompts whose first {words.word(size)} images agree.",
            words.percent(moves["first"] / prompts) if prompts else "–",
            words.percent(moves["second"] / prompts) if prompts else "–",
            summary["unanimity_difference"],
        )
    ]
    if any(row[side]["images"] > size for row in pair["prompts"] for side in ("first", "second")):
        every = summary["unanimity_all_images_difference"]
        meaning = f"How often {words.word(size)} images drawn from all images of a prompt agree."
        one, two = words.percent(every["first"]), words.percent(every["second"])
        lines.append(_line(f"Any set of {words.word(size)}", meaning, one, two, every))
    if summary.get("unanimity_corrected_difference") is not None:
        found = summary["unanimity_corrected_difference"]
        meaning = f"How often {words.word(size)} images agree, with both classifiers' measured errors taken out."
        one, two = (words.percent(min(max(found[side], 0.0), 1.0)) for side in ("first", "second"))
        lines.append(_line("Corrected", meaning, one, two, found))
    for label in labels[:1] if len(labels) == 2 else labels:
        entry = shares[label]
        name = f"Share of {words.plural(label)}"
        meaning = "Mean over prompts, each with the same weight."
        lines.append(_line(name, meaning, words.percent(entry["first"]), words.percent(entry["second"]), entry))
    for key, name, meaning in _RATES:
        if (found := summary.get(key)) is not None:
            lines.append(_line(name, meaning, words.percent(found["first"]), words.percent(found["second"]), found))
    return _with_figures(lines)


_RATES = (
    ("refused_difference", "Refused", "Share of requested images, mean over prompts."),
    ("failed_difference", "Failed", "Share of requested images, mean over prompts."),
    ("unlabelled_difference", "Without a label", "Share of images read, mean over prompts."),
)


def _moves(moves: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """From what to what: the first run's verdicts down, the second's across."""
    kinds: list[str | None] = [*labels, None]
    counts = {(move["first"], move["second"]): move["prompts"] for move in moves["moves"]}
    names = [f"all {words.plural(kind)}" if kind else "not all of one kind" for kind in kinds]
    return {
        "columns": names,
        "rows": [
            (name, [{"count": counts.get((one, two), 0), "same": one == two} for two in kinds])
            for name, one in zip(names, kinds, strict=True)
        ],
    }


def _rows(rows: Sequence[Mapping[str, Any]], both: _Both, labels: Sequence[str], size: int) -> list[dict[str, Any]]:
    strips = []
    for run, images, side in zip(both.runs, both.records, _SIDES, strict=True):
        queue = [record for row in rows for record in images[_id(row, side)]]
        thumbnails = make_thumbnails(run.path, queue)
        strips.append(
            {
                row["id"]: run.builder.row(row["rank"], run.by_id[_id(row, side)], images[_id(row, side)], thumbnails)
                for row in rows
            }
        )
    found = []
    for place, row in enumerate(rows, 1):
        first = labels[0]
        difference = row["difference"][first]
        sides = [strip[row["id"]] for strip in strips]
        marks = [_mark(row[side]["share"].get(first)) for side in ("first", "second")]
        text = f"{words.plural(first)}: {sides[0].share}, then {sides[1].share}"
        found.append(
            {
                "anchor": f"c{both.number}-{place}",
                "rank": row["rank"],
                "text": words.clean(_name(row), 300),
                "group": None if row["group"] is None else words.group_text(row["group"]),
                "verdict": say.verdict_change(row, size),
                "difference": f"Share of {words.plural(first)} {say.points(difference['value'])} points",
                "interval": say.points_interval(difference["low"], difference["high"]),
                "test": _tested(row),
                "figure": compare_svg.shares_chart(marks, text),
                "sides": [{"tally": side.tally, "images": [*side.first, *side.rest]} for side in sides],
            }
        )
    return found


def _tested(row: Mapping[str, Any]) -> str:
    if row["p_value"] is None:
        return "not tested: a run has no label here"
    q = row["q_value"]
    adjusted = "" if q is None else f" ({words.p_value(q).replace('p', '').replace('=', '').strip()} adjusted)"
    return f"{words.p_value(row['p_value'])}{adjusted}"


def _attributes(pair: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    views = []
    for name, entry in pair["attributes"].items():
        shares = entry["share_difference"]
        lines = [
            _line(words.label_text(label), "", words.percent(found["first"]), words.percent(found["second"]), found)
            for label, found in ((label, shares[label]) for label in labels[name] if label in shares)
        ]
        views.append({"name": words.label_text(name), **_with_figures(lines)})
    return views


def _listed(row: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    def side(name: str) -> str:
        found = row[name]["share"].get(labels[0])
        return "–" if not found or found["value"] is None else words.percent(found["value"])

    difference = row["difference"][labels[0]]
    return {
        "rank": row["rank"],
        "text": words.clean(row["text"], 200),
        "first": side("first"),
        "second": side("second"),
        "images": f"{row['first']['images']} / {row['second']['images']}",
        "difference": say.points(difference["value"]),
        "interval": say.points_interval(difference["low"], difference["high"]),
        "p": "–" if row["p_value"] is None else words.p_value(row["p_value"]),
        "q": "–" if row["q_value"] is None else words.p_value(row["q_value"]),
    }


# --- reference -------------------------------------------------------------------------------------------------------


def _references(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """Every run beside one reference: a row per prompt, runs in one chart."""
    entries = comparison["references"]
    if not entries:
        return None
    label = entries[0]["summary"]["label"]
    rows: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        for row in entry["prompts"]:
            found = rows.setdefault(
                row["id"],
                {
                    "text": words.clean(row["text"], 200),
                    "source": words.clean(row["source"], 200),
                    "reference": row["reference"][label],
                    "marks": [None] * len(entries),
                    "cells": [("–", "–")] * len(entries),
                },
            )
            mark = _mark(row["share"][label])
            found["marks"][number] = mark
            q = "–" if row["q_value"] is None else words.p_value(row["q_value"])
            found["cells"][number] = ("–" if mark is None else words.percent(mark.value), q)
    for found in rows.values():
        found["figure"] = compare_svg.shares_chart(
            found["marks"],
            f"{found['text']}: reference {words.percent(found['reference'])}",
            reference=found["reference"],
        )
    note = entries[0]["reference"]
    shown = list(rows.values())[:MAX_REFERRED]
    return {
        "name": words.clean(note["name"], 100),
        "source": words.clean(note["source"], 400),
        "year": note["year"],
        "label": words.plural(label),
        "sentences": [say.reference_sentence(entry) for entry in entries],
        "without": entries[0]["summary"]["prompts_without"],
        "names": [words.clean(entry["name"], 60) for entry in entries],
        "rows": shown,
        "unlisted": len(rows) - len(shown),
        "even": note["name"] == "an even split",
    }
