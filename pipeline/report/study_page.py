"""The page of a study, or of many runs: boards with ranks, prompts by runs, pictures side by side, every pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.metrics.headline import EVIDENCE, VERDICTS, verdict_words
from allfour.pipeline.report import compare_svg, prose, svg
from allfour.pipeline.report import study_prose as say
from allfour.pipeline.report.asked import asked_in_runs
from allfour.pipeline.report.frame import Frame, common_frame
from allfour.pipeline.report.html import environment, inlined, security_policy
from allfour.pipeline.report.tables import read_images
from allfour.pipeline.report.thumbnails import make_thumbnails
from allfour.pipeline.report.view import PageBuilder
from allfour.pipeline.run.documents import read_metrics
from allfour.pipeline.run.metrics import Headline, Prompt
from allfour.pipeline.run.record import Estimate, Interval
from allfour.pipeline.run.study import Board, Ranked, StudyCell, StudyResult, Unit

PAGE = "study.html"
MAX_UNITS = 60
"""Rows of a heat map, those whose runs differ most; study.json has all."""
MAX_PICTURED = 8
"""Prompts with pictures of every run."""
MAX_PICTURED_RUNS = 12
MAX_PAIRS = 120


def render_study(study: StudyResult, folder: Path, *, pairs: str | None = None) -> str:
    """The page as text.

    Parameters
    ----------
    folder
        Where study.json lies, by which the cells' paths are read.
    pairs
        Address of a page on which each run is compared with the first in full.

    Raises
    ------
    ReportError
        A table of a run is missing or not as expected.
    """
    css, css_hash = inlined("report.css", "compare.css", "study.css")
    script, script_hash = inlined("common.js", "copy.js")
    cells = {cell.name: cell for cell in study.cells}
    boards = []
    for number, board in enumerate(study.boards, 1):
        with words.naming(board.levels):
            boards.append(_board(board, study, cells, folder, number))
    with words.naming(cells):
        asked = asked_in_runs(study.asked_for)
    context = {
        "css": css,
        "script": script,
        "policy": security_policy(css_hash, script_hash),
        "title": f"allfour: {words.clean(study.name, 120)}",
        "name": words.clean(study.name, 120),
        "banners": say.banners([study.notice, *say.notices(study, folder)]),
        "headline": say.headline(study),
        "standfirst": say.standfirst(study),
        "perceived": prose.PERCEIVED,
        "labels": study.labels,
        "series": svg.series_class,
        "confidence": words.level(study.confidence),
        "notes": [words.clean(note.text, 600) for note in study.notes],
        "boards": boards,
        "cells": [_cell(cell) for cell in study.cells],
        "asked": asked,
        "method": say.METHOD,
        "pairs_page": None if pairs is None else quote(pairs, errors="surrogateescape"),
    }
    return environment().get_template("study.html.j2").render(context)


# --- boards ----------------------------------------------------------------------------------------------------------


def _board(
    board: Board, study: StudyResult, cells: Mapping[str, StudyCell], folder: Path, number: int
) -> dict[str, Any]:
    label = study.labels[0]
    order = [run.level for run in board.runs]
    frame = common_frame([_named(unit) for unit in board.units])
    return {
        "id": f"board-{number}",
        "title": say.board_title(board),
        "finding": say.finding(board, study.headline),
        "open": number == 1,
        "alike": say.alike(board),
        "axis": say.AXIS[board.axis][:-1],
        "label": words.plural(label),
        "runs": [_run(run, cells[run.cell], len(board.runs), labels=len(study.labels)) for run in board.runs],
        "notes": [words.clean(note.text, 400) for note in board.notes],
        "left_out": board.units_left_out,
        "levels": [words.run_name(level, 40) for level in order],
        "units": len(board.units),
        "frame": frame.text,
        "rows": [_heat_row(unit, board, order, label, frame=frame) for unit in _most_apart(board)[:MAX_UNITS]],
        "unlisted": max(0, len(board.units) - MAX_UNITS),
        "pictured": _pictured(board, study, cells, folder, order),
        "pairs": _pairs(board, label),
        "more_pairs": max(0, len(board.pairs) - MAX_PAIRS),
    }


def _run(run: Ranked, cell: StudyCell, count: int, *, labels: int) -> dict[str, Any]:
    lead = cell.headline
    return {
        "name": words.run_name(run.level),
        "link": _report_of(cell),
        "rank": say.ranks(run),
        "rank_figure": _rank_figure(run, count),
        "value": words.percent(run.unanimity.value),
        "interval": words.interval_text(run.unanimity.low, run.unanimity.high),
        "figure": _interval(run.unanimity),
        "rank_ends": f"{run.rank_low} to {run.rank_high}",
        "share": words.percent(run.share.value),
        "share_value": _number(run.share.value),
        "share_figure": _interval(run.share),
        "refused": words.percent(run.refused) if run.refused else "",
        "evidence": None
        if lead is None or lead.value is None
        else f"{words.percent(lead.value)} {EVIDENCE.get(lead.evidence, lead.evidence)}",
        "verdict": "" if lead is None else verdict_words(lead, set_size=cell.set_size, labels=labels),
    }


def _number(value: float | None) -> str:
    """For a copied table: as computed, none where there is none."""
    return "" if value is None else f"{value:.6g}"


def _interval(found: Interval) -> Markup | None:
    return None if found.value is None else svg.interval_row(svg.Mark(found.value, found.low, found.high))


def _rank_figure(run: Ranked, count: int) -> Markup:
    """The places that a run may have, of all."""
    step = 14
    shapes = [svg.el("circle", cx=7 + step * k, cy=7, r=2, class_="place") for k in range(min(count, 40))]
    low, high = 7 + step * (run.rank_low - 1), 7 + step * (min(run.rank_high, 40) - 1)
    shapes.append(svg.el("line", x1=low, x2=high, y1=7, y2=7, class_="places"))
    shapes.append(svg.el("circle", cx=7 + step * (run.rank - 1), cy=7, r=4.5, class_="dot d-ink"))
    return svg.el("svg", *shapes, width=step * min(count, 40), height=14, class_="ranks", aria_hidden="true")


def _report_of(cell: StudyCell) -> str:
    return quote(f"{cell.path}/report.html", errors="surrogateescape")


# --- heat map --------------------------------------------------------------------------------------------------------


def _most_apart(board: Board) -> list[Unit]:
    """Units whose runs differ most, first."""
    return sorted(board.units, key=lambda unit: (-_range(unit), unit.key))


def _range(unit: Unit) -> float:
    known = [share for share in unit.shares if share is not None]
    return max(known) - min(known) if known else -1.0


def _named(unit: Unit) -> str:
    """Its text, or its key where runs asked for it in different words."""
    return unit.texts[0] if len(unit.texts) == 1 else unit.key


def _heat_row(unit: Unit, board: Board, order: Sequence[str], label: str, *, frame: Frame) -> dict[str, Any]:
    at = {level: k for k, level in enumerate(board.levels)}
    return {
        "name": words.clean(frame.short(_named(unit)), 120),
        "group": None if unit.group is None else words.group_text(unit.group),
        "cells": [_heat_cell(unit, at[level], label) for level in order],
    }


def _heat_cell(unit: Unit, place: int, label: str) -> dict[str, Any]:
    share = unit.shares[place]
    if share is None:
        return {
            "figure": svg.el("svg", width=34, height=26, aria_hidden="true"),
            "text": "–",
            "whole": False,
            "strong": False,
            "kind": "u",
            "hint": "no label",
            "value": "",
        }
    kind = "a" if share > 0.5 else "b"
    strength = abs(share - 0.5) * 2
    whole = unit.unanimous[place] == 1.0
    figure = svg.el(
        "svg",
        svg.el("rect", width="100%", height="100%", rx=3, class_=f"s-{kind}", fill_opacity=round(0.06 + 0.84 * strength, 3)),
        width="100%", height=26, aria_hidden="true",
    )  # fmt: skip
    hint = f"{words.percent(share)} {words.plural(label)}" + (", unanimous" if whole else "")
    return {
        "figure": figure,
        "text": words.percent(share),
        "whole": whole,
        "strong": strength > 0.55,
        "kind": kind,
        "hint": hint,
        "value": _number(share),
    }


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictured(
    board: Board, study: StudyResult, cells: Mapping[str, StudyCell], folder: Path, order: Sequence[str]
) -> list[dict[str, Any]]:
    """The first set of every run, for the prompts on which runs differ most."""
    units = [unit for unit in _most_apart(board) if _range(unit) > 0][:MAX_PICTURED]
    by_level = {run.level: cells[run.cell] for run in board.runs}
    strips = {
        level: _strips(folder / by_level[level].path, units, study.pair_by, by_level[level].set_size)
        for level in order[:MAX_PICTURED_RUNS]
    }
    return [
        {
            "name": words.clean(_named(unit), 200),
            "sides": [
                {"name": words.run_name(level), **found[unit.key]}
                for level, found in strips.items()
                if unit.key in found
            ],
        }
        for unit in units
    ]


def _strips(run_dir: Path, units: Sequence[Unit], pair_by: str, size: int) -> dict[str, dict[str, Any]]:
    metrics = read_metrics(run_dir)
    prompts: dict[str, Prompt] = {}
    for prompt in metrics.prompts:
        prompts.setdefault(prompt.pairing(pair_by), prompt)
    wanted = {unit.key: prompts[unit.key] for unit in units if unit.key in prompts}
    records = read_images(run_dir, [prompt.id for prompt in wanted.values()], size)
    thumbnails = make_thumbnails(run_dir, [record for prompt in wanted.values() for record in records[prompt.id]])
    builder = PageBuilder(metrics)
    found = {}
    for key, prompt in wanted.items():
        row = builder.row(1, prompt, records[prompt.id], thumbnails)
        found[key] = {"tally": row.tally, "text": row.text, "images": [*row.first, *row.rest]}
    return found


# --- pairs and cells -------------------------------------------------------------------------------------------------


def _pairs(board: Board, label: str) -> dict[str, Any]:
    shown = sorted(
        board.pairs, key=lambda p: (1.0 if p.adjusted is None else p.adjusted, -abs(p.unanimity.value or 0))
    )[:MAX_PAIRS]
    marks = [_mark(pair.unanimity) for pair in shown]
    scale = compare_svg.scale_of([end for mark in marks for end in (mark.value, mark.low, mark.high)])
    return {
        "scale": compare_svg.difference_scale(scale),
        "lines": [
            {
                "first": words.run_name(pair.first),
                "second": words.run_name(pair.second),
                "figure": compare_svg.difference_row(mark, scale),
                "difference": words.points(pair.unanimity.value),
                "interval": words.points_interval(pair.unanimity.low, pair.unanimity.high),
                "p": "–" if pair.p_value is None else words.p_value(pair.p_value),
                "adjusted": "–" if pair.adjusted is None else words.p_value(pair.adjusted),
                "apart": pair.apart,
                "numbers": [_number(value) for value in (pair.p_value, pair.adjusted, moved, pair.share_adjusted)],
                "share": words.points(pair.share.value),
                "share_p": "–" if pair.share_adjusted is None else words.p_value(pair.share_adjusted),
            }
            for pair, mark in zip(shown, marks, strict=True)
            for moved in [None if pair.share.value is None else 100 * pair.share.value]
        ],
        "label": words.plural(label),
    }


def _mark(found: Estimate) -> svg.Mark:
    return svg.Mark(found.value, found.low, found.high)


def _evidence(lead: Headline) -> str:
    known: str = VERDICTS.get(lead.verdict, "") if lead.value is None else EVIDENCE.get(lead.evidence, lead.evidence)
    return known


def _cell(cell: StudyCell) -> dict[str, Any]:
    lead, counts = cell.headline, cell.accounting
    return {
        "name": words.clean(
            " · ".join(p for p in (cell.generator, cell.prompts, cell.classifier) if p) or cell.name, 120
        ),
        "link": _report_of(cell) if cell.state == "done" else None,
        "state": cell.state,
        "error": None if cell.error is None else words.clean(cell.error, 400),
        "images": "–" if counts is None else words.grouped(counts.scored),
        "counted": "" if counts is None else counts.scored,
        "missing": counts.missing if counts is not None else 0,
        "value": "–" if lead is None or lead.value is None else words.percent(lead.value),
        "number": "" if lead is None else _number(lead.value),
        "interval": "–" if lead is None or lead.low is None else words.interval_text(lead.low, lead.high),
        "evidence": "" if lead is None else _evidence(lead),
        "spent": ""
        if not cell.spent or not cell.spent.get("spent")
        else f"{cell.spent['spent']:.2f} {cell.spent.get('currency') or ''}".strip(),
    }
