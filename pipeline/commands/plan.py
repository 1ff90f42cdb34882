"""`allfour plan`: how many prompts and images a question needs, and what they cost, before any is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from allfour.errors import UsageError
from allfour.pipeline.run.documents import read_header, read_metrics
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.statistics import planning
from allfour.pipeline.words import grouped, percent, percent_exact, seconds_text


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What is to be known, and what is known of it."""

    unanimity: float = 0.6
    """Share of prompts whose set shows one label, as it is expected to be; a pilot's own where there is one."""
    against: float | None = None
    """Tell it from this unanimity, of a second run of the same prompts."""
    width: float | None = None
    """Widest interval of one run's unanimity that is wanted."""
    images: tuple[int, ...] = (4, 8, 16)
    """Images per prompt to weigh against prompts."""
    prompts: int = 20
    """Prompts that are at hand: what they give is said too."""
    set_size: int = 4
    power: float = 0.9
    confidence: float = 0.95
    sensitivity: float = 1.0
    specificity: float = 1.0
    turned: float = 0.01
    """Share of prompts that turn against the difference, by chance in four images."""
    price: float | None = None
    """Of an image."""
    seconds: float | None = None
    """Of making and reading an image."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One way to spend images."""

    images_per_prompt: int
    test: str
    """How the figure is compared, or that it is an interval."""
    prompts: int | None
    """Needed; None where even 4,000 are not enough."""
    images: int | None
    """Of all runs together."""
    cost: float | None
    seconds: float | None
    at_hand: float
    """Power or width that the prompts at hand give."""


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What `allfour plan` found."""

    question: PlanQuestion
    spread: planning.Population
    """Of prompts' shares, as it was taken."""
    pilot: str | None
    tell: Sequence[PlanRow] = field(default_factory=tuple)
    width: Sequence[PlanRow] = field(default_factory=tuple)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def plan_study(question: PlanQuestion, *, pilot: Path | None = None) -> StudyPlan:
    """Plan for a question.

    Parameters
    ----------
    pilot
        A run whose prompts, classifier's error, seconds and money are taken to be those of the study.

    Raises
    ------
    UsageError
        The question cannot be answered so, or the pilot says nothing of spread.
    """
    _check(question)
    try:
        if pilot is not None:
            question, spread = _from_pilot(question, pilot)
            reading = planning.Reading()  # a pilot's shares are as they are read
        else:
            spread = planning.Population.of_unanimity(question.unanimity, set_size=question.set_size)
            reading = planning.Reading(question.sensitivity, question.specificity)
        return StudyPlan(
            question,
            spread,
            str(pilot) if pilot else None,
            tell=_tell(question, spread, reading) if question.against is not None else (),
            width=_widths(question, spread, reading) if question.width is not None or question.against is None else (),
        )
    except ValueError as error:
        raise UsageError(f"plan: {error}") from None


def _check(question: PlanQuestion) -> None:
    least = 2.0 ** (1 - question.set_size)
    for name, value in (("--unanimity", question.unanimity), ("--against", question.against)):
        if value is not None and not least < value < 1:
            raise UsageError(
                f"{name} {value:g}: must lie between {percent(least, 1)} (what chance gives for sets of {question.set_size}) and 100%"
            )
    if question.against == question.unanimity:
        raise UsageError("--against: it equals --unanimity, and equal shares cannot be told apart. Give another share")
    for name, value in (("--power", question.power), ("--confidence", question.confidence)):
        if not 0.5 <= value < 1:
            raise UsageError(f"{name} {value:g}: must lie between 50% and 100%")
    if any(number < question.set_size for number in question.images):
        raise UsageError(f"--images: a set has {question.set_size} images, so a prompt needs as many or more")
    if question.width is not None and not 0 < question.width < 1:
        raise UsageError(f"--width {question.width:g}: must lie between 0 and 1")
    if question.sensitivity + question.specificity - 1 <= 0.05:
        raise UsageError(
            "--sensitivity and --specificity: together hardly more than 1, so the classifier tells nothing"
        )


def _tell(question: PlanQuestion, spread: planning.Population, reading: planning.Reading) -> list[PlanRow]:
    first, second = question.unanimity, question.against or 0.0
    level = 1 - question.confidence
    rows = []
    changes = {
        f"first sets of {question.set_size}, same prompts: McNemar": planning.nested(
            first, second, against=question.turned
        ),
        f"first sets of {question.set_size}, other prompts": planning.independent(first, second),
    }
    for test, change in changes.items():
        needed = planning.prompts_to_tell(change, power=question.power, level=level)
        at_hand = planning.mcnemar_power(change, prompts=question.prompts, level=level)
        rows.append(_row(question, question.set_size, test, needed, at_hand, runs=2))
    other = planning.shares_like(spread, second, set_size=question.set_size)
    for images in question.images:
        if images == question.set_size:  # one set: a value of 0 or 1, which the rows above test
            continue

        def power(prompts: int, images: int = images) -> float:
            return planning.paired_power(
                spread, other, prompts=prompts, images=images, set_size=question.set_size, reading=reading, level=level
            )

        needed = _fewest(power, question.power)
        test = "all sets, same prompts: paired t"
        rows.append(_row(question, images, test, needed, power(question.prompts), runs=2))
    return rows


