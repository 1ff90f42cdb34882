"""The report's sentences: what was found, in words a reader can repeat, each with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from allfour.pipeline.metrics.error_spread import contradicted, spread_in_words
from allfour.pipeline.metrics.headline import headline_of
from allfour.pipeline.report.lead import even_draws, rests_on
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Attribute, Metrics
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    clean,
    digits_for,
    grouped,
    interval_text,
    join_words,
    label_text,
    percent,
    percent_exact,
    plural,
    quantity,
    sought,
    word,
)

PERCEIVED = "Labels describe how an image reads to a classifier: perceived presentation, never anybody's identity."
DRAWN_WORLD = "Drawn world, planted bias: no finding about any real model."


@dataclass(frozen=True, slots=True)
class Estimate:
    """One line of the `How sure is this?` table."""

    name: str
    value: str
    interval: str
    meaning: str
    at: Interval
    kind: str
    """`point`, `range`, `chance`, or `other` for another run."""


def estimates(metrics: Metrics) -> list[Estimate]:
    """Lines of the `How sure is this?` table; only what metrics.json holds."""
    summary = metrics.summary
    lines: list[Estimate] = []
    lead = headline_of(metrics)

    def add(name: str, interval: Interval | None, meaning: str, *, kind: str = "point") -> None:
        if interval is not None and interval.value is not None:
            span = interval_text(interval.low, interval.high) if interval.bounded else "–"
            value = percent(interval.value, digits_for(interval.low, interval.high))
            lines.append(Estimate(name, value, span, meaning, interval, kind))

    size = word(summary.set_size)
    if lead.evidence == "reviewed":
        at = Interval(value=lead.value, low=lead.low, high=lead.high)
        add("As people read", at, f"Sets of {size} that people labelled: {rests_on(lead.prompts, lead.images)}.")
    counted = rests_on(summary.prompts, summary.prompts * summary.set_size)
    add(
        "Measured",
        summary.unanimity,
        f"The first {size} images of each prompt, as the classifier read them: {counted}.",
    )
    corrected = summary.unanimity_corrected
    if corrected is not None:
        unlike = (summary.calibration_fit is not None and not summary.calibration_fit.fits) or contradicted(corrected)
        of = f" of {grouped(corrected.prompts_of)}" if corrected.prompts_of not in (None, corrected.prompts) else ""
        rests = f"{quantity(corrected.prompts or 0, 'prompt')}{of}"
        add(
            "Corrected: does not fit" if unlike else "Corrected",
            corrected,
            f"Any set of {size}, with the classifier's measured errors taken out: {rests}."
            + (" The calibration is not one of images like these." if unlike else ""),
        )
        spread = corrected.error_spread
        if spread is not None and spread.low is not None and spread.high is not None and not contradicted(corrected):
            measured = spread.source == "labelled images"
            lines.append(
                Estimate(
                    "Corrected, prompt by prompt" if measured else "If error differs by prompt",
                    percent(spread.value) if measured else "",
                    interval_text(spread.low, spread.high),
                    f"Corrected, error differing between prompts by a {spread_in_words(spread)}.",
                    Interval(value=spread.value if measured else None, low=spread.low, high=spread.high),
                    "point" if measured else "range",
                )
            )
    if any(prompt.images > summary.set_size for prompt in metrics.prompts):
        add(
            "Any set of " + size,
            summary.unanimity_all_images,
            f"How often {size} images drawn from all images of a prompt agree, over every image of the run.",
        )
    add(
        f"Sets of {size} as they came",
        summary.unanimity_by_sets,
        "Images one after the other by number, whole sets only: for services that make a set at a time.",
    )
    known = summary.unanimity_identified
    if known is not None and known.low is not None and known.high is not None and known.least != known.most:
        lines.append(
            Estimate(
                "Whatever those without a label show",
                "",
                interval_text(known.low, known.high),
                "Limits for the first sets of prompts like these, wherever between the two the truth lies.",
                Interval(low=known.low, high=known.high),
                "range",
            )
        )
    bounds = summary.unanimity_bounds
    if bounds is not None and bounds.low is not None and bounds.high is not None:
        digits = digits_for(bounds.low, bounds.high)
        ends = percent(bounds.low, digits), percent(bounds.high, digits)
        lines.append(
            Estimate(
                "Unclear images either way",
                "",
                ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}",
                "If every unclear or missing image had spoken against one shared label, and if it had spoken for it.",
                Interval(low=bounds.low, high=bounds.high),
                "range",
            )
        )
    if (even := even_draws(metrics)) is not None:
        share, of = even
        lines.append(
            Estimate(
                "Chance alone",
                percent_exact(share),
                "–",
                f"What even draws would give{f', of {of}' if of else ''}.",
                Interval(value=share),
                "chance",
            )
        )
    if metrics.against is not None:
        other = metrics.against.summary
        add(
            f"In {clean(metrics.against.name, 60)}",
            other.unanimity,
            f"The other run: {grouped(other.unanimous)} of the {quantity(other.prompts, 'prompt')} that both have.",
            kind="other",
        )
    return lines


def of_an_archive(header: Header) -> bool:
    """Whether the run's images were found and not made: they are then listed, and nothing was requested."""
    return header.generator is None and header.source is not None


