"""Audits with abstentions, with people's labels of a sample, and pairs of runs, one by one through the tool's own functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal

import numpy as np

from allfour.pipeline.analyses.review.estimates import Sample, by_unit, powered_ratio, powered_share
from allfour.pipeline.analyses.review.sample import Population, allocate, choose_scheme, make_units
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON
from allfour.pipeline.statistics import (
    Confusion,
    comparison_coverage_warnings,
    corrected_share,
    corrected_unanimity,
    coverage_warnings,
    mcnemar,
    paired_difference,
    subset_unanimity,
    unanimity,
)
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from scripts.validation.settings import (
    IMAGES,
    POPULATIONS,
    PROMPTS,
    SET_SIZE,
    Limits,
    Result,
    Setting,
    summarise,
    truths,
)

ABSTENTIONS = (0.05, 0.20)
ABSTAINING_ERRORS = ((0.90, 0.90), (0.99, 0.99))
REVIEWED_ERRORS = ((0.80, 0.80), (0.95, 0.95))
EFFECTS = ("none", "evened")
_FLIPS = 499


def abstention_settings(*, quick: bool) -> list[Setting]:
    """Return settings with abstentions: two rates, two numbers of images, two levels of error."""
    populations = ("mixed (U)",) if quick else tuple(POPULATIONS)
    return [
        Setting(population, images, 20, *errors, 200, abstention=rate)
        for population, images, errors, rate in product(populations, (4, 9), ABSTAINING_ERRORS, ABSTENTIONS)
    ]


def review_settings(*, quick: bool) -> list[Setting]:
    """Return settings with people's labels of a sample of images, for shares, or of sets, for unanimity."""
    populations = ("mixed (U)",) if quick else ("near 0", "near 0.5", "mixed (U)")
    samples: tuple[tuple[int, int, Literal["image", "set"]], ...] = (
        (20, 40, "image"),
        (150, 200, "image"),
        (20, 10, "set"),
        (150, 50, "set"),
    )
    return [
        Setting(population, SET_SIZE, prompts, *errors, None, labelled=labelled, unit=unit)
        for population, errors, (prompts, labelled, unit) in product(populations, REVIEWED_ERRORS, samples)
    ]


def paired_settings(*, quick: bool) -> list[Setting]:
    """Return settings of two runs of the same prompts."""
    populations = ("mixed (U)",) if quick else ("near 0", "near 0.5", "mixed (U)")
    return [
        Setting(population, images, prompts, None, None, None, effect=effect)
        for population, images, prompts, effect in product(
            populations, IMAGES, PROMPTS[:2] if quick else PROMPTS, EFFECTS
        )
    ]


