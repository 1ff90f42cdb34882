"""Labels of a part of a run's images: the first line's limits beside those without labels, and beside those that hold all that labels leave open.

Every audit goes through `compute_metrics`. Where errors are alike in every prompt and the calibration fits, labels may not make limits wider;
where errors differ, limits must hold the truth all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.run.metrics import Summary
from scripts.validation.evidence import (
    ADULTS,
    calibration_of,
    drawn_cells,
    labels_of,
    measured,
    read_of,
    true_unanimity,
)


@dataclass(frozen=True)
class World:
    """Runs of one size, of which people label a part, and whose errors differ by prompt in one way."""

    prompts: int
    images: int
    """Of each prompt."""
    labelled: float
    """Part of the images."""
    spread: float
    """Of error between prompts, on the logit."""
    cue: bool
    """Whether error follows what most of a prompt's images show."""


DESIGNS = ((40, 16, 0.05), (40, 16, 0.1), (40, 16, 0.25), (100, 16, 0.05), (100, 16, 0.1), (100, 16, 0.25), (40, 4, 0.25), (100, 4, 0.25), (20, 4, 0.25))  # fmt: skip
WAYS = ((0.0, False), (0.6, False), (1.0, False), (0.6, True), (1.0, True))
CALIBRATED = 200
CAUSES = frozenset({"error_spread_measured", "error_spread_open", "error_may_differ_by_prompt"})


@dataclass(frozen=True)
class Row:
    """One design in one world; covers and widths are of the audits in which a corrected figure leads."""

    error: str
    prompts: int
    images: int
    labelled: float
    audits: int
    led: float
    """Share of audits in which a corrected figure leads."""
    covered_plain: float
    width_plain: float
    """Limits without labels."""
    covered_whole: float
    width_whole: float
    """Limits that hold all that labels leave open, which led before; those without labels where too few images are labelled for any."""
    covered: float
    width: float
    """The first line's."""
    shown: float
    """Share in which labels show that errors differ by prompt."""
    wider: float
    """Share of the others in which the first line's limits are wider than those without labels."""
    named: float
    """Share in which the first line names errors that differ by prompt."""


def rows(audits: int, random: np.random.Generator) -> Iterator[Row]:
    """Every design in every world, with random numbers of its own; four times as many audits where errors are alike."""
    worlds = [World(*design, *way) for design in DESIGNS for way in WAYS]
    for world, stream in zip(worlds, random.spawn(len(worlds)), strict=True):
        yield row(world, audits if world.spread else 4 * audits, stream)


def row(world: World, audits: int, random: np.random.Generator) -> Row:
    """Simulate one design in one world."""
    truth = true_unanimity()
    found = [_audit(world, random) for _ in range(audits)]
    led = [top for top in found if top.headline is not None and top.headline.evidence == "corrected"]
    plain = [_ends(top.unanimity_corrected) for top in led]
    spreads = [top.unanimity_corrected.error_spread if top.unanimity_corrected else None for top in led]
    known = [at is not None and at.source == "labelled images" for at in spreads]
    whole = [_ends(at) if of else ends for at, of, ends in zip(spreads, known, plain, strict=True)]
    first = [_ends(top.headline) for top in led]
    shown = [at is not None and at.alike is not None and at.alike < st.SPREAD_SHOWN for at in spreads]
    wider = [b[1] - b[0] > a[1] - a[0] + 1e-9 for a, b, of in zip(plain, first, shown, strict=True) if not of]
    named = [bool(CAUSES & {*(top.headline.because if top.headline else ())}) for top in led]
    kind = "alike in every prompt"
    if world.spread:
        kind = f"{'follow a cue' if world.cue else 'differ'}, sd {world.spread}"
    return Row(
        kind, world.prompts, world.images, world.labelled, audits, len(led) / audits, *_judged(plain, truth), *_judged(whole, truth),
        *_judged(first, truth), _mean(shown), _mean(wider), _mean(named),
    )  # fmt: skip


def _audit(world: World, random: np.random.Generator) -> Summary:
    share = random.beta(0.3, 0.3, size=world.prompts)
    women = random.random((world.prompts, world.images)) < share[:, np.newaxis]
    pull = random.normal(0, world.spread, size=world.prompts)
    pull = np.abs(pull) * np.sign(share - 0.5) if world.cue else pull
    read, leads = read_of(drawn_cells(women, ADULTS, pull, random), ADULTS.shape[1])
    calibration = calibration_of(np.stack([random.multinomial(CALIBRATED, own) for own in ADULTS]).astype(np.int64))
    seen = labels_of(women, read, world.labelled, random)
    return measured(read, calibration=calibration, leads=leads, labelled=seen).summary


def _ends(found: object) -> tuple[float, float]:
    low, high = getattr(found, "low", None), getattr(found, "high", None)
    return 0.0 if low is None else low, 1.0 if high is None else high


def _judged(limits: list[tuple[float, float]], truth: float) -> tuple[float, float]:
    """Coverage and mean width."""
    return _mean([low <= truth <= high for low, high in limits]), float(np.mean([high - low for low, high in limits]))


def _mean(values: list[bool]) -> float:
    return float(np.mean(values)) if values else 0.0
