"""The section on what was not made and what was rewritten: rates with intervals, a test between lists, words put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.report import svg
from allfour.pipeline.run.metrics import Metrics, Rates, Rewriting
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import clean, group_text, grouped, interval_text, label_text, p_value, percent, quantity

MAX_PROMPTS = 12
MAX_WORDS = 8


@dataclass(frozen=True, slots=True)
class RateLine:
    """One line of a table of rates."""

    name: str
    meaning: str
    value: str
    interval: str
    figure: Markup


@dataclass(frozen=True, slots=True)
class RateTable:
    """One table, with the sentence above it."""

    caption: str
    sentence: str
    of: str
    lines: Sequence[RateLine]


def withheld_view(metrics: Metrics) -> list[RateTable]:
    """The tables of the section; none where nothing was refused, failed or rewritten."""
    found = metrics.withheld
    if found is None:
        return []
    texts = {prompt.id: prompt.text for prompt in metrics.prompts}
    tables = [
        _rates(caption, rates, texts, what)
        for caption, rates, what in (
            ("Refused", found.refused, "A content policy withheld {}."),
            ("Failed", found.failed, "{} failed for another reason and gave no image."),
        )
        if rates.images
    ]
    return tables + ([_rewriting(found.rewriting)] if found.rewriting is not None else [])


def withheld_facts(metrics: Metrics) -> list[tuple[str, str]]:
    """What was refused, failed and rewritten, as facts of a run beside others."""
    found = metrics.withheld
    if found is None:
        return []
    facts = [
        (name, f"{percent(rates.rate.value)} of images ({interval_text(rates.rate.low, rates.rate.high)})")
        for name, rates in (("refused", found.refused), ("failed", found.failed))
        if rates.images
    ]
    if found.rewriting is not None:
        facts += [
            (
                f"{label_text(name)} put in",
                f"{percent(c.added.value)} of images ({interval_text(c.added.low, c.added.high)})",
            )
            for name, c in found.rewriting.categories.items()
            if c.images_added
        ]
    return facts


def _rates(caption: str, rates: Rates, texts: dict[str, str], what: str) -> RateTable:
    sentence = what.format(f"{grouped(rates.images)} of {quantity(rates.requested, 'requested image')}")
    if rates.p_value is not None:
        verdict = (
            "The lists of prompts differ"
            if rates.p_value < 0.05
            else "There is no sign that the lists of prompts differ"
        )
        sentence += f" {verdict} ({p_value(rates.p_value)}, permutation test)."
    lines = [_line("All prompts", f"{grouped(rates.images)} of {grouped(rates.requested)} images", rates.rate)]
    lines += [
        _line(
            group_text(name),
            f"{grouped(g.images)} of {grouped(g.requested)} images, {quantity(g.prompts, 'prompt')}",
            g.rate,
        )
        for name, g in rates.groups.items()
    ]
    lines += [
        _line(clean(texts.get(p.id) or p.id, 120), f"{grouped(p.images)} of {grouped(p.requested)} images", p.rate)
        for p in rates.prompts[:MAX_PROMPTS]
    ]
    return RateTable(caption, sentence, "Share of images", lines)


def _rewriting(found: Rewriting) -> RateTable:
    sentence = (
        f"The service rewrote the prompt of {grouped(found.changed)} of {quantity(found.images, 'image')} and says so. Counted are "
        f"whole words of the list {clean(found.lists, 80)!r}: put in where the prompt did not have them, or taken out. A word can mean "
        "something else than a person's look."
    )
    lines = []
    for name, category in found.categories.items():
        for place, images, rate in (
            ("put in", category.images_added, category.added),
            ("taken out", category.images_taken, category.taken),
        ):
            if images:
                counts = [(w.word, w.added if place == "put in" else w.taken) for w in category.words]
                named = ", ".join(f"{clean(w, 60)} {grouped(n)}" for w, n in counts if n)
                lines.append(_line(f"{label_text(name)}, {place}", _few(named), rate))
    if not lines:
        sentence += " None of them was put in or taken out."
    return RateTable("Rewritten prompts", sentence, "Share of images", lines)


def _few(text: str) -> str:
    parts = text.split(", ")
    return ", ".join(parts[:MAX_WORDS]) + (f" and {len(parts) - MAX_WORDS} more" if len(parts) > MAX_WORDS else "")


def _line(name: str, meaning: str, rate: Interval) -> RateLine:
    figure = svg.interval_row(svg.Mark(rate.value, rate.low, rate.high))
    return RateLine(name, meaning, percent(rate.value), interval_text(rate.low, rate.high), figure)
