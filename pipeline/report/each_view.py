"""The section on each prompt's own question: which are settled, by how many images, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.metrics.each_prompt import parse_question
from allfour.pipeline.metrics.stopping import SHARE
from allfour.pipeline.report import svg
from allfour.pipeline.report.each_prose import settled_text
from allfour.pipeline.report.material import Material
from allfour.pipeline.report.tables import read_images
from allfour.pipeline.report.thumbnails import make_thumbnails
from allfour.pipeline.report.view import ImageView
from allfour.pipeline.run.documents import ReportError
from allfour.pipeline.run.each import FOLDER, Each, EachPrompt
from allfour.pipeline.words import clean, interval_text, percent, plural, quantity

MAX_LINES = 240
PICTURED_PROMPTS, PICTURES = 40, 12
"""Prompts whose further images are shown, and so many of each."""
_UNSETTLED = {
    "most": "not settled",
    "out_of_reach": "not settled, nor by {up_to} images",
    "open": "open",
}


@dataclass(frozen=True, slots=True)
class EachLine:
    """One prompt."""

    text: str
    verdict: str
    images: str
    tally: str
    value: str
    interval: str
    figure: Markup | None


@dataclass(frozen=True, slots=True)
class Further:
    """A prompt's images beyond the run's own."""

    text: str
    images: Sequence[ImageView]
    number: int
    """Of all of them, shown or not."""


@dataclass(frozen=True, slots=True)
class EachView:
    """The whole section."""

    sentences: Sequence[str]
    label: str
    """Whose share is shown."""
    lines: Sequence[EachLine]
    hidden: int
    further: Sequence[Further]
    without_picture: str
    """Why some of the further images have no picture."""


def each_view(material: Material) -> EachView | None:
    """The section; None where no prompt was asked a question of its own."""
    metrics = material.metrics
    each = metrics.each
    if each is None or not each.prompts:
        return None
    figure = next(iter(each.prompts[0].figures), "")
    texts = {prompt.id: prompt.text for prompt in metrics.prompts}
    ordered = sorted(each.prompts, key=lambda prompt: _order(prompt, figure))
    thresholds = {
        term.threshold for way in parse_question(each.expression).ways for term in way if term.part != "width"
    }
    further, without_picture = _further(material, ordered, texts)
    return EachView(
        sentences=[
            each.because,
            f"The images beyond the first {quantity(_own(each), 'image')} of a prompt are in no other figure of this page: whether a prompt got them "
            "depends on what its first ones showed. Here that does no harm, since these limits hold whenever one looks.",
        ],
        label=plural(figure.removeprefix(SHARE)),
        lines=[_line(prompt, figure, each, texts, sorted(thresholds)) for prompt in ordered[:MAX_LINES]],
        hidden=max(0, len(ordered) - MAX_LINES),
        further=further,
        without_picture=without_picture,
    )


def _further(material: Material, ordered: Sequence[EachPrompt], texts: Mapping[str, str]) -> tuple[list[Further], str]:
    """The images beyond the run's of the first prompts of the table, and why some have no picture."""
    numbers = {prompt.id: prompt.more for prompt in ordered if prompt.more}
    chosen = list(numbers)[:PICTURED_PROMPTS]
    try:
        records = read_images(material.run_dir / FOLDER, chosen, PICTURES) if chosen else {}
    except ReportError:  # tables that were removed since: the figures stand in metrics.json
        return [], ""
    # their paths are, like those of the run's own images, relative to the run
    thumbnails = make_thumbnails(material.run_dir, [record for images in records.values() for record in images])
    found = []
    for prompt, images in records.items():
        text = clean(texts.get(prompt, prompt), 200)
        found.append(Further(text, material.builder.images(images, text, thumbnails), numbers[prompt]))
    return found, thumbnails.note or ""


def _own(each: Each) -> int:
    """Images of a prompt that are the run's own."""
    return max((prompt.images - prompt.more for prompt in each.prompts), default=0)


def _order(prompt: EachPrompt, figure: str) -> tuple[float, int, str]:
    found = prompt.figures.get(figure)
    return (-found.value if found is not None and found.value is not None else 1.0, -prompt.images, prompt.id)


def _line(
    prompt: EachPrompt, figure: str, each: Each, texts: Mapping[str, str], thresholds: Sequence[float]
) -> EachLine:
    found = prompt.figures.get(figure)
    known = found is not None and found.value is not None
    mark = svg.Mark(found.value, found.low, found.high) if found is not None and known else None
    verdict = settled_text(prompt, parse_question(each.expression)) or _UNSETTLED.get(
        prompt.state, "not settled"
    ).format(up_to=each.up_to)
    labelled = sum(prompt.counts.values())
    return EachLine(
        text=clean(texts.get(prompt.id, prompt.id), 200),
        verdict=verdict,
        images=str(prompt.images),
        tally=", ".join(
            f"{count} {plural(label) if count != 1 else label}" for label, count in prompt.counts.items() if count
        )
        + (f" of {labelled} counted" if labelled < prompt.images else ""),
        value=percent(found.value) if found is not None and known else "–",
        interval=interval_text(found.low, found.high) if found is not None else "–",
        figure=None if mark is None else svg.interval_row(mark, references=tuple(thresholds)),
    )
