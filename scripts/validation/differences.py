"""Pairs of runs in which plain differences mislead: what `allfour compare` said before, and what it says now.

Every pair goes through the functions behind `allfour compare`. Before: every set as it was read, with a sign-flip test and Student limits,
each pair of runs on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import optimize, special

from allfour.pipeline.statistics import (
    Confusion,
    Interval,
    ReadImages,
    corrected_difference,
    group_mix,
    holm,
    mcnemar,
    mean_difference,
    sign_flip_test,
    unanimity_difference,
)
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.paired import least_step
from allfour.pipeline.statistics.paired_means import mean_and_error
from scripts.validation.evidence import GROWN, YOUNG, drawn_cells
from scripts.validation.settings import POPULATIONS, SET_SIZE

CALIBRATED = 200
"""Calibration images of each label, on either side."""
DRAWS, FLIPS = 500, 399
MARGIN = 0.05
OFTEN = 4
"""Times as many pairs where the size of a test lies close to its level."""
PERFECT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
Rates = FloatArray
Judged = tuple[float, Interval, Interval, float, float]
"""Truth, limits before and now, p-values before and now."""


@dataclass(frozen=True)
class Row:
    """How one setting came out."""

    name: str
    prompts: int
    pairs: int
    covered_before: float | None
    rejected_before: float | None
    covered: float | None
    rejected: float
    """Share of pairs in which the test says what the setting's name asks of it."""


def rates(right: float, *, unclear: float = 0.02) -> Rates:
    """Decisions (first label, second label, ambiguous) by true label."""
    return np.array([[right, 1 - right, 0.0], [1 - right, right, 0.0]]) * (1 - unclear) + [0.0, 0.0, unclear]


def rows(pairs: int, random: np.random.Generator) -> Iterator[Row]:
    """Every setting."""
    good, worse, unclear = rates(0.95), rates(0.90), rates(0.90, unclear=0.20)

    def judged(name: str, prompts: int, one: Callable[[int, np.random.Generator], Judged], *, times: int = 1) -> Row:
        return _judged(name, [one(prompts, random) for _ in range(pairs * times)], prompts)

    for prompts in (40, 150):
        yield judged("5% more error in one run, no difference", prompts, lambda p, r: _error(p, r, good, worse))
    yield judged("5% more error, shares halfway to even", 40, lambda p, r: _error(p, r, good, worse, halfway=True))
    yield judged("5% more error and 20% unclear, no difference", 40, lambda p, r: _error(p, r, good, unclear))
    yield judged(
        "one calibration for both, no difference", 40, lambda p, r: _error(p, r, worse, worse, shared=True), times=OFTEN
    )
    for population in ("near 0", "near 0.5", "mixed (U)"):
        for prompts in (20, 100):
            yield judged(f"4 against 16 images, {population}", prompts, partial(_unequal, population=population))
    other = "4 against 16 images, other shares of one mean, mixed (U)"
    yield judged(other, 100, lambda p, r: _unequal(p, r, "mixed (U)", anew=True))
    yield judged("sets of 4 against sets of 16, mixed (U)", 40, _sets_of_other_size)
    yield judged("near-copies: 4 pictures of 16 in half of one run, near 0.5", 40, _copied, times=OFTEN)
    yield _several(40, pairs, random)
    yield _equivalent("equivalent within 5 points, when it is 5", 150, pairs, random, apart=MARGIN)
    yield _equivalent("equivalent within 5 points, when it is 0", 150, pairs, random, apart=0.0)
    yield _refused("refused equally often", 40, pairs, random, factor=1.0)
    yield _refused("refused twice as often", 40, pairs, random, factor=2.0)
    yield mixes_of_groups(pairs)


def mixes_of_groups(pairs: int) -> Row:
    """The setting of a calibration's groups, with random numbers of its own."""
    random = np.random.default_rng(14)
    name = "grown people against four young in five, one calibration of both, no difference"
    return _judged(name, [_groups(40, random) for _ in range(pairs)], 40)


def _judged(name: str, found: list[Judged], prompts: int) -> Row:
    def part(outcomes: list[bool]) -> float:
        return float(np.mean(outcomes))

    return Row(
        name,
        prompts,
        len(found),
        part([before.low <= truth <= before.high for truth, before, _, _, _ in found]),
        part([p <= 0.05 for _, _, _, p, _ in found]),
        part([now.low <= truth <= now.high for truth, _, now, _, _ in found]),
        part([p <= 0.05 for _, _, _, _, p in found]),
    )


def _read(share: FloatArray, images: int, known: Rates, random: np.random.Generator) -> IntArray:
    """Images per prompt and decision."""
    mixed = share[:, np.newaxis] * known[0] + (1 - share)[:, np.newaxis] * known[1]
    table: IntArray = random.multinomial(images, mixed)
    return table


