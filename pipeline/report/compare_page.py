"""The page of a comparison: one self-contained HTML file, of the same parts as a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from allfour.pipeline import words
from allfour.pipeline.report import compare_prose as say
from allfour.pipeline.report import compare_svg, lead, prose, svg
from allfour.pipeline.report.asked import asked_in_runs
from allfour.pipeline.report.compare_pair import RunOnPage, mark, pair_view
from allfour.pipeline.report.html import environment, inlined, script_json, security_policy
from allfour.pipeline.report.opening import unseen
from allfour.pipeline.report.page import SCRIPTS
from allfour.pipeline.report.view import flatten
from allfour.pipeline.report.withheld import withheld_facts
from allfour.pipeline.run.asked import AskedInRuns
from allfour.pipeline.run.record import Interval
from allfour.pipeline.statistics import wilson

MAX_REFERRED = 60
"""Prompts beside their reference, those that are furthest from it."""


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
    with words.naming(entry["name"] for entry in comparison["runs"]):
        return _rendered(comparison, paths)


def _rendered(comparison: Mapping[str, Any], paths: Sequence[Path]) -> str:
    images: list[dict[str, Any]] = []
    runs = [RunOnPage(path, entry["name"], images) for path, entry in zip(paths, comparison["runs"], strict=True)]
    css, css_hash = inlined("report.css", "compare.css")
    script, script_hash = inlined("common.js", *SCRIPTS)
    pairs = [
        pair_view(pair, comparison, (runs[0], other))
        for pair, other in zip(comparison["comparisons"], runs[1:], strict=False)
    ]
    finding, qualified = say.finding(comparison)
    context = {
        "css": css,
        "script": script,
        "policy": security_policy(css_hash, script_hash),
        "title": f"allfour: {say.names(comparison['runs'])}",
        "subject": say.names(comparison["runs"]),
        "facts": _facts(comparison, runs),
        "banners": list(dict.fromkeys(_banners(runs))),
        "headline": finding,
        "qualified": qualified,
        "standfirst": _standfirst(comparison),
        "answers": _answers(comparison, runs),
        "perceived": prose.PERCEIVED,
        "labels": comparison["labels"][comparison["headline"]],
        "series": svg.series_class,
        "size": comparison["set_size"],
        "confidence": words.level(comparison["confidence"]),
        "runs": [
            _provenance(run, entry, comparison["confidence"], _of_one(run, runs))
            for run, entry in zip(runs, comparison["runs"], strict=True)
        ],
        "pairs": pairs,
        "reference": _references(comparison),
        "held": _same_in_all(runs) if pairs else [],
        "asked": asked_in_runs([AskedInRuns.model_validate(entry) for entry in comparison.get("asked_for", ())]),
        "method": say.METHOD,
        "page_data": script_json(
            {"images": images, "tables": {f"figure-{pair['id']}-rows": pair["numbers"] for pair in pairs}}
        ),
    }
    return environment().get_template("compare.html.j2").render(context)


def _facts(comparison: Mapping[str, Any], runs: Sequence[RunOnPage]) -> list[str]:
    """How much was compared."""
    pairs = comparison["comparisons"]
    if len(pairs) == 1:  # the prompts that both have, and their images
        rows = pairs[0]["prompts"]
        prompts, images = len(rows), sum(row[side]["images"] for row in rows for side in ("first", "second"))
    else:
        prompts = len(runs[0].metrics.prompts)
        images = sum(run.metrics.accounting.requested or run.metrics.accounting.scored for run in runs)
    each = "" if len(runs) == 1 else " in all"
    return [words.quantity(prompts, "prompt"), f"{words.quantity(images, 'image')}{each}"]


def _answers(comparison: Mapping[str, Any], runs: Sequence[RunOnPage]) -> list[tuple[str, str]]:
    """Question -> answer, under the squares."""
    pairs = comparison["comparisons"]
    answers = []
    if len(pairs) == 1:
        answers = [("Single prompts", say.change(pairs[0]) or ""), ("What it rests on", say.because(pairs[0]) or "")]
    answers.append(("Images without a label", f"{'; '.join(_unseen(run) for run in runs)}."))
    return [(question, answer) for question, answer in answers if answer]


def _unseen(run: RunOnPage) -> str:
    """`sandbox: 2 unclear of 80 images`."""
    with words.seeking(prose.sought_in(run.header)):
        parts = unseen(run.metrics.accounting)
    total = words.quantity(run.metrics.accounting.requested, "image")
    return f"{run.name}: {words.join_words(parts)} of {total}" if parts else f"{run.name}: none, all {total} were read"


def _banners(runs: Sequence[RunOnPage]) -> Iterator[str]:
    for run in runs:
        if run.header.drawn_world:
            yield prose.DRAWN_WORLD
        elif run.header.notice:
            yield words.clean(run.header.notice)


def _standfirst(comparison: Mapping[str, Any]) -> str | None:
    pairs = comparison["comparisons"]
    if len(pairs) != 1:
        return None
    return f"{say.counts(comparison)} {say.standfirst(pairs[0], comparison['confidence'])}".strip()


def _provenance(
    run: RunOnPage, entry: Mapping[str, Any], confidence: float, differing: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    summary = run.metrics.summary
    same = summary.confidence == confidence
    if not same and lead.has_unanimity(summary):
        own = wilson(summary.unanimous, summary.prompts, confidence=confidence)
        summary = summary.model_copy(update={"unanimity": Interval(value=own.value, low=own.low, high=own.high)})
    maker = run.header.generator or run.header.source or {}
    return {
        "name": words.clean(entry["name"], 200),
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


def _same_in_all(runs: Sequence[RunOnPage]) -> list[tuple[str, str]]:
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


def _of_one(run: RunOnPage, runs: Sequence[RunOnPage]) -> list[tuple[str, str]]:
    """What is this run's own of its classifier."""
    others = [_classifier(other) for other in runs if other is not run]
    return [(f"classifier {k}", v) for k, v in _classifier(run) if any((k, v) not in other for other in others)]


def _classifier(run: RunOnPage) -> list[tuple[str, str]]:
    return flatten(run.header.classifier) if run.header.classifier else []


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
            at = mark(row["share"][label])
            found["marks"][number] = at
            q = "–" if row["q_value"] is None else words.p_value(row["q_value"])
            found["cells"][number] = ("–" if at is None else words.percent(at.value), q)
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
        "names": [words.run_name(entry["name"]) for entry in entries],
        "rows": shown,
        "unlisted": len(rows) - len(shown),
        "even": note["name"] == "an even split",
    }
