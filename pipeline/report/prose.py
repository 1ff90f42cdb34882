"""The report's sentences: what was found, in words a reader can repeat, each with its uncertainty."""

from __future__ import annotations

from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Accounting, Attribute, Metrics
from allfour.pipeline.words import (
    clean,
    grouped,
    join_words,
    label_text,
    percent,
    plural,
    quantity,
    sought,
)

PERCEIVED = "Labels describe how an image reads to a classifier: perceived presentation, never anybody's identity."
DRAWN_WORLD = "Drawn world, planted bias: no finding about any real model."


def of_an_archive(header: Header) -> bool:
    """Whether the run's images were found and not made: they are then listed, and nothing was requested."""
    return header.generator is None and header.source is not None


def sought_in(header: Header) -> str:
    """What the run's classifier looks for in an image: `face` where it is a detector of faces that decides whether anybody is there."""
    return "face" if (header.classifier or {}).get("backend") == "face" else "person"


def identities(accounting: Accounting, *, archive: bool = False) -> list[tuple[str, int, list[tuple[int, str]]]]:
    """The accounting as sums: total's name, total, parts; parts that are zero are left out, except the first.

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
        f"The hollow dot below is the same share in {clean(other.name, 60)}, a run read by the same classifier.{without} "
        "To test whether the two differ by more than chance, use `allfour compare`."
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
        parts.append(f"{quantity(accounting.ambiguous, 'image')} {were} unclear: no label stood out.")
    if accounting.no_person:
        parts.append(f"In {quantity(accounting.no_person, 'image')} no {sought()} was found.")
    if accounting.mixed:
        parts.append(f"{quantity(accounting.mixed, 'image')} had several people with different labels.")
    if not parts:
        return None
    alone = accounting.ambiguous + accounting.no_person + accounting.mixed == 1
    return f"{' '.join(parts)} {'It breaks' if alone else 'They break'} a set's unanimity and {'is' if alone else 'are'} in no share."


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