def _calibrated(known: Rates, random: np.random.Generator) -> Confusion:
    return Confusion(np.stack([random.multinomial(CALIBRATED, row) for row in known]))


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(2**31))


def unanimous(share: FloatArray) -> FloatArray:
    """Chance that a set of prompts with these shares agrees."""
    chance: FloatArray = share**SET_SIZE + (1 - share) ** SET_SIZE
    return chance


def _mean_of(population: str, change: Callable[[FloatArray], FloatArray]) -> float:
    """Mean over a Beta population, from its quantiles by a fine grid of probabilities."""
    draws = np.random.default_rng(0).beta(*POPULATIONS[population], size=400_000)
    return float(change(draws).mean())


def _error(
    prompts: int, random: np.random.Generator, one: Rates, two: Rates, *, halfway: bool = False, shared: bool = False
) -> Judged:
    """Runs of 16 images that are read with other error rates, a calibration for each."""
    share = random.beta(*POPULATIONS["mixed (U)"], size=prompts)
    after = (share + 0.5) / 2 if halfway else share
    first = _calibrated(one, random)
    second = first if shared else _calibrated(two, random)
    runs = (
        ReadImages(_read(share, 16, one, random), 2, 0, first),
        ReadImages(_read(after, 16, two, random), 2, 0, second),
    )
    found = corrected_difference(*runs, draws=DRAWS, shared_calibration=shared, seed=_seed(random))
    plain, p_value = _before(*(run.unanimity(SET_SIZE) for run in runs), seed=_seed(random))
    assert found is not None
    truth = _HALFWAY if halfway else 0.0
    return truth, plain, found.interval, p_value, found.p_value


def _groups(prompts: int, random: np.random.Generator) -> Judged:
    """Runs of grown people, and of four young in five, corrected before by a calibration of both, now by it weighted to either run's mix.

    Pairs in which a mix is not told, which `allfour compare` leads with as they were read, are drawn again.
    """
    while True:
        share = random.beta(*POPULATIONS["mixed (U)"], size=prompts)
        tables = [np.stack([random.multinomial(2 * CALIBRATED, row) for row in rates]) for rates in (GROWN, YOUNG)]
        whole = Confusion(_without_leads(np.sum(tables, axis=0)))
        before, now = [], []
        for rates in (GROWN, 0.2 * GROWN + 0.8 * YOUNG):
            women = random.random((prompts, 16)) < share[:, np.newaxis]
            cells = drawn_cells(women, rates, np.zeros(prompts), random)
            table = np.stack([np.bincount(row, minlength=rates.shape[1]) for row in cells])
            decisions = _without_leads(table)
            before.append(ReadImages(decisions, 2, 0, whole))
            mix = group_mix(table, tables, seed=_seed(random))
            if mix is not None and mix.fit.p_value >= 0.05:
                now.append(ReadImages(decisions, 2, 0, mix.confusion()))
        if len(now) < 2:
            continue
        seed = _seed(random)
        plain = corrected_difference(*before, draws=DRAWS, shared_calibration=True, seed=seed)
        found = corrected_difference(*now, draws=DRAWS, seed=seed)
        assert plain is not None and found is not None
        return 0.0, plain.interval, found.interval, plain.p_value, found.p_value


def _without_leads(cells: IntArray) -> IntArray:
    """All leads of one decision together."""
    table: IntArray = np.stack([cells[:, :-1:2].sum(axis=1), cells[:, 1:-1:2].sum(axis=1), cells[:, -1]], axis=1)
    return table


_HALFWAY = _mean_of("mixed (U)", lambda p: unanimous((p + 0.5) / 2)) - _mean_of("mixed (U)", unanimous)


def _unequal(prompts: int, random: np.random.Generator, population: str, *, anew: bool = False) -> Judged:
    """Runs of 4 and of 16 images without error; the shares are the same, or drawn anew so that the means alone are."""
    share = random.beta(*POPULATIONS[population], size=prompts)
    after = random.beta(*POPULATIONS[population], size=prompts) if anew else share
    runs = [ReadImages(_read(p, n, PERFECT, random), 2) for p, n in ((share, 4), (after, 16))]
    return _plain_and_now(runs[0], runs[1], random)


def _plain_and_now(first: ReadImages, second: ReadImages, random: np.random.Generator) -> Judged:
    seed = _seed(random)
    now = unanimity_difference(first, second, test_draws=FLIPS, seed=seed).measured
    plain, p_value = _before(first.unanimity(SET_SIZE), second.unanimity(SET_SIZE), seed=seed)
    return 0.0, plain, now.interval, p_value, now.p_value