def check_abstention(setting: Setting, audits: int, *, draws: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage of the corrected intervals where the classifier may abstain, on one label more than on the other."""
    assert setting.sensitivity and setting.specificity and setting.calibration and setting.abstention
    rates = abstaining_rates(setting.sensitivity, setting.specificity, setting.abstention)
    found: dict[str, list[tuple[float, float, float]]] = {"share": [], "unanimity": []}
    warned = []
    shares = setting.shares(audits, random)[..., np.newaxis]
    tables = random.multinomial(setting.images, shares * rates[0] + (1 - shares) * rates[1])
    for audit, table in enumerate(tables):
        confusion = Confusion(random.multinomial(setting.calibration // 2, rates))
        share = corrected_share(table, confusion=confusion, draws=draws, seed=audit)
        estimate = corrected_unanimity(table, confusion=confusion, set_size=SET_SIZE, draws=draws, seed=audit).interval
        for name, interval in (("share", share), ("unanimity", estimate)):
            found[name].append((np.nan if interval.value is None else interval.value, interval.low, interval.high))
        raw = unanimity(table[:, :2], set_size=SET_SIZE, unresolved=table[:, 2]).seen
        warnings = coverage_warnings(
            prompts=setting.prompts,
            unanimity=raw,
            other_images=int(table[:, :2].sum(axis=0).min()),
            confusion=confusion,
            corrected_unanimity=estimate,
        )
        warned.append(bool(warnings))
    for name, truth in truths(setting.population).items():
        yield summarise(
            setting,
            f"corrected {name}, abstentions",
            truth=truth,
            limits=_as_limits(found[name]),
            warned=float(np.mean(warned)),
        )


def abstaining_rates(sensitivity: float, specificity: float, abstention: float) -> FloatArray:
    """Return decisions (first label, second label, ambiguous) per label, shape (2, 3)."""
    first = np.array([sensitivity, 1 - sensitivity, 0.0]) * (1 - abstention) + [0, 0, abstention]
    second = np.array([1 - specificity, specificity, 0.0]) * (1 - abstention / 2) + [0, 0, abstention / 2]
    return np.stack([first, second])


def check_review(setting: Setting, audits: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage of the prediction-powered share and unanimity, about the very run and about prompts like these."""
    assert setting.labelled and setting.unit and setting.sensitivity and setting.specificity
    name = "share" if setting.unit == "image" else "unanimity"
    like_these = truths(setting.population)[name]
    limits: dict[str, list[tuple[float, float, float]]] = {"this_run": [], "prompts_like_these": []}
    for _ in range(audits):
        shares = setting.shares(1, random)[0]
        truth = (random.random((setting.prompts, setting.images)) > shares[:, np.newaxis]).astype(np.int64)
        right = random.random(truth.shape) < np.where(truth == 0, setting.sensitivity, setting.specificity)
        here = float((truth == 0).mean() if name == "share" else (truth == truth[:, :1]).all(axis=1).mean())
        found = _reviewed(_population(np.where(right, truth, 1 - truth)), truth.ravel(), setting, random)
        # Truths of the very run differ from run to run, so that limits are kept less the truth.
        for estimand, target in (("this_run", here), ("prompts_like_these", like_these)):
            entry = found[estimand]
            limits[estimand].append((entry["value"] - target, entry["low"] - target, entry["high"] - target))
    for estimand, rows in limits.items():
        yield summarise(
            setting, f"reviewed {name}, {estimand.replace('_', ' ')}", truth=0.0, limits=_as_limits(rows), warned=None
        )


def _population(read: IntArray) -> Population:
    """Return a run's images as `allfour review` sees them; `read` holds the decisions, shape (prompts, images)."""
    prompts, images = read.shape
    return Population(
        prompt_ids=[str(p) for p in range(prompts)],
        groups=["one" if p % 2 else "other" for p in range(prompts)],
        prompt=np.repeat(np.arange(prompts), images),
        index=np.tile(np.arange(images), prompts),
        rank=np.tile(np.arange(images) + 1, prompts),
        category=read.ravel(),
        categories=("woman", "man", AMBIGUOUS, NO_PERSON, MIXED),
        labels=2,
    )


def _reviewed(
    population: Population, truth: IntArray, setting: Setting, random: np.random.Generator
) -> Mapping[str, Any]:
    """Return the estimate of the first label's share, or of unanimity, from a sample drawn as `allfour review` does."""
    assert setting.labelled and setting.unit
    units = make_units(population, setting.unit, SET_SIZE)
    strata = choose_scheme(units, population, setting.labelled)
    sizes = np.bincount(strata.code).astype(np.int64)
    chosen = np.concatenate(
        [
            random.choice(np.flatnonzero(strata.code == stratum), some, replace=False)
            for stratum, some in enumerate(allocate(sizes, setting.labelled).tolist())
        ]
    )
    rows = np.flatnonzero(np.isin(units.owner, chosen))
    labels, unanimous = by_unit({"rater": {int(r): int(truth[r]) for r in rows}}, population, units)
    sample = Sample(population, units, strata, labels, unanimous, 0.95)
    if setting.unit == "image":
        return powered_ratio(sample, 0)
    predicted = (units.predicted[:, :2] == 1).astype(np.float64).sum(axis=1)
    return powered_share(sample, predicted, unanimous.sum(axis=1))


def check_paired(setting: Setting, audits: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage and rejections of the differences that `allfour compare` gives."""
    names = ("share difference", "unanimity difference", "unanimity difference, first set")
    limits: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    p_values: dict[str, list[float]] = {name: [] for name in names}
    warned = []
    for audit in range(audits):
        shares = setting.shares(1, random)[0]
        after = shares if setting.effect == "none" else (shares + 0.5) / 2
        sets, counts, women = [], [], []
        for share in (shares, after):
            drawn = random.random((setting.prompts, setting.images)) < share[:, np.newaxis]
            women.append(drawn.sum(axis=1))
            first = drawn[:, :SET_SIZE].sum(axis=1)
            sets.append((first == 0) | (first == SET_SIZE))
            table = np.column_stack([women[-1], setting.images - women[-1]])
            counts.append(subset_unanimity(table, set_size=SET_SIZE))
        # `allfour compare` warns of fewer than ten prompts, too.
        doubts = comparison_coverage_warnings(
            unanimity=[float(values.mean()) for values in counts],
            other_images=[min(int(w.sum()), setting.images * setting.prompts - int(w.sum())) for w in women],
        )
        warned.append(setting.prompts < 10 or bool(doubts))
        found = (
            paired_difference(
                women[0] / setting.images,
                women[1] / setting.images,
                draws=_FLIPS,
                seed=audit,
            ),
            paired_difference(counts[0], counts[1], draws=_FLIPS, seed=audit),
            paired_difference(sets[0].astype(float), sets[1].astype(float), single=True, draws=_FLIPS, seed=audit),
        )
        for name, one in zip(names, found, strict=True):
            limits[name].append((one.interval.value or 0.0, one.interval.low, one.interval.high))
            p_values[name].append(mcnemar(sets[0], sets[1]) if name == names[2] else one.p_value)
    share, unanimous = difference_truths(setting)
    for name, truth in zip(names, (share, unanimous, unanimous), strict=True):
        rejected = float((np.array(p_values[name]) <= 0.05).mean())
        yield summarise(
            setting,
            name,
            truth=truth,
            limits=_as_limits(limits[name]),
            warned=float(np.mean(warned)),
            rejected=rejected,
        )


def difference_truths(setting: Setting) -> tuple[float, float]:
    """Return the mean difference of the first label's share and of unanimity, second run less first."""
    if setting.effect == "none":
        return 0.0, 0.0
    a, b = POPULATIONS[setting.population]
    moments = np.cumprod([1.0] + [(a + i) / (a + b + i) for i in range(SET_SIZE)])
    centred = np.poly1d([1, -0.5])
    second, fourth = (float((centred**k).coeffs[::-1] @ moments[: k + 1]) for k in (2, 4))
    # p^4 + (1 - p)^4 = 1/8 + 3 d^2 + 2 d^4 with d = p - 1/2, and d is halved.
    unanimous = 3 * second * (1 / 4 - 1) + 2 * fourth * (1 / 16 - 1)
    return (0.5 - truths(setting.population)["share"]) / 2, unanimous


def check_seven_labels(audits: int, random: np.random.Generator) -> dict[str, Any]:
    """Return coverage of corrected unanimity for seven labels with abstention."""
    rates = np.full((7, 8), 0.04)
    rates[:, 7] = 0.10
    rates[np.arange(7), np.arange(7)] = 0.66
    concentration = np.array([3.0, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1])
    total = concentration.sum()
    truth = sum(np.prod([(c + i) / (total + i) for i in range(SET_SIZE)]) for c in concentration)
    share = concentration[0] / total
    hits = np.zeros(2)
    for _ in range(audits):
        shares = random.dirichlet(concentration, size=40)
        rows = random.multinomial(9, shares @ rates)
        confusion = Confusion(np.stack([random.multinomial(200, row) for row in rates]))
        found = corrected_unanimity(rows, confusion=confusion, set_size=SET_SIZE, draws=300).interval
        one = corrected_share(rows, confusion=confusion, draws=300)
        hits += [found.low <= truth <= found.high, one.low <= share <= one.high]
    return {"audits": audits, "unanimity": hits[0] / audits, "share": hits[1] / audits}


def _as_limits(rows: list[tuple[float, float, float]]) -> Limits:
    value, low, high = np.array(rows).T
    return value, low, high
