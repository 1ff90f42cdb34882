"""The first screen: what was tested, the finding with its evidence, the squares, and what was not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from markupsafe import Markup

from allfour.pipeline import words
from allfour.pipeline.metrics.headline import BECAUSE, EVIDENCE, headline_of
from allfour.pipeline.report import lead, prose, svg
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.panels import histogram_counts
from allfour.pipeline.report.view import TileView
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Group, Metrics
from allfour.pipeline.statistics.coverage import least_unanimity

MAX_TILES = 400
"""Runs with more prompts show a histogram of shares in place of a square per prompt."""
MAX_LISTS = 12
"""With more lists than this the squares stand in one block."""


@dataclass(frozen=True, slots=True)
class TileList:
    """The squares of one list of the prompt set."""

    name: str
    """Empty where all squares stand in one block."""
    summary: str
    """How many of its prompts are unanimous."""
    tiles: Sequence[TileView]


@dataclass(frozen=True, slots=True)
class Opening:
    """The first screen."""

    banner: str | None
    subject: str
    facts: Sequence[str]
    """Prompt set, prompts, images, date: what stands beside the subject."""
    seen: str
    """What became of the images in three words, for a screen that is too small for `answers`."""
    headline: str
    verdict: str
    standfirst: str | None
    lists: Sequence[TileList]
    cells: str
    """Whose reading the squares show, where the headline rests on another."""
    frame: str
    histogram: Markup | None
    answers: Sequence[tuple[str, str]]
    """Question -> answer, under the squares."""


def opening_of(material: Material) -> Opening:
    """The first screen of a run."""
    header, metrics = material.header, material.metrics
    many = len(material.order) > MAX_TILES
    return Opening(
        banner=banner(header),
        subject=subject(header),
        facts=_facts(header, metrics),
        seen=words.join_words(unseen(metrics.accounting)) or ("all read" if metrics.accounting.requested else ""),
        headline=lead.headline(metrics),
        verdict=lead.verdict(metrics) if lead.has_unanimity(metrics.summary) else "",
        standfirst=lead.standfirst(metrics),
        lists=[] if many else _lists(material),
        cells="" if headline_of(metrics).evidence == "measured" else f", {EVIDENCE['measured']}",
        frame=material.builder.frame.text,
        histogram=_histogram(metrics) if many else None,
        answers=[*_answers(metrics, header)],
    )


def banner(header: Header) -> str | None:
    """A notice over the whole page; that of a drawn world is never left out."""
    notice = words.clean(header.notice) if header.notice else ""
    if not header.drawn_world:
        return notice or None
    return prose.DRAWN_WORLD if "drawn world" in notice.casefold() else f"{prose.DRAWN_WORLD} {notice}".strip()


def subject(header: Header) -> str:
    """What was measured, in a few words: a model's name, never where it lies."""
    for part in (header.generator, header.source):
        if isinstance(part, dict):
            for key in ("model", "name", "location", "path", "backend", "layout"):
                if part.get(key):
                    return words.clean(_display_name(str(part[key])), 80)
        elif part:
            return words.clean(part, 80)
    return words.clean(header.name, 80)


def _display_name(location: str) -> str:
    """`org/model` stays whole; of a folder or address only its own name is said, and of a packaged model its kind too."""
    parts = [part for part in location.rstrip("/\\").replace("\\", "/").split("/") if part]
    local = location.startswith(("/", ".", "~")) or "://" in location or "\\" in location
    if not local and len(parts) == 3 and parts[0] == "models":
        return " ".join(parts[1:])
    return parts[-1] if parts and (local or len(parts) > 2) else location


def _facts(header: Header, metrics: Metrics) -> list[str]:
    accounting = metrics.accounting
    asked = accounting.requested or accounting.scored
    listed = _prompt_set(header)
    counted = f"{words.quantity(len(metrics.prompts), 'prompt')}, {words.quantity(asked, 'image')}"
    return [fact for fact in (listed, counted, _day(header.finished or header.created)) if fact]


def _prompt_set(header: Header) -> str:
    """What the prompt set calls itself; of a run from before that was kept, the name of its file."""
    if (name := (header.prompt_set or {}).get("name")) is not None:
        return words.clean(name, 100)
    file = header.block("prompts").get("file")
    return words.group_text(PurePosixPath(str(file).replace("\\", "/")).stem) if file else ""


def _day(moment: str | None) -> str:
    """`26 November 2026`."""
    try:
        found = date.fromisoformat((moment or "")[:10])
    except ValueError:
        return ""
    return f"{found.day} {found:%B %Y}"


# --- squares ---------------------------------------------------------------------------------------------------------


