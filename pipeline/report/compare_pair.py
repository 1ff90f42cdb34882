"""One pair of a comparison as the page shows it: squares, differences, and a row per prompt with both runs' images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.report import compare_prose as say
from allfour.pipeline.report import compare_svg, svg
from allfour.pipeline.report.frame import Frame, common_frame
from allfour.pipeline.report.listing import TEXT_ORDER, Order
from allfour.pipeline.report.tables import ImageRecord, read_images
from allfour.pipeline.report.thumbnails import Thumbnails, make_thumbnails
from allfour.pipeline.report.view import MAX_IMAGES, MAX_ROWS, PageBuilder
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics

MAX_TILES = 60
"""Comparisons of more prompts show a scatter in place of a pair of squares per prompt."""
MAX_LISTS = 12
"""With more lists than this the squares stand in one block."""
SIDES = ("first", "second")

Row = Mapping[str, Any]
"""A prompt of comparison.json."""


class RunOnPage:
    """One run's documents, read for the page, and its images, numbered across the page."""

    def __init__(self, path: Path, name: str, data: list[dict[str, Any]]) -> None:
        self.path = path
        self.name = words.run_name(name)
        self.header: Header = read_header(path)
        self.metrics: Metrics = read_metrics(path)
        self.builder = PageBuilder(self.metrics, data=data, run=self.name)
        self.by_id = {prompt.id: prompt for prompt in self.metrics.prompts}


@dataclass(frozen=True, slots=True)
class _Both:
    """Two runs, and the images of theirs that the page needs."""

    id: str
    runs: tuple[RunOnPage, RunOnPage]
    records: tuple[dict[str, list[ImageRecord]], dict[str, list[ImageRecord]]]
    pictures: tuple[Thumbnails, Thumbnails]
    frame: Frame

    def images(self, row: Row, side: int) -> list[ImageRecord]:
        """The first set of a prompt in one run."""
        return self.records[side].get(own_id(row, SIDES[side]), [])

    def name(self, row: Row) -> str:
        """A prompt without the words that all share; of variants that were paired by subject, both."""
        text = _text(row)
        return self.frame.short(text) if self.frame.text else text

    def anchor(self, row: Row) -> str:
        """Of the prompt's row."""
        return f"{self.id}-{row['rank']}"


def pair_view(pair: Mapping[str, Any], comparison: Mapping[str, Any], runs: tuple[RunOnPage, RunOnPage]) -> dict[str, Any]:  # fmt: skip
    """What the template prints of one pair.

    Parameters
    ----------
    pair, comparison
        Of comparison.json.
    runs
        First and second.
    """
    labels, size = comparison["labels"][comparison["headline"]], comparison["set_size"]
    rows = pair["prompts"]
    number = comparison["comparisons"].index(pair) + 1
    both = _both(f"pair-{number}", rows, runs, pairs=len(comparison["comparisons"]), size=size)
    first, second = runs[0].name, runs[1].name
    shown = rows[:MAX_ROWS]
    kinds = [(svg.series_class(place), words.plural(label)) for place, label in enumerate(labels)]
    return {
        "id": both.id,
        "first": first,
        "second": second,
        "several": len(comparison["comparisons"]) > 1,
        "in_part": any(row[side]["images"] > size for row in shown for side in SIDES),
        "standfirst": say.standfirst(pair, comparison["confidence"]),
        "doubt": say.because(pair),
        "change": say.change(pair),
        "warnings": [words.clean(warning, 500) for warning in pair["warnings"]],
        "lists": _lists(rows, both) if len(rows) <= MAX_TILES else [],
        "frame": both.frame.text,
        "scatter": None if len(rows) <= MAX_TILES else _scatter(rows, labels[0], (first, second)),
        "estimates": _estimates(pair, labels, size),
        "moves": _moves(pair["summary"]["unanimous"], labels),
        "rows": [_row(row, both, labels, size) for row in shown],
        "unlisted": len(rows) - len(shown),
        "without_picture": [pictures.note for pictures in both.pictures if pictures.note],
        "attributes": _attributes(pair, comparison["labels"]),
        "shows": _shows(kinds),
        "orders": [Order("rank", "by change"), Order("p", "least likely by chance first", by="p"), TEXT_ORDER],
        "numbers": _numbers(shown, both, labels[0]),
    }