def _before(first: FloatArray, second: FloatArray, *, seed: int) -> tuple[Interval, float]:
    """Student limits, with one unseen pair of differences of plus and minus the least gap between values, and flips of signs."""
    difference = second - first
    mean, error = mean_and_error(difference, least_step(np.concatenate([first, second])))
    half = float(special.stdtrit(len(difference) - 1, 0.975)) * error
    interval = Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0), "paired")
    return interval, sign_flip_test(difference, draws=FLIPS, seed=seed)


def _sets_of_other_size(prompts: int, random: np.random.Generator) -> Judged:
    """One run measured in sets of 4, one in sets of 16: before, the sets as they are."""
    share = random.beta(*POPULATIONS["mixed (U)"], size=prompts)
    runs = [ReadImages(_read(share, n, PERFECT, random), 2) for n in (4, 16)]
    sets = [run.decisions[:, :2].max(axis=1) == run.images for run in runs]
    plain = mean_difference(*sets, p_value=mcnemar(*sets), test="mcnemar", single=True)
    truth, _, now, _, p = _plain_and_now(runs[0], runs[1], random)
    return truth, plain.interval, now, plain.p_value, p


def _copied(prompts: int, random: np.random.Generator) -> Judged:
    """In half of one run's prompts 12 of 16 images are near-copies of the other four; before, all are counted."""
    share = random.beta(*POPULATIONS["near 0.5"], size=prompts)
    first = ReadImages(_read(share, 16, PERFECT, random), 2)
    own = _read(share, 16, PERFECT, random)
    half = prompts // 2
    own[:half] = _read(share[:half], 4, PERFECT, random)
    seen = own.copy()
    seen[:half] *= 4
    _, plain, _, p_before, _ = _plain_and_now(first, ReadImages(seen, 2), random)
    truth, _, now, _, p = _plain_and_now(first, ReadImages(own, 2), random)
    return truth, plain, now, p_before, p


def _several(prompts: int, pairs: int, random: np.random.Generator) -> Row:
    """Ten further runs like the first: how often any of them is said to differ."""
    before, now = [], []
    for _ in range(pairs):
        share = random.beta(*POPULATIONS["mixed (U)"], size=prompts)
        values = [ReadImages(_read(share, 16, PERFECT, random), 2).unanimity(SET_SIZE) for _ in range(11)]
        p_values = [sign_flip_test(other - values[0], draws=1_999, seed=_seed(random)) for other in values[1:]]
        before.append(min(p_values) <= 0.05)
        now.append(min(holm(p_values)) <= 0.05)
    name = "ten runs like the first, any said to differ"
    return Row(name, prompts, pairs, None, float(np.mean(before)), None, float(np.mean(now)))


def _moment(p: FloatArray, *, order: int) -> FloatArray:
    moment: FloatArray = np.abs(p - 0.5) ** order
    return moment


def _equivalent(name: str, prompts: int, pairs: int, random: np.random.Generator, *, apart: float) -> Row:
    """Runs of 64 images whose unanimity differs by `apart`: how often it is shown to differ by less than the margin."""
    centre = [_mean_of("mixed (U)", partial(_moment, order=order)) for order in (2, 4)]

    def lost(shrunk: float) -> float:
        return 3 * centre[0] * (1 - shrunk**2) + 2 * centre[1] * (1 - shrunk**4) - apart

    shrink = float(optimize.brentq(lost, 0.5, 1.0)) if apart else 1.0
    shown, covered = [], []
    for _ in range(pairs):
        share = random.beta(*POPULATIONS["mixed (U)"], size=prompts)
        runs = [
            ReadImages(_read(p, 64, PERFECT, random), 2).unanimity(SET_SIZE)
            for p in (share, 0.5 + shrink * (share - 0.5))
        ]
        found = mean_difference(*runs, p_value=1.0, test="", margin=MARGIN)
        assert found.equivalent is not None
        shown.append(found.equivalent <= 0.05)
        covered.append(found.interval.low <= -apart <= found.interval.high)
    return Row(name, prompts, pairs, None, None, float(np.mean(covered)), float(np.mean(shown)))


def _refused(name: str, prompts: int, pairs: int, random: np.random.Generator, *, factor: float) -> Row:
    """Refusals of 8 images per prompt, most prompts never refused: half of a rate from Beta(0.2, 1.8), five in a hundred on average."""
    rejected, covered = [], []
    for _ in range(pairs):
        rate = random.beta(0.2, 1.8, size=prompts) / 2
        refused = [random.binomial(8, p) / 8 for p in (rate, factor * rate)]
        p = sign_flip_test(refused[1] - refused[0], draws=1_999, seed=_seed(random))
        found = mean_difference(*refused, p_value=p, test="sign-flip")
        rejected.append(p <= 0.05)
        covered.append(found.interval.low <= 0.05 * (factor - 1) <= found.interval.high)
    return Row(name, prompts, pairs, None, None, float(np.mean(covered)), float(np.mean(rejected)))
