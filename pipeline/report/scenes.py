"""The section on group scenes: who is together in one image, with the people that were found framed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
from markupsafe import Markup

from allfour.pipeline.report import svg
from allfour.pipeline.report.tables import ImageRecord, Key
from allfour.pipeline.report.thumbnails import Thumbnail, make_thumbnails
from allfour.pipeline.report.view import kinds_by_label
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.metrics import GroupScenes, Metrics, Persons, Scenes
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import (
    clean,
    grouped,
    interval_text,
    join_words,
    label_text,
    percent,
    plural,
    quantity,
)

MAX_PROMPTS = 24
"""Prompts listed one by one."""
IMAGES_PER_PROMPT = 6

HOW_TO_COUNT = "classifier.people.detector: centerface"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was found."""

    box: tuple[int, int, int, int] | None
    """None where a reader named people and not their places."""
    decision: str


@dataclass(frozen=True, slots=True)
class SceneImage:
    """One picture of the strip."""

    thumbnail: Thumbnail
    frames: Markup | None
    caption: str
    name: str
    """For screen readers."""


@dataclass(frozen=True, slots=True)
class SceneLine:
    """One line of a table of figures."""

    name: str
    meaning: str
    value: str
    interval: str
    figure: Markup


@dataclass(frozen=True, slots=True)
class SceneTable:
    """Figures over several prompts."""

    caption: str
    sentence: str
    lines: Sequence[SceneLine]


@dataclass(frozen=True, slots=True)
class SceneRow:
    """One prompt."""

    text: str
    lines: Sequence[str]
    images: Sequence[SceneImage]


@dataclass(frozen=True, slots=True)
class ScenesView:
    """The whole section."""

    intro: str
    tables: Sequence[SceneTable]
    rows: Sequence[SceneRow]
    hidden: int
    """Prompts that are not listed."""


def scenes_view(run_dir: Path, metrics: Metrics) -> ScenesView | None:
    """The section of a run; None where no prompt asks for several people and no image shows them."""
    found = metrics.group_scenes
    if found is None:
        return None
    labels = metrics.labels.get(found.attribute) or [*metrics.headline_labels]
    listed = sorted(found.prompts, key=lambda scene: not scene.asked)[:MAX_PROMPTS]
    people = _people(run_dir, found, [scene.id for scene in listed])
    images = _images(run_dir, found, listed, people)
    texts = {prompt.id: prompt.text for prompt in metrics.prompts}
    counts = {prompt.id: prompt.counts for prompt in metrics.prompts}
    thumbnails = make_thumbnails(run_dir, [record for records in images.values() for record in records])
    kinds = kinds_by_label(labels)
    rows = []
    for scene in listed:
        name = clean(texts.get(scene.id) or scene.id, 200)
        strip = [
            _image(record, thumbnails[record.key], people.get(record.key, ()), name, kinds=kinds, labels=labels)
            for record in images[scene.id]
            if record.key in thumbnails
        ]
        rows.append(SceneRow(name, _lines(scene, labels, counts.get(scene.id, {})), strip))
    tables = [
        _table(caption, part, found, labels)
        for caption, part in (("Prompts that ask for several people", found.asked), ("Other prompts", found.other))
        if part is not None and part.counted
    ]
    return ScenesView(_intro(found), tables, rows, len(found.prompts) - len(listed))


def _intro(found: GroupScenes) -> str:
    if found.detector is None:
        asked = found.asked.prompts if found.asked is not None else 0
        return (
            f"{quantity(asked, 'prompt')} {'asks' if asked == 1 else 'ask'} for several people. How many their images show is not known: "
            "no detector was configured, and the label of an image is of the whole of it, even where the people in it differ. "
            f"To count people and read each of them, score again with {HOW_TO_COUNT}."
        )
    return (
        f"People were found by {clean(found.detector, 120)}. An image in which two or more were found is read person by person; it is "
        "given a label if all of them share it, and is mixed if two differ. People who were missed, such as those seen from the "
        "side or far away, are not counted here."
    )