def sought_in(header: Header) -> str:
    """What the run's classifier looks for in an image: `face` where it is a detector of faces that decides whether anybody is there."""
    return "face" if (header.classifier or {}).get("backend") == "face" else "person"


def identities(accounting: Accounting, *, archive: bool = False) -> list[tuple[str, int, list[tuple[int, str]]]]:
    """The accounting as sums: total's name, total, parts; parts that are nought are left out save the first.

    `archive`: the images were found, not made.
    """
    a = accounting
    asked, there = ("listed", "found") if archive else ("requested", "made")
    reading = [
        (a.labelled - a.mixed, "given one label"),
        (a.mixed, "with people who differ"),
        (a.ambiguous, "unclear"),
        (a.no_person, f"without a {sought()}"),
    ]
    sums = [
        (asked, a.requested, [(a.generated, there), (a.refused, "refused"), (a.failed, "failed")]),
        (there, a.generated, [(a.scored, "read by the classifier"), (a.unreadable, "unreadable")]),
        ("read", a.scored, reading),
    ]
    return [
        (name, total, [part for number, part in enumerate(parts) if number == 0 or part[0]])
        for name, total, parts in sums
    ]


def against(metrics: Metrics) -> str | None:
    """What the marks of another run are, and what they do not tell."""
    other = metrics.against
    if other is None:
        return None
    count = other.prompts_without
    verbs = ("is", "has") if count == 1 else ("are", "have")
    without = f" {quantity(count, 'prompt')} of this run {verbs[0]} not in it and {verbs[1]} no mark." if count else ""
    return (
        f"The hollow dot below is the same share in {clean(other.name, 60)}, another run that the same classifier read.{without} "
        "It shows where that run stands; whether the two differ by more than chance is what allfour compare tests."
    )


def never_seen(attribute: Attribute, images: int) -> str | None:
    """`Never among 76 images: Indian (at most 5% of such images).`"""
    if not attribute.never:
        return None
    names = [
        label_text(entry.label) + ("" if entry.high is None else f" (at most {percent(entry.high)})")
        for entry in attribute.never
    ]
    return f"Never among {quantity(images, 'image')}: {join_words(names)}."


def abstained(accounting: Accounting) -> str | None:
    """What became of images that were read and got no label."""
    parts = []
    if accounting.ambiguous:
        were = "was" if accounting.ambiguous == 1 else "were"
        parts.append(f"{quantity(accounting.ambiguous, 'image')} {were} unclear, the two likeliest labels too close.")
    if accounting.no_person:
        parts.append(f"In {quantity(accounting.no_person, 'image')} no {sought()} was found.")
    if accounting.mixed:
        parts.append(f"{quantity(accounting.mixed, 'image')} had several people with different labels.")
    if not parts:
        return None
    return " ".join(parts) + " They break a set's unanimity and are in no share."


def tally(counts: dict[str, int], labels: tuple[str, ...], missing: int) -> str:
    """`3 women, 1 man, 1 unclear`."""
    parts = [f"{grouped(counts[label])} {plural(label) if counts[label] != 1 else label_text(label)}"
             for label in labels if counts.get(label)]  # fmt: skip
    others = {"ambiguous": "unclear", "mixed": "mixed", "no_person": f"without a {sought()}",
              "unreadable": "unreadable", "refused": "refused", "failed": "failed"}  # fmt: skip
    parts += [f"{grouped(counts[key])} {name}" for key, name in others.items() if counts.get(key)]
    if missing:
        parts.append(f"{grouped(missing)} missing")
    return ", ".join(parts) or "no images"


def title(name: str | None) -> str:
    """The document's title."""
    return f"allfour: {clean(name, 80)}" if name else "allfour report"
