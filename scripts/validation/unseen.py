"""Simulated runs in which a kind of prompt is rare: do limits hold where none of it was drawn?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.paired_means import mean_and_error, share_step
from allfour.pipeline.statistics.read_images import unanimity_step
from scripts.validate_shares import Kept, Population, alike, spread, two_kinds

SET_SIZE = 4
PROMPTS = (5, 10, 20, 40)
POPULATIONS = (
    alike(0.5),
    alike(0.8),
    spread(15, 15),
    spread(0.3, 0.3),
    two_kinds(0.5, 1, 0.05),
    two_kinds(0.5, 1, 0.1),
    two_kinds(0.5, 1, 0.2),
    two_kinds(0.5, 1, 0.3),
    two_kinds(0.8, 1, 0.1),
    two_kinds(0.99, 0.5, 0.1),
    two_kinds(1, 0.5, 0.2),
)
Pair = Callable[[int, np.random.Generator], tuple[FloatArray, FloatArray]]
"""Shares of so many prompts in either run."""
Limits = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """What differs between two runs of the same prompts."""

    name: str
    draw: Pair


def _some(base: float, other: float, part: float) -> Change:
    def draw(prompts: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        return np.full(prompts, base), np.where(random.random(prompts) < part, other, base)

    return Change(f"{base:g}; to {other:g} in {part:.0%}", draw)


def _unchanged(population: Population) -> Change:
    def draw(prompts: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        share = population.draw((1, prompts), random)[0]
        return share, share

    return Change(f"none, {population.name}", draw)


def _halfway(a: float, b: float) -> Change:
    def draw(prompts: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        share = random.beta(a, b, prompts)
        return share, (share + 0.5) / 2

    return Change(f"Beta({a:g}, {b:g}), all halfway to even", draw)


CHANGES = (
    _unchanged(alike(0.5)),
    _unchanged(alike(0.97)),
    _unchanged(spread(0.3, 0.3)),
    _some(0.5, 1, 0.05),
    _some(0.5, 1, 0.1),
    _some(0.5, 1, 0.2),
    _some(0.5, 1, 0.3),
    _some(0.8, 1, 0.1),
    _some(1, 0.5, 0.05),
    _some(1, 0.5, 0.1),
    _some(1, 0.5, 0.2),
    _halfway(3.2, 0.8),
)


def unanimous(share: FloatArray) -> FloatArray:
    """Chance that a set shows one of two labels."""
    chance: FloatArray = share**SET_SIZE + (1 - share) ** SET_SIZE
    return chance


def table(women: IntArray, images: int) -> IntArray:
    """Images of two labels."""
    return np.column_stack([women, images - women])


def kept(limits: list[Limits], truth: float) -> Kept:
    """How often limits hold the truth, and how wide they are."""
    low, high = np.array(limits).T
    return Kept(float(((low <= truth + 1e-9) & (truth - 1e-9 <= high)).mean()), float((high - low).mean()))


def by_sets(one: Population, *, prompts: int, sets: int, audits: int, random: np.random.Generator) -> tuple[Kept, Kept]:
    """Unanimity over sets that are made together: limits from the spread as it is seen, and the tool's."""
    truth = float(unanimous(one.draw((200_000, 1), random)).mean())
    agreeing = np.sort(random.binomial(sets, unanimous(one.draw((audits, prompts), random))), axis=1)
    rows, place = np.unique(agreeing, axis=0, return_inverse=True)
    pairs = [
        (st.mean_over_prompts(row / sets, independent=prompts * sets), st.bounded_mean(row / sets)) for row in rows
    ]
    seen, ours = ([(pairs[k][way].low, pairs[k][way].high) for k in place.ravel()] for way in (0, 1))
    return kept(seen, truth), kept(ours, truth)


def corrected(
    one: Population, *, prompts: int, images: int, right: float, audits: int, random: np.random.Generator
) -> Kept:
    """The tool's limits of corrected unanimity, where either label is read right with one probability, calibrated on 400 images."""
    truth = float(unanimous(one.draw((200_000, 1), random)).mean())
    found = []
    for _ in range(audits):
        share = one.draw((1, prompts), random)[0]
        women = random.binomial(images, right * share + (1 - right) * (1 - share))
        interval = st.corrected_unanimity(
            table(women, images), confusion=_calibration(right, random), draws=1000
        ).interval
        found.append((interval.low, interval.high))
    return kept(found, truth)