def _found_sentence(scene: Scenes) -> str:
    counted = scene.counted or 0
    parts = [f"Several people in {grouped(counted)} of {quantity(scene.images, 'image')}"]
    few = scene.one_person + scene.nobody
    if few:
        parts.append(
            f"one in {grouped(scene.one_person)} and nobody in {grouped(scene.nobody)}, which are read as a whole"
        )
    return "; ".join(parts) + "." + _persons_sentence(scene.persons)


def _persons_sentence(persons: Persons | None) -> str:
    if persons is None or persons.median is None:
        return ""
    spread = (
        f", from {persons.least} to {persons.most}"
        if persons.least is not None and persons.least != persons.most
        else ""
    )
    return f" {persons.median:g} people in the median image{spread}."


def _table(caption: str, scene: Scenes, found: GroupScenes, labels: Sequence[str]) -> SceneTable:
    even = 1 / len(labels)
    unclear = scene.counts.get(AMBIGUOUS, 0)
    aside = f" {quantity(unclear, 'image')} with somebody unclear left out." if unclear else ""
    lines = [
        _line(
            f"Only {plural(label)}",
            "Share of images in which everybody has this label.",
            scene.share.get(label),
        )
        for label in labels
    ]
    lines.append(_line("Mixed", f"Share of images in which two people differ.{aside}", scene.share.get(MIXED)))
    lines.append(
        _line(
            "Two people in an image differ",
            "Diversity within an image: how often two of its people, taken at random, have different labels. The short line marks equally likely labels.",
            scene.diversity,
            found.even_diversity,
        )
    )
    lines += [
        _line(f"{plural(label).capitalize()} among the people", "Their share of the people in an image, on average.", scene.people_share.get(label), even)
        for label in labels[: 1 if len(labels) == 2 else len(labels)]
    ]  # fmt: skip
    prompts = quantity(scene.prompts, "prompt")
    sentence = f"{prompts}. {_found_sentence(scene)} Every prompt weighs the same; intervals are over prompts."
    return SceneTable(caption, sentence, [line for line in lines if line is not None])


def _line(name: str, meaning: str, at: Interval | None, reference: float | None = None) -> SceneLine | None:
    if at is None or at.value is None:
        return None
    figure = svg.interval_row(svg.Mark(at.value, at.low, at.high), references=() if reference is None else (reference,))
    return SceneLine(name, meaning, percent(at.value), interval_text(at.low, at.high) if at.bounded else "–", figure)


def _lines(scene: Scenes, labels: Sequence[str], counts: dict[str, int]) -> list[str]:
    """What is said of one prompt."""
    if scene.counted is None:
        parts = [f"{grouped(count)} {_whole(key, count)}" for key, count in scene.read_whole.items() if count]
        return [f"Read as a whole: {', '.join(parts) or 'no image'}. How many people they show is not known."]
    text = [_found_sentence(scene)]
    if scene.counted:
        keys = {**{label: f"of {plural(label)} only" for label in labels}, MIXED: "mixed", AMBIGUOUS: "unclear"}
        text.append("Images: " + ", ".join(f"{grouped(scene.counts.get(k, 0))} {v}" for k, v in keys.items() if scene.counts.get(k)) + ".")  # fmt: skip
        text.append(f"People: {_people_text(scene.people, labels)}.")
    if scene.diversity is not None and scene.diversity.value is not None:
        at = scene.diversity
        text.append(f"Two people in an image differ: {percent(at.value)} ({interval_text(at.low, at.high)}).")
    missing = sum(counts.get(key, 0) for key in ("refused", "failed", "unreadable"))
    return text + ([f"{quantity(missing, 'image')} missing or unreadable."] if missing else [])


def _whole(key: str, count: int) -> str:
    return label_text(key) if count == 1 else plural(key)


def _people_text(people: dict[str, int], labels: Sequence[str]) -> str:
    parts = [f"{grouped(people[label])} {_whole(label, people[label])}" for label in labels if people.get(label)]
    if people.get(AMBIGUOUS):
        parts.append(f"{grouped(people[AMBIGUOUS])} unclear")
    return join_words(parts) or "nobody"