def _widths(question: PlanQuestion, spread: planning.Population, reading: planning.Reading) -> list[PlanRow]:
    rows = []
    wanted = question.width or 0.2
    for figure in ("unanimity", "share"):
        for images in question.images:
            moments = planning.value_moments(
                spread, figure=figure, images=images, set_size=question.set_size, reading=reading
            )
            youden = (question.sensitivity + question.specificity - 1) if figure == "share" else 1.0
            needed = planning.prompts_for_width(moments, width=wanted, confidence=question.confidence, youden=youden)
            at_hand = planning.expected_width(
                moments, prompts=question.prompts, confidence=question.confidence, youden=youden
            )
            rows.append(_row(question, images, f"interval of {figure}", needed, at_hand, runs=1))
    return rows


def _row(
    question: PlanQuestion, per_prompt: int, test: str, prompts: int | None, at_hand: float, *, runs: int
) -> PlanRow:
    images = None if prompts is None else prompts * per_prompt * runs
    return PlanRow(
        images_per_prompt=per_prompt,
        test=test,
        prompts=prompts,
        images=images,
        cost=None if images is None or question.price is None else images * question.price,
        seconds=None if images is None or question.seconds is None else images * question.seconds,
        at_hand=at_hand,
    )


def _fewest(power: Any, wanted: float) -> int | None:
    """The fewest prompts with the power, which rises with them; None beyond 4,000."""
    low, high = 2, 4
    while power(high) < wanted:
        low, high = high, high * 2
        if high > 4_096:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


# --- a pilot ---------------------------------------------------------------------------------------------------------


def _from_pilot(question: PlanQuestion, pilot: Path) -> tuple[PlanQuestion, planning.Population]:
    """The question with what a pilot run says: its spread of prompts, its classifier's error, its seconds and money."""
    RunFolder(pilot).check_measured()
    metrics, header = read_metrics(pilot), read_header(pilot)
    label = metrics.headline_labels[0]
    counts = []
    for prompt in metrics.headline_prompts:
        labelled = sum(prompt.counts.get(name, 0) for name in metrics.headline_labels)
        counts.append([prompt.counts.get(label, 0), labelled - prompt.counts.get(label, 0)])
    spread = planning.Population.of_pilot(np.array(counts).reshape(-1, 2))
    unanimity = planning.value_moments(
        spread, figure="unanimity", images=question.set_size, set_size=question.set_size
    ).mean
    found: dict[str, Any] = {"unanimity": unanimity, "confidence": metrics.summary.confidence}
    quality = metrics.calibration.attributes.get(metrics.headline) if metrics.calibration else None
    if quality is not None and quality.accuracy is not None and quality.accuracy.value:
        found |= {"sensitivity": quality.accuracy.value, "specificity": quality.accuracy.value}
    if question.price is None and header.spent and header.spent.get("spent") and metrics.accounting.generated:
        more = metrics.each.more - metrics.each.missing if metrics.each else 0
        found["price"] = float(header.spent["spent"]) / (metrics.accounting.generated + more)
    taken = [header.stages[name].seconds for name in ("images", "scores") if name in header.stages]
    if question.seconds is None and all(taken) and metrics.accounting.requested:
        found["seconds"] = math.fsum(s for s in taken if s) / metrics.accounting.requested
    return replace(question, **found), spread


# --- in words --------------------------------------------------------------------------------------------------------


def plan_lines(plan: StudyPlan) -> list[str]:
    """What the command prints."""
    question = plan.question
    basis = f"as in the pilot {plan.pilot}" if plan.pilot else "as in an even population with that unanimity"
    lines = [
        f"Prompts differ {basis}: shares of one label follow Beta({plan.spread.a:.2f}, {plan.spread.b:.2f}); expected unanimity "
        f"{question.unanimity:.1%}."
    ]
    if plan.tell:
        lines += [
            "",
            f"To tell {percent_exact(question.unanimity)} from {percent_exact(question.against or 0.0)}, at the level {percent_exact(1 - question.confidence)}, with "
            f"power {percent_exact(question.power)}:",
            *_table(plan.tell, at_hand=f"power with {question.prompts}"),
        ]
    if plan.width:
        lines += [
            "",
            f"For an interval about {100 * (question.width or 0.2):.0f} points wide (about half of all runs get a wider one):",
            *_table(plan.width, at_hand=f"width with {question.prompts}"),
        ]
    if question.sensitivity + question.specificity < 2 and plan.width:
        lines += [
            "",
            "Shares are corrected for the classifier's errors, which widens them; unanimity is as it is read.",
        ]
    return lines


def _table(rows: Sequence[PlanRow], *, at_hand: str) -> list[str]:
    head = ["images per prompt", "prompts", "images in all", "money", "time", at_hand, "how"]
    body = [
        [
            str(row.images_per_prompt),
            "more than 4,000" if row.prompts is None else grouped(row.prompts),
            "–" if row.images is None else grouped(row.images),
            "–" if row.cost is None else f"{row.cost:,.2f}",
            seconds_text(row.seconds),
            percent(row.at_hand),
            row.test,
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head) - 1)]
    return [
        "  " + "  ".join([*(cell.rjust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]])
        for line in [head, *body]
    ]


def share_of_text(text: str) -> float:
    """`60%` or `0.6`. Raises UsageError."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{text!r}: write a share, such as 0.6 or 60%") from None
    if not 0 <= value <= 1:
        right = f"write {value:g}% or {value / 100:g}" if 0 < value <= 100 else "write a share, such as 0.6 or 60%"
        raise UsageError(f"{text!r}: a share lies between 0 and 1; {right}")
    return value
