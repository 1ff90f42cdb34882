"""The section on each prompt's own question: which are settled, by how many images, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.metrics.each_prompt import parse_question
from allfour.pipeline.metrics.stopping import SHARE, StopRule, Term
from allfour.pipeline.report import svg
from allfour.pipeline.run.each import Each, EachPrompt
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import clean, interval_text, join_words, percent, plural, quantity

MAX_LINES = 240
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
class EachView:
    """The whole section."""

    sentences: Sequence[str]
    label: str
    """Whose share is shown."""
    lines: Sequence[EachLine]
    hidden: int


def each_view(metrics: Metrics) -> EachView | None:
    """The section; None where no prompt was asked a question of its own."""
    each = metrics.each
    if each is None or not each.prompts:
        return None
    figure = next(iter(each.prompts[0].figures), "")
    texts = {prompt.id: prompt.text for prompt in metrics.prompts}
    ordered = sorted(each.prompts, key=lambda prompt: _order(prompt, figure))
    thresholds = {
        term.threshold for way in parse_question(each.expression).ways for term in way if term.part != "width"
    }
    return EachView(
        sentences=[
            each.because,
            f"The images beyond the first {quantity(_own(each), 'image')} of a prompt are in no other figure of this page: whether a prompt got them "
            "depends on what its first ones showed. Here that does no harm, since these limits hold whenever one looks.",
        ],
        label=plural(figure.removeprefix(SHARE)),
        lines=[_line(prompt, figure, each, texts, sorted(thresholds)) for prompt in ordered[:MAX_LINES]],
        hidden=max(0, len(ordered) - MAX_LINES),
    )


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
    verdict = _settled(prompt, parse_question(each.expression)) or _UNSETTLED.get(prompt.state, "not settled").format(
        up_to=each.up_to
    )
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


def _settled(prompt: EachPrompt, rule: StopRule) -> str | None:
    """What is settled, in words: `more than 50% women`; None where nothing is."""
    way = next(
        (way for way in rule.ways if prompt.settled and all(term.holds(prompt.figures[term.figure]) for term in way)),
        None,
    )
    return None if way is None else join_words(_in_words(term) for term in way)


def _in_words(term: Term) -> str:
    who, line = plural(term.figure.removeprefix(SHARE)), percent(term.threshold)
    if term.part == "width":
        return f"share of {who} known to {round(100 * term.threshold)} points"
    return f"{'more' if term.part == 'low' else 'fewer'} than {line} {who}"


def each_note(each: Each | None, prompt_id: str) -> str | None:
    """What the row of a prompt says of it, where it has images beyond the run's; None where it has none."""
    found = next((p for p in each.prompts if p.id == prompt_id), None) if each is not None else None
    if each is None or found is None or not found.more:
        return None
    figures = ", ".join(
        f"{percent(at.value)} {plural(name.removeprefix(SHARE))} ({interval_text(at.low, at.high)} at every look)"
        for name, at in list(found.figures.items())[:1]
    )
    return f"with {quantity(found.more, 'image')} more that are in no other figure: {figures}, {_settled(found, parse_question(each.expression)) or 'not settled'}"