# --- pictures --------------------------------------------------------------------------------------------------------


def _people(run_dir: Path, found: GroupScenes, prompt_ids: Sequence[str]) -> dict[Key, list[Person]]:
    """Who was found in the first images of each prompt in which somebody was."""
    if found.detector is None:
        return {}
    scores = ds.dataset(run_dir / "scores.parquet", format="parquet")
    chosen = pc.field("prompt_id").isin(prompt_ids) & (pc.field("attribute") == found.attribute)
    somebody = ~pc.field("decision").isin([NO_PERSON, UNREADABLE])  # those who were named and not located have no box
    people: dict[Key, list[Person]] = defaultdict(list)
    several: dict[str, int] = defaultdict(int)
    for batch in scores.to_batches(columns=["prompt_id", "index", "decision", "box"], filter=chosen & somebody):
        for row in batch.to_pylist():
            key = row["prompt_id"], row["index"]
            if several[row["prompt_id"]] > IMAGES_PER_PROMPT and key not in people:
                continue
            people[key].append(Person(tuple(row["box"]) if row["box"] else None, row["decision"]))
            several[row["prompt_id"]] += len(people[key]) == 2
    return people


def _images(
    run_dir: Path, found: GroupScenes, listed: Sequence[Scenes], people: dict[Key, list[Person]]
) -> dict[str, list[ImageRecord]]:
    """The pictures of each prompt: those with several people, or the first ones where nobody was counted."""
    images = ds.dataset(run_dir / "images.parquet", format="parquet")
    columns = ["prompt_id", "prompt", "index", "status", "path", "width", "height"]
    result: dict[str, list[ImageRecord]] = {}
    for scene in listed:
        mine = pc.field("prompt_id") == scene.id
        if found.detector is not None:
            indexes = sorted(index for (id_, index), those in people.items() if id_ == scene.id and len(those) >= 2)
            mine &= pc.field("index").isin(indexes[:IMAGES_PER_PROMPT])
        rows = images.head(IMAGES_PER_PROMPT, columns=columns, filter=mine).to_pylist()
        result[scene.id] = [ImageRecord(**row) for row in rows]
    return result


def _image(
    record: ImageRecord,
    thumbnail: Thumbnail,
    people: Sequence[Person],
    prompt: str,
    *,
    kinds: dict[str, str],
    labels: Sequence[str],
) -> SceneImage:
    counts = {label: sum(person.decision == label for person in people) for label in (*labels, AMBIGUOUS)}
    caption = _people_text(counts, labels) if people else f"image {record.index}"
    name = (
        f"{caption}, image {record.index} for {clean(prompt, 120)}" if people else f"{caption} for {clean(prompt, 120)}"
    )
    return SceneImage(thumbnail, _frames(record, people, kinds), caption, name)


def _frames(record: ImageRecord, people: Sequence[Person], kinds: dict[str, str]) -> Markup | None:
    """A frame around everybody, in the colour of the label, to be laid over the picture."""
    located = [(person, person.box) for person in people if person.box is not None]
    if not located or not record.width or not record.height:
        return None
    shapes = []
    for person, box in located:  # who is cut off by the edge may have been framed beyond it
        left, top = (
            min(max(edge, 0), side - 1) for edge, side in zip(box[:2], (record.width, record.height), strict=True)
        )
        right, bottom = min(box[2], record.width), min(box[3], record.height)
        place = {"x": left, "y": top, "width": max(right - left, 1), "height": max(bottom - top, 1)}
        shapes.append(svg.el("rect", class_="halo", **place))
        shapes.append(svg.el("rect", class_=f"s-{kinds.get(person.decision, 'u')}", **place))
    whole = f"0 0 {record.width} {record.height}"
    return svg.el("svg", *shapes, class_="frames", viewBox=whole, preserveAspectRatio="none", aria_hidden="true")