def _both(id_: str, rows: Sequence[Row], runs: tuple[RunOnPage, RunOnPage], *, pairs: int, size: int) -> _Both:
    pictured = rows[: max(1, MAX_IMAGES // (2 * pairs * size))]
    wanted = rows if len(rows) <= MAX_TILES else pictured
    records, pictures = [], []
    for run, side in zip(runs, SIDES, strict=True):
        found = read_images(run.path, [own_id(row, side) for row in wanted], size)
        records.append(found)
        queue = [record for row in pictured for record in found.get(own_id(row, side), [])]
        pictures.append(make_thumbnails(run.path, queue))
    frame = common_frame([row["text"] for row in rows])
    if any(_text(row) != row["text"] for row in rows):
        frame = Frame()
    return _Both(id_, runs, (records[0], records[1]), (pictures[0], pictures[1]), frame)


def own_id(row: Row, side: str) -> str:
    """Of a run's own prompt."""
    return str(row[side].get("id") or row["id"])


def _text(row: Row) -> str:
    other = row["second"].get("text")
    return str(row["text"]) if other in (None, row["text"]) else f"{row['text']} → {other}"


# --- squares, or a scatter -------------------------------------------------------------------------------------------


def _squares(row: Row, both: _Both) -> list[Markup]:
    """A prompt's first set in both runs."""
    return [
        run.builder.tile(both.anchor(row), run.by_id[own_id(row, side)], both.images(row, place)).picture
        for place, (run, side) in enumerate(zip(both.runs, SIDES, strict=True))
    ]


def _lists(rows: Sequence[Row], both: _Both) -> list[dict[str, Any]]:
    """Pairs of squares by list of the prompt set, those that changed most first."""
    lists: dict[str | None, list[Row]] = {group.name: [] for group in both.runs[0].metrics.groups}
    for row in rows:
        lists.setdefault(row["group"], []).append(row)
    lists = {name: members for name, members in lists.items() if members}
    if len(lists) < 2 or len(lists) > MAX_LISTS:
        lists = {None: list(rows)}
    return [
        {
            "name": words.group_text(name) if name else "Other prompts" if len(lists) > 1 else "",
            "summary": _summary(members),
            "tiles": [
                {"anchor": both.anchor(row), "name": words.clean(both.name(row), 80), "pictures": _squares(row, both)}
                for row in members
            ],
        }
        for name, members in lists.items()
    ]


def _summary(rows: Iterable[Row]) -> str:
    """`4 of 10 changed sides`."""
    members = list(rows)
    turned = sum(_changed_sides(row) for row in members)
    return f"{words.grouped(turned)} of {words.grouped(len(members))} changed sides"


def _changed_sides(row: Row) -> bool:
    return bool(row["first"]["unanimous"] != row["second"]["unanimous"])


def _scatter(rows: Sequence[Row], label: str, names: tuple[str, str]) -> Markup:
    points = []
    for row in rows:
        one, two = mark(row["first"]["share"].get(label)), mark(row["second"]["share"].get(label))
        if one is not None and two is not None and one.value is not None and two.value is not None:
            points.append((one.value, two.value, words.clean(row["text"], 80), _differs(row)))
    what = f"share of {words.plural(label)}"
    return compare_svg.scatter(points, f"{what} per prompt in {names[1]} over {names[0]}", names[0], names[1], what)


def _differs(row: Row) -> bool:
    return row["q_value"] is not None and row["q_value"] <= 0.05


def mark(interval: Mapping[str, Any] | None) -> svg.Mark | None:
    """An interval of comparison.json as a mark on a scale."""
    if interval is None or interval.get("value") is None:
        return None
    return svg.Mark(interval["value"], interval.get("low"), interval.get("high"))


# --- differences over all prompts ------------------------------------------------------------------------------------


def _line(name: str, meaning: str, sides: tuple[float | None, float | None], entry: Mapping[str, Any]) -> dict[str, Any]:  # fmt: skip
    one, two = ("–" if side is None else words.percent(min(max(side, 0.0), 1.0)) for side in sides)
    return {
        "name": name,
        "meaning": meaning,
        "first": one,
        "second": two,
        "numbers": ["" if number is None else number for number in (*sides, entry.get("p_value"))],
        "difference": words.points(entry["value"]),
        "interval": words.points_interval(entry.get("low"), entry.get("high")),
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
            f"{whole[:1].upper()}{whole[1:]} alike",
            f"Share of prompts whose first {words.word(size)} images agree.",
            (moves["first"] / prompts, moves["second"] / prompts) if prompts else (None, None),
            summary["unanimity_difference"],
        )
    ]
    if any(row[side]["images"] > size for row in pair["prompts"] for side in SIDES):
        every = summary["unanimity_all_images_difference"]
        meaning = f"How often {words.word(size)} images drawn from all images of a prompt agree."
        lines.append(_line(f"Any set of {words.word(size)}", meaning, (every["first"], every["second"]), every))
    if summary.get("unanimity_corrected_difference") is not None:
        found = summary["unanimity_corrected_difference"]
        meaning = f"How often {words.word(size)} images agree, with both classifiers' measured errors taken out."
        lines.append(_line("Corrected", meaning, (found["first"], found["second"]), found))
    for label in labels[:1] if len(labels) == 2 else labels:
        entry = shares[label]
        meaning = "Mean over prompts, each with the same weight."
        lines.append(_line(f"Share of {words.plural(label)}", meaning, (entry["first"], entry["second"]), entry))
    for key, name, meaning in _RATES:
        if (found := summary.get(key)) is not None:
            lines.append(_line(name, meaning, (found["first"], found["second"]), found))
    return _with_figures(lines)


_RATES = (
    ("refused_difference", "Refused", "Share of requested images, mean over prompts."),
    ("failed_difference", "Failed", "Share of requested images, mean over prompts."),
    ("unlabelled_difference", "Without a label", "Share of images read, mean over prompts."),
)


def _moves(moves: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """How the sets changed: the first run's verdicts down, the second's across."""
    kinds: list[str | None] = [*labels, None]
    counts = {(move["first"], move["second"]): move["prompts"] for move in moves["moves"]}
    names = [f"all {words.plural(kind)}" if kind else "not unanimous" for kind in kinds]
    return {
        "columns": names,
        "rows": [
            (name, [{"count": counts.get((one, two), 0), "same": one == two} for two in kinds])
            for name, one in zip(names, kinds, strict=True)
        ],
    }


def _attributes(pair: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    views = []
    for name, entry in pair["attributes"].items():
        shares = entry["share_difference"]
        lines = [
            _line(words.label_text(label), "", (found["first"], found["second"]), found)
            for label, found in ((label, shares[label]) for label in labels[name] if label in shares)
        ]
        views.append({"name": words.label_text(name), **_with_figures(lines)})
    return views


# --- prompt by prompt ------------------------------------------------------------------------------------------------


def _row(row: Row, both: _Both, labels: Sequence[str], size: int) -> dict[str, Any]:
    first = labels[0]
    difference = row["difference"][first]
    sides = [
        run.builder.row(row["rank"], run.by_id[own_id(row, side)], both.images(row, place), both.pictures[place])
        for place, (run, side) in enumerate(zip(both.runs, SIDES, strict=True))
    ]
    marks = [mark(row[side]["share"].get(first)) for side in SIDES]
    described = (
        f"{words.plural(first)}: {sides[0].share} in {both.runs[0].name}, {sides[1].share} in {both.runs[1].name}"
    )
    return {
        "anchor": both.anchor(row),
        "rank": row["rank"],
        "text": words.clean(_text(row), 300),
        "name": words.clean(both.name(row), 300),
        "list": None if row["group"] is None else words.group_text(row["group"]),
        "verdict": say.verdict_change(row, size),
        "kinds": " ".join(sorted(_kinds(row, labels))),
        "p": 2.0 if row["p_value"] is None else row["p_value"],
        "squares": _squares(row, both) if any(both.images(row, place) for place in (0, 1)) else [],
        "changed": _changed_sides(row),
        "points": words.points(difference["value"]),
        "difference": f"{words.points(difference['value'])} points of {words.plural(first)} "
        f"({words.points_interval(difference['low'], difference['high'])}; {_tested(row)})",
        "figure": compare_svg.shares_chart(marks, described),
        "sides": [{"tally": side.tally, "share": side.share, "images": [*side.first, *side.rest]} for side in sides],
    }


def _kinds(row: Row, labels: Sequence[str]) -> set[str]:
    """What the filter knows a row by."""
    one, two = row["first"]["unanimous"], row["second"]["unanimous"]
    found = {"changed" if _changed_sides(row) else "same"}
    if _changed_sides(row):
        found.add("turned" if one and two else "gained" if two else "lost")
    if _differs(row):
        found.add("differs")
    for label, name in ((one, "first"), (two, "second")):
        if label in labels:
            found.add(f"{name}-{svg.series_class(list(labels).index(label))}")
    return found


def _shows(kinds: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        ("changed", "those that changed sides"),
        ("gained", "became unanimous"),
        ("lost", "ceased to be unanimous"),
        ("turned", "turned to another kind"),
        ("differs", "more apart than by chance"),
        ("same", "those that did not change sides"),
        *((f"{side}-{kind}", f"all {name} in the {side} run") for side in SIDES for kind, name in kinds),
    ]


def _tested(row: Row) -> str:
    if row["p_value"] is None:
        return "not tested: a run has no label here"
    q = row["q_value"]
    adjusted = "" if q is None else f", {words.p_value(q).replace('p', '').replace('=', '').strip()} adjusted"
    return f"{words.p_value(row['p_value'])}{adjusted}"


def _numbers(rows: Sequence[Row], both: _Both, label: str) -> dict[str, Any]:
    """What is copied of the rows: numbers as they were computed, by the row's anchor."""
    ends = ("value", "low", "high")
    columns = ["prompt_id", "prompt", "group"]
    columns += [f"{what}_{side}" for side in SIDES for what in ("images", "unanimous", f"share_{label}")]
    columns += ["difference", "low", "high", "p_value", "q_value"]
    return {
        "columns": columns,
        "rows": {
            both.anchor(row): [
                row["id"], _text(row), row["group"],
                *(
                    value
                    for side in SIDES
                    for value in (
                        row[side]["images"], row[side]["unanimous"], (row[side]["share"].get(label) or {}).get("value"),
                    )
                ),
                *(row["difference"][label].get(end) for end in ends), row["p_value"], row["q_value"],
            ]
            for row in rows
        },
    }  # fmt: skip
