"""The report's sentences: what was found, in words a reader can repeat, each with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Attribute, Metrics, Summary
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    all_of,
    clean,
    digits_for,
    grouped,
    interval_text,
    join_words,
    label_text,
    level,
    odds,
    p_value,
    percent,
    percent_exact,
    plural,
    quantity,
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


def headline(metrics: Metrics) -> str:
    """`For 17 of 20 prompts, all four images show one perceived gender.`"""
    summary = metrics.summary
    attribute = label_text(metrics.headline)
    whole = all_of(summary.set_size)
    if not summary.prompts:
        return f"No prompt has {word(summary.set_size)} images, so nothing can be said about {whole} at once."
    if not told(summary):
        return f"No image of {quantity(summary.prompts, 'prompt')} could be read, so nothing can be said about {whole} at once."
    part = f"For {grouped(summary.unanimous)} of {quantity(summary.prompts, 'prompt')}"
    return f"{part}, {whole} images show one perceived {attribute}."


def told(summary: Summary) -> bool:
    """Whether unanimity has a value: it has none where no set is whole, or no image of a set was scored."""
    return summary.unanimity is not None and summary.unanimity.value is not None


def standfirst(metrics: Metrics) -> str | None:
    """The sentence under the headline: share and interval in plain words."""
    unanimity = metrics.summary.unanimity
    if unanimity is None or unanimity.value is None:
        return None
    which = sides(metrics)
    digits = digits_for(unanimity.low, unanimity.high)
    text = f"That is {percent(unanimity.value, digits)} of prompts{': ' + which if which else ''}."
    if unanimity.bounded:
        few = "With so few prompts" if metrics.summary.prompts < 30 else "With this many prompts"
        text += (
            f" {few}, the share to expect from other prompts like these lies between "
            f"{percent(unanimity.low, digits)} and {percent(unanimity.high, digits)} ({level(metrics.summary.confidence)} interval)."
        )
    return text


def sides(metrics: Metrics) -> str | None:
    """Which way the unanimous prompts go: `9 all women, 8 all men`."""
    tally = dict.fromkeys(metrics.headline_labels, 0)
    for prompt in metrics.prompts:
        if prompt.unanimous in tally:
            tally[prompt.unanimous] += 1
    if not any(tally.values()):
        return None
    return join_words(f"{grouped(count)} all {plural(label)}" for label, count in tally.items() if count)


def chance(summary: Summary, labels: tuple[str, ...]) -> str | None:
    """What coin tosses would give, and how surprising the finding is beside that."""
    null = summary.unanimity_null
    if null is None or null.expected is None:
        return None
    expected = null.expected * summary.prompts
    count = f"{expected:.1f}" if expected < 10 else grouped(expected)
    names = " and ".join(plural(label) for label in labels[:2]) if len(labels) == 2 else f"{len(labels)} labels"
    text = (
        f"If every image with a label fell to {names} by an even draw, {percent_exact(null.expected)} of prompts would come out "
        f"this way, {count} of {grouped(summary.prompts)}."
    )
    if null.p_value is not None and summary.prompts:
        text += f" So many or more by chance: {odds(null.p_value)} ({p_value(null.p_value)})."
    return text


def corrected(metrics: Metrics) -> str:
    """The corrected value and what it rests on, or what its absence means."""
    value = metrics.summary.unanimity_corrected
    if value is None or value.value is None:
        if not told(metrics.summary):
            return "There is no share to correct for the classifier's errors."
        if metrics.calibration is not None:
            return "Not corrected: the calibration's error rates cannot correct this run, see the notes below."
        return (
            "Not corrected for the classifier's errors: no calibration was given. A misread image can break a set that "
            "was all of one kind, or complete one that was not, so read the share as what the classifier saw."
        )
    interval = f" ({interval_text(value.low, value.high)})" if value.bounded else ""
    text = f"Corrected for the classifier's measured errors: {percent(value.value)}{interval}."
    note = metrics.calibration
    if note is not None and note.binding == "published":
        text += " The error rates are published ones, taken on other images: a guide, no measurement on these."
    return text


def estimates(metrics: Metrics) -> list[Estimate]:
    """Lines of the `How sure is this?` table; only what metrics.json holds."""
    summary = metrics.summary
    lines: list[Estimate] = []

    def add(name: str, interval: Interval | None, meaning: str, *, kind: str = "point") -> None:
        if interval is not None and interval.value is not None:
            span = interval_text(interval.low, interval.high) if interval.bounded else "–"
            value = percent(interval.value, digits_for(interval.low, interval.high))
            lines.append(Estimate(name, value, span, meaning, interval, kind))

    size = word(summary.set_size)
    add("Measured", summary.unanimity, f"The first {size} images of each prompt, as the classifier read them.")
    add(
        "Corrected", summary.unanimity_corrected, f"Any set of {size}, with the classifier's measured errors taken out."
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
    if summary.unanimity_null is not None and summary.unanimity_null.expected is not None:
        expected = summary.unanimity_null.expected
        lines.append(
            Estimate(
                "Chance alone",
                percent_exact(expected),
                "–",
                "What even draws would give, for sets with the same gaps.",
                Interval(value=expected),
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
        (a.no_person, "without a person"),
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
        parts.append(f"In {quantity(accounting.no_person, 'image')} no person was found.")
    if accounting.mixed:
        parts.append(f"{quantity(accounting.mixed, 'image')} had several people with different labels.")
    if not parts:
        return None
    return " ".join(parts) + " They break a set's unanimity and are in no share."


def tally(counts: dict[str, int], labels: tuple[str, ...], missing: int) -> str:
    """`3 women, 1 man, 1 unclear`."""
    parts = [f"{grouped(counts[label])} {plural(label) if counts[label] != 1 else label_text(label)}"
             for label in labels if counts.get(label)]  # fmt: skip
    others = {"ambiguous": "unclear", "mixed": "with several people who differ", "no_person": "without a person",
              "unreadable": "unreadable", "refused": "refused", "failed": "failed"}  # fmt: skip
    parts += [f"{grouped(counts[key])} {name}" for key, name in others.items() if counts.get(key)]
    if missing:
        parts.append(f"{grouped(missing)} missing")
    return ", ".join(parts) or "no images"


def title(name: str | None) -> str:
    """The document's title."""
    return f"allfour: {clean(name, 80)}" if name else "allfour report"