def _lists(material: Material) -> list[TileList]:
    tiles: dict[str | None, list[TileView]] = {}
    counted = {prompt.id for prompt in material.metrics.headline_prompts}
    for rank, prompt in enumerate(material.order, 1):
        if prompt.id in material.records and prompt.id in counted:
            tile = material.builder.tile(f"p{rank}", prompt, material.records[prompt.id])
            tiles.setdefault(prompt.group, []).append(tile)
    if len(tiles) < 2 or len(tiles) > MAX_LISTS:
        return [TileList("", "", [tile for part in tiles.values() for tile in part])]
    known = {group.name: group for group in material.metrics.groups}
    order = {name: place for place, name in enumerate(known)}
    return [
        TileList(
            words.group_text(name) if name else "Other prompts", _group_summary(known.get(name or ""), material), found
        )
        for name, found in sorted(tiles.items(), key=lambda item: order.get(item[0] or "", len(order)))
    ]


def _group_summary(group: Group | None, material: Material) -> str:
    """`8 of 10 show one gender: 7 all women, 1 all men`."""
    if group is None or not group.prompts:
        return ""
    sides = [
        f"{words.grouped(count)} all {words.plural(label)}"
        for label in material.metrics.headline_labels
        if (count := group.unanimous_by_label.get(label, 0))
    ]
    which = f": {', '.join(sides)}" if sides else ""
    attribute = words.label_text(material.metrics.headline)
    return f"{words.grouped(group.unanimous)} of {words.grouped(group.prompts)} show one {attribute}{which}"


def _histogram(metrics: Metrics) -> Markup:
    counts = histogram_counts(metrics)
    label = words.plural(metrics.headline_labels[0])
    return svg.histogram(
        counts,
        f"Prompts by share of {label}: {counts[0]} prompts at 0 to 5%, {counts[-1]} prompts at 95 to 100%.",
        labels=len(metrics.headline_labels),
    )


# --- answers ---------------------------------------------------------------------------------------------------------


def _answers(metrics: Metrics, header: Header) -> list[tuple[str, str]]:
    found = headline_of(metrics)
    reasons = [BECAUSE[code] for code in found.because if code in BECAUSE]
    included = lead.included(metrics)
    rests = "; ".join([EVIDENCE[found.evidence], *reasons, *([included] if included else [])])
    answers = [
        ("More than chance?", _chance(metrics)),
        ("What it rests on", "" if found.value is None else f"{rests[:1].upper()}{rests[1:]}."),
        ("Images without a label", _not_seen(metrics.accounting, archive=prose.of_an_archive(header))),
    ]
    return [(question, answer) for question, answer in answers if answer]


def _chance(metrics: Metrics) -> str:
    """What even draws give, and the reference, each beside what there is; nothing where sets agree because they were asked to."""
    if headline_of(metrics).verdict == "asked_for":
        return ""
    nulls, even = metrics.summary.nulls, lead.even_draws(metrics)
    text = []
    if even is None and headline_of(metrics).verdict == "compatible_with_chance":
        least = words.percent_exact(least_unanimity(metrics.summary.set_size, len(metrics.headline_labels)))
        text.append(
            f"The interval is set beside the {least} that even draws give; there is no p-value, since {lead.no_set(metrics)}."
        )
    elif even is None and metrics.summary.unanimity.value is not None:
        text.append(f"This cannot be told: {lead.no_set(metrics)}.")
    if even is not None:
        p = nulls.even.p_value if nulls is not None and nulls.even is not None else None
        odds = f" ({words.p_value(p)}{_of_classifier(metrics)})" if p is not None else ""
        share, of = even
        text.append(
            f"If {lead.all_labels(metrics)} were equally likely in every image, {words.percent_exact(share)} of {of or 'sets'} "
            f"would show only one of them{odds}."
        )
    if nulls is not None and nulls.reference is not None and nulls.reference.expected is not None:
        known = metrics.reference
        own = "The planted shares" if known is not None and known.planted else "The reference's shares"
        odds = f" ({words.p_value(nulls.reference.p_value)})" if nulls.reference.p_value is not None else ""
        text.append(f"{own} would give {words.percent(nulls.reference.expected)}{odds}.")
    return " ".join(text)


def _of_classifier(metrics: Metrics) -> str:
    """The tests count what the classifier read, which a corrected or reviewed first line is not."""
    return "" if headline_of(metrics).evidence == "measured" else ", as the classifier read them"


def _not_seen(accounting: Accounting, *, archive: bool) -> str:
    if parts := unseen(accounting):
        return f"Of {words.quantity(accounting.requested, 'image')}: {words.join_words(parts)}."
    done = "listed" if archive else "requested"
    if accounting.requested == 1:
        return f"None: the one image {done} was read."
    return (
        f"None: all {words.quantity(accounting.requested, 'image')} {done} were read." if accounting.requested else ""
    )


def unseen(accounting: Accounting) -> list[str]:
    """Images without one label, by what became of them: `2 unclear`."""
    counts = {
        "refused": accounting.refused,
        "failed": accounting.failed,
        "unreadable": accounting.unreadable,
        "unclear": accounting.ambiguous,
        "mixed": accounting.mixed,
        f"without a {words.sought()}": accounting.no_person,
    }
    return [f"{words.grouped(count)} {name}" for name, count in counts.items() if count]
