"""The section on what people said of a sample (`allfour review`): agreement, and figures that need no trust in the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from allfour.pipeline.report import svg
from allfour.pipeline.run.metrics import Agreement, Metrics, Powered, ReviewSample
from allfour.pipeline.run.record import Estimate, Interval
from allfour.pipeline.words import (
    clean,
    group_text,
    grouped,
    interval_text,
    label_text,
    level,
    percent,
    plural,
    quantity,
)

MAX_GROUPS = 24
"""Prompt groups listed one by one."""


@dataclass(frozen=True, slots=True)
class PoweredLine:
    """One figure, as the classifier has it and as people corrected it."""

    name: str
    meaning: str
    classifier: str
    value: str
    this_run: str
    prompts_like_these: str
    figure: Markup


@dataclass(frozen=True, slots=True)
class AgreementLine:
    """Agreement on the prompts of one group."""

    name: str
    images: str
    agreement: str
    kappa: str
    figure: Markup


@dataclass(frozen=True, slots=True)
class SampleView:
    """One sample."""

    caption: str
    sentence: str
    note: str
    level: str
    """Confidence of the intervals, such as `95%`."""
    lines: Sequence[PoweredLine]
    groups: Sequence[AgreementLine]
    hidden: int
    """Groups that are not listed."""


@dataclass(frozen=True, slots=True)
class ReviewedView:
    """The whole section."""

    samples: Sequence[SampleView]
    outdated: str


def reviewed_view(metrics: Metrics) -> ReviewedView | None:
    """The section of a run; None where nobody's labels were imported."""
    found = metrics.review
    if found is None or not (found.samples or found.outdated):
        return None
    outdated = ""
    if found.outdated:
        outdated = (
            f"{quantity(found.outdated, 'sample')} of earlier scores {'is' if found.outdated == 1 else 'are'} left out: "
            "the images were scored again since, so a new sample must be drawn."
        )
    return ReviewedView([_sample(sample) for sample in found.samples], outdated)


def _sample(sample: ReviewSample) -> SampleView:
    listed = [(name, found) for name, found in sample.by_group.items() if found.images]
    return SampleView(
        caption="A sample of whole sets" if sample.unit == "set" else "A sample of images",
        sentence=_sentence(sample),
        note=_note(sample.note),
        level=level(sample.confidence),
        lines=_lines(sample),
        groups=[_group(name, found) for name, found in listed[:MAX_GROUPS]],
        hidden=max(len(listed) - MAX_GROUPS, 0),
    )


def _sentence(sample: ReviewSample) -> str:
    who = quantity(len(sample.raters), "person", "people")
    text = f"{who} labelled {grouped(sample.labelled)} of {quantity(sample.sampled, 'sampled image')} by perceived {label_text(sample.attribute)}"
    found = sample.agreement
    if found is None or not _known(found.agreement):
        return f"{text}."
    return f"{text}; they and the classifier agree on {_with_interval(found.agreement)} of the run's images, {_kappa_words(found)}.{_between(sample)}"


def _kappa_words(found: Agreement) -> str:
    if not _known(found.kappa):
        return "and these labels are too few or too alike for Cohen's kappa"
    return f"with Cohen's kappa {_kappa(found.kappa)}"


def _between(sample: ReviewSample) -> str:
    """How far people agree with each other, where two or more labelled the same images."""
    values = [
        pair.agreement.value
        for pair in sample.between_raters
        if pair.images and pair.agreement is not None and pair.agreement.value is not None
    ]
    if not values:
        return ""
    if len(values) == 1:
        return f" The two of them agree with each other on {percent(values[0])} of the images that both labelled."
    return f" Any two of them agree with each other on {percent(min(values))} to {percent(max(values))} of the images that both labelled."


def _note(note: str | None) -> str:
    text = clean(note, 300).strip() if note else ""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _lines(sample: ReviewSample) -> list[PoweredLine]:
    shares = sample.shares or {}
    labels = sample.labels or [*shares]
    # of two labels, one share says both
    lines = [
        _line(f"{plural(label).capitalize()}", "Share of images with a label.", shares.get(label))
        for label in labels[: 1 if len(labels) == 2 else len(labels)]
    ]
    unanimity = sample.unanimity
    if unanimity is not None:
        lines.append(_line("One label in the whole set", "Share of sets.", unanimity))
        lines += [
            _line(f"All {plural(label)}", "Share of sets.", unanimity.by_label.get(label)) for label in labels
        ]  # fmt: skip
    return [line for line in lines if line is not None]


def _line(name: str, meaning: str, at: Powered | None) -> PoweredLine | None:
    if at is None or at.this_run is None or at.this_run.value is None:
        return None
    here, like = at.this_run, at.prompts_like_these or Interval()
    settled = here.low is not None and here.high is not None and here.high - here.low < 1e-9
    second = None if at.classifier is None else svg.Mark(at.classifier, None, None)
    return PoweredLine(
        name,
        meaning,
        percent(at.classifier, 1),
        percent(here.value, 1),
        "fully labelled" if settled else _bounds(here),
        _bounds(like),
        svg.interval_row(svg.Mark(here.value, like.low, like.high), second=second),
    )


def _group(name: str, found: Agreement) -> AgreementLine:
    at = found.agreement or Interval()
    return AgreementLine(
        group_text(name),
        grouped(found.images),
        _with_interval(at) if _known(at) else "–",
        _kappa(found.kappa) if _known(found.kappa) else "–",
        Markup("") if at.value is None else svg.interval_row(svg.Mark(at.value, at.low, at.high)),
    )


def _known(at: Interval | Estimate | None) -> bool:
    return at is not None and at.known


def _bounds(at: Interval) -> str:
    return interval_text(at.low, at.high) if at.bounded else "–"


def _with_interval(at: Interval | None) -> str:
    return "–" if at is None else f"{percent(at.value)} ({_bounds(at)})"


def _kappa(at: Estimate | None) -> str:
    if at is None or at.value is None:
        return "–"
    return (
        f"{at.value:.2f} ({at.low:.2f} to {at.high:.2f})"
        if at.low is not None and at.high is not None
        else f"{at.value:.2f}"
    )