@dataclass(frozen=True)
class Apart:
    """Differences of two runs: Student's limits, then the tool's."""

    unanimity: tuple[Kept, Kept]
    share: tuple[Kept, Kept]
    equal: tuple[float, float]
    """How often a difference in unanimity is shown to be smaller than it is, which 5% may; nan where there is none."""


def differences(
    change: Change, *, prompts: int, images: tuple[int, int], audits: int, random: np.random.Generator
) -> Apart:
    """Differences in unanimity and in the share of a label."""
    before, after = change.draw(200_000, random)
    truth = float((unanimous(after) - unanimous(before)).mean()), float((after - before).mean())
    found: list[list[Limits]] = [[], [], [], []]
    equal = []
    for _ in range(audits):
        women = [random.binomial(n, share) for n, share in zip(images, change.draw(prompts, random), strict=True)]
        sides = [st.ReadImages(table(side, n), 2) for side, n in zip(women, images, strict=True)]
        values = [side.unanimity(SET_SIZE) for side in sides]
        margin = abs(truth[0]) or None
        ours = st.mean_difference(*values, p_value=1.0, test="", margin=margin)
        asked = [np.full(prompts, n) for n in images]
        share = st.rate_difference(*women, trials=(asked[0], asked[1]), draws=9).interval
        step = unanimity_step(sides[0], sides[1], SET_SIZE)
        found[0].append(_student(values[1] - values[0], step))
        found[1].append((ours.interval.low, ours.interval.high))
        found[2].append(_student(women[1] / images[1] - women[0] / images[0], share_step(*asked)))
        found[3].append((share.low, share.high))
        if margin and ours.equivalent is not None:
            equal.append((_student_equal(values[1] - values[0], step, margin) <= 0.05, ours.equivalent <= 0.05))
    unanimity, tool, shares, tool_shares = (kept(limits, truth[k > 1]) for k, limits in enumerate(found))
    called = tuple(np.mean(equal, axis=0).tolist()) if equal else (np.nan, np.nan)
    return Apart((unanimity, tool), (shares, tool_shares), (called[0], called[1]))


def corrected_differences(
    change: Change, *, prompts: int, images: int, right: float, audits: int, random: np.random.Generator
) -> Kept:
    """The tool's limits of a difference in unanimity, errors taken out by one calibration of 400 images."""
    before, after = change.draw(200_000, random)
    truth = float((unanimous(after) - unanimous(before)).mean())
    limits = []
    for _ in range(audits):
        confusion = _calibration(right, random)
        sides = [
            st.ReadImages(table(random.binomial(images, right * p + (1 - right) * (1 - p)), images), 2, 0, confusion)
            for p in change.draw(prompts, random)
        ]
        found = st.corrected_difference(*sides, shared_calibration=True, draws=1000, test_draws=9)
        assert found is not None
        limits.append((found.interval.low, found.interval.high))
    return kept(limits, truth)


def subjects(
    one: Population, *, prompts: int, each: int, images: tuple[int, int], audits: int, random: np.random.Generator
) -> tuple[float, float]:
    """How often subjects of several prompts are said to differ in unanimity that do not: by flips of signs, and by the tool's p-value."""
    said = []
    for _ in range(audits):
        share = one.draw((prompts, each), random)
        values = [
            st.subset_unanimity(table(random.binomial(n, share).ravel(), n)).reshape(prompts, each).mean(axis=1)
            for n in images
        ]
        difference = values[1] - values[0]
        said.append((st.sign_flip_test(difference, draws=999) <= 0.05, st.difference_from_zero(difference) <= 0.05))
    flips, ours = np.mean(said, axis=0).tolist()
    return flips, ours


def _calibration(right: float, random: np.random.Generator) -> st.Confusion:
    hits = [int(random.binomial(200, right)) for _ in range(2)]
    return st.Confusion.from_rates(sensitivity=(hits[0], 200), specificity=(hits[1], 200))


def _student(difference: FloatArray, step: float) -> Limits:
    """Limits from the spread as it is seen, with one unseen pair of plus and minus one image's worth."""
    mean, error = mean_and_error(difference, step)
    half = float(special.stdtrit(len(difference) - 1, 0.975)) * error
    return max(mean - half, -1.0), min(mean + half, 1.0)


def _student_equal(difference: FloatArray, step: float, margin: float) -> float:
    mean, error = mean_and_error(difference, step)
    free = len(difference) - 1
    return float(max(special.stdtr(free, -(mean + margin) / error), special.stdtr(free, (mean - margin) / error)))
