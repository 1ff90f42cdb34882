"""Settings in which the plain figures mislead: what the first line said before, and what it says now.

Every audit goes through `compute_metrics`, so that what is checked is the tool's own choice of evidence, its limits and its notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.error_spread import Labelled
from allfour.pipeline.metrics.tallies import Copies, PromptTally, Tallies
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.statistics import wilson
from allfour.pipeline.statistics.arrays import FloatArray, IntArray

LABELS = ("woman", "man")
DECISIONS = (*LABELS, "ambiguous", "no_person")
PROMPTS = 40
ADULTS = np.array([[0.04, 0.03, 0.84, 0.05, 0.04], [0.02, 0.05, 0.02, 0.87, 0.04]])
"""Decisions with a small and with a large lead, and none, by true label: about nine in ten right, one in 25 unclear."""
CHILDREN = np.array([[0.13, 0.17, 0.35, 0.15, 0.20], [0.10, 0.18, 0.08, 0.45, 0.19]])
"""The planted age-dependent error: read less surely, more often wrong, unclear in one image of five."""
GROWN = np.array([[0.04, 0.03, 0.03, 0.02, 0.81, 0.03, 0.04], [0.02, 0.05, 0.02, 0.04, 0.02, 0.81, 0.04]])
YOUNG = np.array([[0.12, 0.17, 0.11, 0.06, 0.24, 0.10, 0.20], [0.10, 0.17, 0.05, 0.17, 0.04, 0.28, 0.19]])
"""The same with a middle lead too, which it takes to tell a mix of the two apart from what is neither."""


DIFFERING = (
    "classifier", "calibration_unlike_run", "labels_contradict_calibration", "error_spread_open", "error_may_differ_by_prompt",
    "error_spread_measured",
)  # fmt: skip
"""What the first screen says where errors differ by prompt: parts of its limits, and reasons."""


@dataclass(frozen=True)
class Row:
    """One setting."""

    name: str
    images: int
    audits: int
    truth: float
    covered_before: float
    """By the interval of what was measured, or of what was corrected, before either was checked."""
    covered: float
    """By the headline."""
    caused: float
    """Share of audits whose first screen names the cause."""
    led_by: str
    """Evidence that led most often."""


def rows(audits: int, random: np.random.Generator) -> Iterator[Row]:
    """Every setting; those that can be run by themselves last."""
    alone = settings(audits, random)
    for images in (4, 16):
        for kind in ("leaning prompts unclear", "minority looks unclear", "no person where one is unsure"):
            yield _abstaining(kind, images, audits, random)
    yield _row("matched calibration", 16, audits * 20 // 3, random, rates=ADULTS)  # 1,000 of 150: what must not be lost
    yield _row("adults, then children", 16, audits, random, rates=CHILDREN, cause="calibration_unlike_run")
    for row in alone:
        yield row()


def settings(audits: int, random: np.random.Generator) -> list[Callable[[], Row]]:
    """Every further setting, with random numbers of its own that take none from the others."""
    differs, measured_there = "error_may_differ_by_prompt", "error_spread_measured"
    found: list[tuple[str, int, int, dict[str, Any]]] = [
        (
            "adults and children, then children", 16, audits,
            {"rates": YOUNG, "groups": (GROWN, YOUNG), "cause": "calibration_reweighted"},
        )
    ]  # fmt: skip
    found += [
        (f"error differs by prompt, sd {spread}", 16, audits, {"spread": spread, "cause": differs})
        for spread in (0.6, 1.0)
    ]
    cue = {"spread": 0.6, "cue": True, "prompts": 100, "cause": differs}
    found.append(("error follows a stereotype cue", 16, audits, cue))
    within = cue | {"include": ("prompts", "classifier")}
    found.append(("the same, with the classifier in the limits", 16, audits, within))
    worlds = ((0.6, False, 40), (1.0, False, 40), (0.6, True, 40), (0.6, True, 100), (1.0, True, 100))
    for spread, leans, prompts in worlds:
        for images, part in ((4, 0.25), (16, 0.1)):
            kind = "follows a cue" if leans else "differs by prompt"
            name = f"error {kind}, sd {spread}, {prompts} prompts, {part:.0%} labelled by people"
            world = {"spread": spread, "cue": leans, "prompts": prompts, "cause": measured_there, "labelled": part}
            found.append((name, images, audits // 3, world))
    alike = {"labelled": 0.1, "cause": measured_there}
    found.append(("matched calibration, 10% labelled by people", 16, audits // 3, alike))
    ours = {"groups": (GROWN, YOUNG), "cause": "calibration_reweighted"}
    found += [
        (
            f"adults and children, then {young:.0%} children",
            16,
            audits,
            {"rates": (1 - young) * GROWN + young * YOUNG, **ours},
        )
        for young in (0.7, 0.5)
    ]
    streams = random.spawn(len(found) + 1)
    made: list[Callable[[], Row]] = [
        partial(_row, name, images, number, stream, **{"rates": ADULTS, **world})
        for (name, images, number, world), stream in zip(found, streams, strict=False)
    ]
    return [*made, partial(_copied, audits, streams[-1])]


def _copied(audits: int, random: np.random.Generator) -> Row:
    """In half of the sets the other three images are near-copies of the first; no error, no calibration."""
    before, now, caused = [], [], []
    truth = true_unanimity()
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=(PROMPTS, 1))
        read = np.where(random.random((PROMPTS, 4)) < share, 0, 1)
        half = PROMPTS // 2
        read[:half, 1:] = read[:half, :1]
        copies = {str(p): ({LABELS[read[p, 0]]: 3}, {LABELS[read[p, 0]]: 3}) for p in range(half)}
        metrics = measured(read, copies=copies)
        top = metrics.summary
        before.append(_holds(wilson(top.unanimous, top.prompts), truth))
        now.append(_holds(top.headline, truth))
        caused.append(top.headline is not None and "near_copies" in top.headline.because)
    return Row(
        "near-copies of one image in half the sets",
        4,
        audits,
        truth,
        _mean(before),
        _mean(now),
        _mean(caused),
        "measured",
    )


def true_unanimity(a: float = 0.3, b: float = 0.3, size: int = 4) -> float:
    """Mean of share^size + (1 - share)^size over a Beta distribution of shares."""
    steps = np.arange(size)
    return float(np.prod((a + steps) / (a + b + steps)) + np.prod((b + steps) / (a + b + steps)))


def _abstaining(kind: str, images: int, audits: int, random: np.random.Generator) -> Row:
    """No error, no calibration: images that lack a label are those that would have said something."""
    before, now, caused = [], [], []
    truth = true_unanimity()
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=(PROMPTS, 1))
        women = random.random((PROMPTS, images)) < share
        minority = women != (share > 0.5)
        chance: FloatArray
        if kind.startswith("leaning"):
            chance = np.broadcast_to(0.3 * np.abs(2 * share - 1), women.shape)
        else:
            chance = 0.05 + (0.6 if kind.startswith("minority") else 0.4) * minority
        hidden = random.random(women.shape) < chance
        column = 3 if kind.startswith("no person") else 2
        read = np.where(hidden, column, np.where(women, 0, 1))
        metrics = measured(read)
        top = metrics.summary
        before.append(_holds(wilson(top.unanimous, top.prompts), truth))
        now.append(_holds(top.headline, truth))
        caused.append(top.headline is not None and "images_without_label" in top.headline.because)
    return Row(kind, images, audits, truth, _mean(before), _mean(now), _mean(caused), "measured")


def _row(
    name: str,
    images: int,
    audits: int,
    random: np.random.Generator,
    *,
    rates: FloatArray,
    spread: float = 0.0,
    cue: bool = False,
    prompts: int = PROMPTS,
    calibrated: int = 200,
    cause: str = "",
    include: tuple[str, ...] = ("prompts",),
    groups: tuple[FloatArray, ...] = (),
    labelled: float = 0.0,
) -> Row:
    """A run whose decisions follow `rates`, under a calibration of adults, or of these groups."""
    before, now, caused, led = [], [], [], []
    truth = true_unanimity()
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=prompts)
        women = random.random((prompts, images)) < share[:, np.newaxis]
        pull = random.normal(0, spread, size=prompts)
        pull = np.abs(pull) * np.sign(share - 0.5) if cue else pull
        cells = drawn_cells(women, rates, pull, random)
        tables = [
            np.stack([random.multinomial(calibrated, row) for row in own]).astype(np.int64)
            for own in groups or (ADULTS,)
        ]
        members = {str(number): table for number, table in enumerate(tables)} if groups else None
        calibration = calibration_of(np.sum(tables, axis=0), members)
        read, leads = read_of(cells, rates.shape[1])
        seen = labels_of(women, read, labelled, random)
        top = measured(read, calibration=calibration, leads=leads, include=include, labelled=seen).summary
        whole = calibration_of(np.sum(tables, axis=0))
        pooled = measured(read, calibration=whole, leads=leads).summary if groups else top
        before.append(_holds(pooled.unanimity_corrected, truth))
        now.append(_holds(top.headline, truth))
        assert top.headline is not None
        led.append(top.headline.evidence)
        codes = {*top.headline.because, *(top.headline.include or ())}
        # errors that differ by prompt are named too where the limits hold them, or where no calibration of all prompts fits
        differs = cause in ("error_may_differ_by_prompt", "error_spread_measured")
        ways = {cause, *DIFFERING} if differs else {cause}
        caused.append(bool(ways & codes))
    most = max(set(led), key=led.count)
    return Row(name, images, audits, truth, _mean(before), _mean(now), _mean(caused), most)


def drawn_cells(women: Any, rates: FloatArray, pull: FloatArray, random: np.random.Generator) -> IntArray:
    """Draw the cell of every image; a pull multiplies the odds of being decided as the first label."""
    tilt = np.exp(np.outer(pull, [*[1, 0] * (rates.shape[1] // 2), 0]))
    pulled = rates[np.newaxis] * tilt[:, np.newaxis]
    pulled /= pulled.sum(axis=-1, keepdims=True)
    by_image = pulled[np.arange(len(women))[:, np.newaxis], np.where(women, 0, 1)]
    cells: IntArray = (random.random(women.shape)[..., np.newaxis] > by_image.cumsum(axis=-1)).sum(axis=-1)
    return np.minimum(cells, rates.shape[1] - 1)


def read_of(cells: IntArray, number: int) -> tuple[IntArray, FloatArray]:
    """Return what was decided, as positions in DECISIONS, and with how large a lead, of images that fell into these of so many cells."""
    leads = np.array([0.5, 9.0] if number == 5 else [0.5, 1.5, 9.0])
    unclear = cells == number - 1
    read: IntArray = np.where(unclear, 2, cells % 2)
    return read, leads[np.where(unclear, 0, cells // 2)]


def measured(
    read: IntArray,
    *,
    calibration: Calibration | None = None,
    leads: FloatArray | None = None,
    copies: Copies | None = None,
    include: tuple[str, ...] = ("prompts",),
    labelled: Labelled | None = None,
    ids: Sequence[str] | None = None,
    reference: Reference | None = None,
) -> Metrics:
    """Return the metrics of a run whose images were read so, shape (prompts, images), positions in DECISIONS.

    `leads`: of the same shape, how surely each was decided; `ids`: of the prompts, numbers by default.
    """

    def counts(row: IntArray) -> dict[str, int]:
        return {
            name: int(n) for name, n in zip(DECISIONS, np.bincount(row, minlength=len(DECISIONS)), strict=True) if n
        }

    named = ids or [str(number) for number in range(len(read))]
    prompts = tuple(
        PromptTally(
            id=named[number],
            text=named[number],
            group=None,
            statuses={"generated": len(row)},
            labels={"gender": counts(row)},
            set_labels={"gender": counts(row[:4])},
        )
        for number, row in enumerate(read)
    )
    surely: Mapping[str, Mapping[str, dict[str, tuple[int, ...]]]] | None = None
    known = calibration.sure_cells("gender", LABELS) if calibration is not None else None
    if leads is not None and known is not None:
        surely = {
            "gender": {
                str(number): {
                    label: tuple(int(((row == place) & (at >= edge)).sum()) for edge in known.edges)
                    for place, label in enumerate(LABELS)
                }
                for number, (row, at) in enumerate(zip(read, leads, strict=True))
            }
        }
    tallies = Tallies(prompts=prompts, joint={}, duplicates=(), duplicate_images=0, persons=0)
    return compute_metrics(
        tallies,
        labels={"gender": LABELS},
        headline="gender",
        set_size=4,
        calibration=calibration,
        surely=surely,
        copies=copies,
        include=include,
        labelled=labelled,
        reference=reference,
    )


def labels_of(women: Any, read: IntArray, part: float, random: np.random.Generator) -> Labelled | None:
    """Return what people say of a random part of the images beside what was read; None where nobody is asked."""
    if not part:
        return None
    chosen = random.choice(women.size, size=round(part * women.size), replace=False)
    found: dict[str, dict[tuple[str, str], int]] = {}
    for place in chosen.tolist():
        prompt, image = divmod(place, women.shape[1])
        pair = LABELS[0 if women[prompt, image] else 1], DECISIONS[read[prompt, image]]
        cells = found.setdefault(str(prompt), {})
        cells[pair] = cells.get(pair, 0) + 1
    return found


def calibration_of(cells: IntArray, groups: Mapping[str, IntArray] | None = None) -> Calibration:
    """Return a calibration whose images fell so, shape (labels, 5) or (labels, 7); `groups` of the same shape each, by age."""
    confusion, leads = _entry(cells)
    entry: dict[str, Any] = {
        "labels": list(LABELS),
        "confusion": confusion,
        "leads": {"edges": [1.0, 2.0, 3.0], **leads},
    }
    if groups is not None:
        members = {name: dict(zip(("confusion", "leads"), _entry(own), strict=True)) for name, own in groups.items()}
        entry["groups"] = {"age": members}
    return Calibration(
        {
            "created": "",
            "binding": {"kind": "exact"},
            "dataset": {},
            "confidence": 0.95,
            "attributes": {"gender": entry},
        }
    )


def _entry(cells: IntArray) -> tuple[dict[str, dict[str, int]], dict[str, Any]]:
    """Confusion and leads of images that fell so."""
    confusion = {}
    leads: dict[str, Any] = {"counts": {}, "unclear": {}}
    for label, row in zip(LABELS, cells.tolist(), strict=True):
        women, men, unclear = row[:-1:2], row[1:-1:2], row[-1]
        confusion[label] = {"woman": sum(women), "man": sum(men), "ambiguous": unclear}
        leads["counts"][label] = {
            name: [own[0], own[1] if len(own) > 2 else 0, 0, own[-1]] for name, own in (("woman", women), ("man", men))
        }
        leads["unclear"][label] = unclear
    return confusion, leads


def _holds(interval: Any, truth: float) -> bool:
    return interval is not None and interval.low is not None and interval.low <= truth <= interval.high


def _mean(values: list[bool]) -> float:
    return float(np.mean(values))
