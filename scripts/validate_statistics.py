"""Do the intervals cover? Simulated audits with known truth and planted classifier error.

Writes docs/validation.md and docs/validation.json. The full grid takes some ten minutes of a free core,
`--quick` half a minute:

    python -m scripts.validate_statistics [--quick] [--jobs 2] [--out docs]

Each audit draws the prompts' shares from a population, images from the shares, decisions from the error rates, and a
calibration set from the error rates. Everything inside an audit is done for many audits at once, with the functions
of `pipeline.statistics`; the first audit of every setting is repeated through its public functions and must agree.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from pipeline.statistics import (
    Confusion,
    Interval,
    corrected_share,
    corrected_unanimity,
    coverage_warnings,
    mean_share,
    subset_unanimity,
    unanimity,
)
from pipeline.statistics.arrays import FloatArray, IntArray
from pipeline.statistics.compositions import apportion, compositions, set_probabilities, set_scores
from pipeline.statistics.confusion import decision_scores
from pipeline.statistics.correction import confidence_draws, least_doubt, normal_draws
from pipeline.statistics.intervals import effective_size, wilson_limit

SET_SIZE = 4
LOW, HIGH = 0.93, 0.98
POPULATIONS = {"near 0": (1, 32), "near 0.5": (15, 15), "near 1": (32, 1), "mixed (U)": (0.3, 0.3)}
"""Beta distributions of the prompts' shares."""
IMAGES = (4, 9, 64)
PROMPTS = (5, 20, 150)
ERRORS = ((0.80, 0.80), (0.80, 0.99), (0.90, 0.90), (0.99, 0.99))
CALIBRATIONS = (200, 5000)
Limits = tuple[FloatArray, FloatArray, FloatArray]
"""Value, lower and upper limit, one of each per audit."""


@dataclass(frozen=True)
class Setting:
    """One row of the results."""

    population: str
    images: int
    prompts: int
    sensitivity: float | None
    specificity: float | None
    calibration: int | None

    def shares(self, audits: int, random: np.random.Generator) -> FloatArray:
        """Draw the prompts' shares, shape (audits, prompts)."""
        return random.beta(*POPULATIONS[self.population], size=(audits, self.prompts))


@dataclass(frozen=True)
class Result:
    """How an interval did in a setting."""

    setting: Setting
    estimate: str
    audits: int
    truth: float
    coverage: float
    too_high: float
    """Share of audits whose interval lies above the truth."""
    too_low: float
    width: float
    warned: float
    """Share of audits in which the tool warns."""

    @property
    def reached(self) -> bool:
        """Whether coverage is where it is wanted."""
        return LOW <= self.coverage <= HIGH


def truths(population: str) -> dict[str, float]:
    """Return mean share and mean unanimity of a Beta population."""
    a, b = POPULATIONS[population]
    rising = [np.prod([(x + i) / (a + b + i) for i in range(SET_SIZE)]) for x in (a, b)]
    return {"share": a / (a + b), "unanimity": float(sum(rising))}


def raw_limits(women: IntArray, images: int) -> dict[str, Limits]:
    """Return value and limits per audit, as `mean_share` and `unanimity` do for one."""
    prompts = women.shape[1]
    rows = np.column_stack([np.arange(images + 1), images - np.arange(images + 1)])
    lowest = float(subset_unanimity([[images // 2, images - images // 2]], set_size=SET_SIZE)[0])
    together = images == SET_SIZE
    values = {
        "share": (rows[:, 0] / images, prompts * images, np.inf, 0.0),
        "unanimity": (
            subset_unanimity(rows, set_size=SET_SIZE),
            prompts if together else prompts * images / SET_SIZE,
            np.inf if together else prompts * images,
            0.0 if together else lowest,
        ),
    }
    limits: dict[str, Limits] = {}
    for name, (table, independent, most, low) in values.items():
        scaled = np.clip((table[women] - low) / (1 - low), 0, 1)
        mean = scaled.mean(axis=1)
        size = effective_size(mean, scaled.var(axis=1, ddof=1), prompts=prompts, independent=independent, most=most)
        z = float(special.ndtri(0.975))
        lower = np.where(mean == 0, 0.0, wilson_limit(mean, size, -z))
        upper = np.where(mean == 1, 1.0, wilson_limit(mean, size, z))
        limits[name] = (low + (1 - low) * mean, low + (1 - low) * lower, low + (1 - low) * upper)
    return limits


def corrected_limits(
    women: IntArray, images: int, *, right: IntArray, calibrated: int, draws: int, random: np.random.Generator
) -> dict[str, Limits]:
    """Return value and limits per audit, as `corrected_share` and `corrected_unanimity` do for one.

    `right` holds the right decisions per audit and label, shape (audits, 2), of `calibrated` images each.
    """
    audits, prompts = women.shape
    wrong = calibrated - right
    confusion = np.stack([np.stack([right[:, 0], wrong[:, 0]], -1), np.stack([wrong[:, 1], right[:, 1]], -1)], 1)
    drawn = random.standard_gamma(confusion[:, np.newaxis] + 0.5, size=(audits, draws, 2, 2))
    scores = decision_scores(drawn / drawn.sum(axis=-1, keepdims=True))
    # A classifier no better than a coin has no inverse; its audits are those that `discrimination` refuses.
    point = decision_scores(confusion / calibrated + np.eye(2) * 1e-9)
    z = random.permuted(np.broadcast_to(normal_draws(draws, random), (audits, draws)), axis=1)
    rows = np.column_stack([np.arange(images + 1), images - np.arange(images + 1)])
    times = np.stack([np.bincount(row, minlength=images + 1) for row in women]).astype(np.float64)
    even = apportion((confusion / calibrated).mean(axis=1), images)[:, :1]
    nearest = np.take_along_axis(women, np.abs(women - even).argmin(axis=1, keepdims=True), axis=1)
    limits = {}
    for name, size, chosen, floor in (("share", 1, slice(0, 1), 0.0), ("unanimity", SET_SIZE, slice(None), 0.125)):
        ways = compositions(2, size)
        probabilities = set_probabilities(rows, ways)
        grid = np.broadcast_to(apportion(ways / size, images)[:, 0], (audits, len(ways)))
        # Of the observed rows, the outermost and the one closest to even have the extreme estimates.
        reach = np.column_stack([grid, even, nearest, women.min(axis=1), women.max(axis=1)])
        drawn_scores = set_scores(scores[:, :, chosen], ways)
        extremes = drawn_scores @ np.swapaxes(probabilities[reach], 1, 2)
        centre = times @ probabilities / prompts
        apart = probabilities - centre[:, np.newaxis]
        spread = np.swapaxes(apart * times[..., np.newaxis], 1, 2) @ apart / (prompts - 1)
        mean = (drawn_scores @ centre[..., np.newaxis])[..., 0]
        variance = np.maximum(((drawn_scores @ spread) * drawn_scores).sum(axis=2), 0.0)
        theta = confidence_draws(
            mean,
            variance,
            lowest=extremes.min(axis=2),
            highest=extremes.max(axis=2),
            z=z,
            prompts=prompts,
            independent=prompts * images / size,
            most=np.inf if size == 1 else prompts * images,
        )
        doubt = (1 - floor) * least_doubt(prompts=prompts, independent=prompts * images / size)
        low, high = np.clip(np.quantile(theta, [0.025, 0.975], axis=1), floor, 1)
        low, high = np.minimum(low, 1 - doubt), np.maximum(high, floor + doubt)
        estimate = set_scores(point[:, chosen], ways) @ probabilities.T
        value = np.clip((estimate * times).sum(axis=1) / prompts, floor, 1)
        limits[name] = (value, np.minimum(low, value), np.maximum(high, value))
    return limits


def summarise(
    setting: Setting,
    estimate: str,
    truth: float,
    limits: Limits,
    warned: float,
) -> Result:
    """Return how often limits cover."""
    _, low, high = limits
    slack = 1e-9
    too_high, too_low = float((low > truth + slack).mean()), float((high < truth - slack).mean())
    return Result(
        setting,
        estimate,
        len(low),
        truth,
        1 - too_high - too_low,
        too_high,
        too_low,
        float((high - low).mean()),
        warned,
    )


def intervals(limits: Limits, audit: int) -> Interval:
    """Return one audit's interval."""
    value, low, high = (float(part[audit]) for part in limits)
    return Interval(value, low, high, "")


def check_raw(setting: Setting, audits: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage of the uncorrected intervals where the classifier makes no error."""
    women = random.binomial(setting.images, setting.shares(audits, random))
    limits = raw_limits(women, setting.images)
    first = np.column_stack([women[0], setting.images - women[0]])
    public = {"share": mean_share(first), "unanimity": unanimity(first, set_size=SET_SIZE).interval}
    sample = min(audits, 100)
    warnings = [
        coverage_warnings(
            prompts=setting.prompts, share=intervals(limits["share"], a), unanimity=intervals(limits["unanimity"], a)
        )
        for a in range(sample)
    ]
    for name, truth in truths(setting.population).items():
        ours, theirs = intervals(limits[name], 0), public[name]
        assert np.allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=1e-6), (setting, ours, theirs)
        yield summarise(setting, name, truth, limits[name], np.mean([bool(w) for w in warnings]).item())


def check_corrected(setting: Setting, audits: int, *, draws: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage of the corrected intervals, and how seldom the uncorrected ones hold the truth."""
    assert setting.sensitivity is not None and setting.specificity is not None and setting.calibration is not None
    shares = setting.shares(audits, random)
    read = shares * setting.sensitivity + (1 - shares) * (1 - setting.specificity)
    women = random.binomial(setting.images, read)
    each = setting.calibration // 2
    right = random.binomial(each, [setting.sensitivity, setting.specificity], size=(audits, 2))
    # Batches keep the largest array near 100 MB.
    batch = max(1, 10_000_000 // (draws * 20))
    parts = [
        corrected_limits(
            women[i : i + batch],
            setting.images,
            right=right[i : i + batch],
            calibrated=each,
            draws=draws,
            random=random,
        )
        for i in range(0, audits, batch)
    ]
    limits: dict[str, Any] = {
        name: tuple(np.concatenate(columns) for columns in zip(*(p[name] for p in parts), strict=True))
        for name in ("share", "unanimity")
    }
    agree_with_public(women[0], right[0], each, setting, limits)
    raw = raw_limits(women, setting.images)
    sample = min(audits, 100)
    warned = np.mean([is_warned(a, setting, right=right, limits=limits, raw=raw) for a in range(sample)]).item()
    for name, truth in truths(setting.population).items():
        yield summarise(setting, f"corrected {name}", truth, limits[name], warned)
        yield summarise(setting, f"uncorrected {name}", truth, raw[name], warned)


def is_warned(audit: int, setting: Setting, *, right: IntArray, limits: dict[str, Any], raw: dict[str, Any]) -> bool:
    """Return whether the tool would warn in one audit."""
    assert setting.calibration is not None
    each = setting.calibration // 2
    sensitive, specific = right[audit].tolist()
    warnings = coverage_warnings(
        prompts=setting.prompts,
        share=intervals(raw["share"], audit),
        unanimity=intervals(raw["unanimity"], audit),
        confusion=Confusion.from_rates(sensitivity=(sensitive, each), specificity=(specific, each)),
        corrected_unanimity=intervals(limits["unanimity"], audit),
    )
    return bool(warnings)


def agree_with_public(women: IntArray, right: IntArray, each: int, setting: Setting, limits: dict[str, Any]) -> None:
    """Raise AssertionError unless the public functions give nearly the same limits (they draw other numbers)."""
    confusion = Confusion.from_rates(sensitivity=(int(right[0]), each), specificity=(int(right[1]), each))
    rows = np.column_stack([women, setting.images - women])
    public = {
        "share": corrected_share(rows, confusion=confusion),
        "unanimity": corrected_unanimity(rows, confusion=confusion, set_size=SET_SIZE).interval,
    }
    for name, theirs in public.items():
        ours = intervals(limits[name], 0)
        apart = max(abs(ours.low - theirs.low), abs(ours.high - theirs.high))
        assert apart < 0.04 + 0.2 * (theirs.high - theirs.low), (setting, name, ours, theirs)


def check_fixed_prompts(audits: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Return coverage for the given prompts alone, of the interval for them and of the default one."""
    rows = []
    for population, images, prompts in product(("near 0.5", "mixed (U)"), IMAGES, (20, 150)):
        setting = Setting(population, images, prompts, None, None, None)
        shares = setting.shares(1, random)[0]
        truth = float((shares**SET_SIZE + (1 - shares) ** SET_SIZE).mean())
        hits, widths = np.zeros(2), np.zeros(2)
        for _ in range(audits):
            women = random.binomial(images, shares)
            table = np.column_stack([women, images - women])
            for column, estimand in enumerate(("fixed", "population")):
                found = unanimity(table, set_size=SET_SIZE, estimand=estimand).interval  # type: ignore[arg-type]
                hits[column] += found.low <= truth <= found.high
                widths[column] += found.high - found.low
        rows.append(
            {
                "population": population,
                "images": images,
                "prompts": prompts,
                "fixed": hits[0] / audits,
                "fixed_width": widths[0] / audits,
                "default": hits[1] / audits,
                "default_width": widths[1] / audits,
            }
        )
    return rows


def check_bootstraps(audits: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Return coverage of the bootstraps that are not used, beside the default, for unanimity of nine images."""
    rows, images, draws = [], 9, 300
    table = subset_unanimity(np.column_stack([np.arange(images + 1), images - np.arange(images + 1)]))
    for population, prompts in product(POPULATIONS, PROMPTS):
        truth = truths(population)["unanimity"]
        hits = np.zeros(3)
        women = random.binomial(images, Setting(population, images, prompts, None, None, None).shares(audits, random))
        default = raw_limits(women, images)["unanimity"]
        hits[2] = ((default[1] <= truth) & (truth <= default[2])).sum()
        for audit in women:
            picked = audit[random.integers(prompts, size=(draws, prompts))]
            again = random.binomial(images, picked / images)
            for column, resampled in enumerate((picked, again)):
                low, high = np.quantile(table[resampled].mean(axis=1), [0.025, 0.975])
                hits[column] += low <= truth <= high
        one, two, ours = (hits / audits).tolist()
        rows.append(
            {"population": population, "prompts": prompts, "one stage": one, "two stages": two, "default": ours}
        )
    return rows


def compare_estimators(audits: int, draws: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Return bias, error and coverage of ways to correct unanimity: 20 prompts, 10% error, 200 calibration images.

    plug-in: each prompt's most likely share, to the fourth power; mixture: the non-parametric maximum-likelihood
    distribution of shares over prompts (empirical Bayes), by expectation-maximisation on a grid; both with
    percentile limits from resampling prompts and calibration images together. moments: what the tool does.
    """
    prompts, rate, each = 20, 0.9, 100
    results = []
    for population, images in product(POPULATIONS, (4, 9)):
        truth = truths(population)["unanimity"]
        shares = Setting(population, images, prompts, None, None, None).shares(audits, random)
        women = random.binomial(images, shares * rate + (1 - shares) * (1 - rate))
        right = random.binomial(each, rate, size=(audits, 2))
        values: dict[str, FloatArray] = {}
        limits: dict[str, tuple[FloatArray, FloatArray]] = {}
        raw = raw_limits(women, images)["unanimity"]
        values["none"], limits["none"] = raw[0], (raw[1], raw[2])
        moments = corrected_limits(women, images, right=right, calibrated=each, draws=400, random=random)["unanimity"]
        values["moments"], limits["moments"] = moments[0], (moments[1], moments[2])

        times = np.stack([np.bincount(row, minlength=images + 1) for row in women])
        resampled = np.stack([random.multinomial(prompts, t / prompts, size=draws) for t in times])
        rates = random.beta(right + 0.5, each - right + 0.5, size=(draws, audits, 2)).swapaxes(0, 1)
        for name, function in (("plug-in", plug_in), ("mixture", mixture)):
            values[name] = function(times, right / each)
            drawn = np.stack([function(h, r) for h, r in zip(resampled, rates, strict=True)])
            low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
            limits[name] = (low, high)
        for name, value in values.items():
            low, high = limits[name]
            results.append(
                {
                    "population": population,
                    "images": images,
                    "estimator": name,
                    "truth": truth,
                    "bias": float(value.mean() - truth),
                    "rmse": float(np.sqrt(((value - truth) ** 2).mean())),
                    "coverage": float(((low <= truth) & (truth <= high)).mean()),
                    "width": float((high - low).mean()),
                }
            )
    return results


def plug_in(times: IntArray, rates: FloatArray) -> FloatArray:
    """Return unanimity from each prompt's own most likely share; times (audits, images + 1), rates (audits, 2)."""
    images = times.shape[1] - 1
    read = np.arange(images + 1) / images
    wrong = 1 - rates[:, 1:]
    share = np.clip((read - wrong) / (rates[:, :1] - wrong), 0, 1)
    value: FloatArray = ((share**SET_SIZE + (1 - share) ** SET_SIZE) * times).sum(axis=1) / times.sum(axis=1)
    return value


def mixture(times: IntArray, rates: FloatArray, *, steps: int = 80) -> FloatArray:
    """Return unanimity under the most likely distribution of shares; shapes as in `plug_in`."""
    images = times.shape[1] - 1
    grid = np.linspace(0, 1, 31)
    read = rates[:, :1] * grid + (1 - rates[:, 1:]) * (1 - grid)
    count = np.arange(images + 1)
    choose = special.comb(images, count)
    likelihood = choose * read[..., np.newaxis] ** count * (1 - read[..., np.newaxis]) ** (images - count)
    weights = np.full(read.shape, 1 / len(grid))
    for _ in range(steps):
        total = (weights[:, np.newaxis] @ likelihood)[:, 0]
        weights *= (likelihood @ (times / np.maximum(total, 1e-300))[..., np.newaxis])[..., 0]
        weights /= weights.sum(axis=1, keepdims=True)
    return weights @ (grid**SET_SIZE + (1 - grid) ** SET_SIZE)


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


def reason(result: Result) -> str:
    """Return why a setting misses the wanted coverage."""
    setting = result.setting
    mean = truths(setting.population)["share"]
    rare = min(mean, 1 - mean) * setting.images * setting.prompts
    conservative = result.coverage > HIGH
    if setting.prompts < 10:
        if conservative:
            return "5 prompts: their spread is hardly known, and limits allow for it"
        if result.estimate == "unanimity" and setting.images == SET_SIZE:
            return "5 prompts, each unanimous or not: counts are too coarse to hit 95%"
        return "5 prompts: prompts of a rare kind are missed"
    if "unanimity" in result.estimate and setting.population == "near 0.5":
        least = "unanimity near its least possible value"
        if conservative:
            return f"{least}: prompts agree more than chance allows to count on"
        if setting.calibration is not None and result.too_high > result.too_low:
            return f"{least}, which calibration error can only raise"
        return f"{least}, so its estimate is skewed"
    if conservative and result.estimate == "corrected unanimity":
        return "the effective number of prompts is capped where most of them agree"
    if rare < 30:
        return "fewer than 30 images of the rare label: counts are too coarse to hit 95%"
    return "not explained"


def report(results: list[Result], extra: dict[str, Any], *, audits: int, draws: int) -> str:
    """Return docs/validation.md."""
    checked = [r for r in results if not r.estimate.startswith("uncorrected")]
    missed = [r for r in checked if not r.reached]
    lines = [
        "# Validation: do the intervals cover?",
        "",
        "Written by `python -m scripts.validate_statistics`; the numbers are in `validation.json`. Formulas are in",
        "[method.md](method.md).",
        "",
        f"{audits:,} simulated audits per setting, {draws} draws of the error rates each. Prompts' shares come from",
        "a Beta distribution: near 0 is Beta(1, 32), near 0.5 Beta(15, 15), near 1 Beta(32, 1), mixed Beta(0.3, 0.3),",
        "whose prompts are mostly close to all of one label. The truth is that population's mean. A 95% interval",
        f"should cover it in 93% to 98% of audits; with {audits:,} audits chance alone moves a figure by one point.",
        "",
        "## Summary",
        "",
        "| estimate | settings | within 93-98% | below 93% | above 98% | lowest | median | highest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r.estimate for r in results):
        group = [r for r in results if r.estimate == name]
        values = np.array([r.coverage for r in group])
        below, above = int((values < LOW).sum()), int((values > HIGH).sum())
        lines.append(
            f"| {name} | {len(group)} | {len(group) - below - above} | {below} | {above} | {values.min():.3f} "
            f"| {np.median(values):.3f} | {values.max():.3f} |"
        )
    with_20 = [r for r in checked if r.setting.prompts >= 20]
    lines += [
        "",
        f"With 20 prompts or more, {sum(r.reached for r in with_20)} of {len(with_20)} are within (uncorrected ones left "
        f"out), {sum(r.coverage < LOW for r in with_20)} below, and the",
        f"lowest is {min((r.coverage for r in with_20), default=1):.3f}. Uncorrected estimates speak of what the "
        "classifier reads; beside the",
        "truth of a generator they are listed only to show what is lost without a correction.",
        "",
        "## Settings that miss",
        "",
        "Below 93% an interval is not valid. `warned` is the share of audits in which the tool prints a warning",
        "(`coverage_warnings`).",
        "",
        "| estimate | population | images | prompts | sens. / spec. | calibration | coverage | above / below truth "
        "| warned | reason |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted((r for r in missed if r.coverage < LOW), key=lambda r: r.coverage):
        s = r.setting
        rates = "-" if s.sensitivity is None else f"{s.sensitivity:.2f} / {s.specificity:.2f}"
        lines.append(
            f"| {r.estimate} | {s.population} | {s.images} | {s.prompts} | {rates} | {s.calibration or '-'} "
            f"| {r.coverage:.3f} | {r.too_high:.3f} / {r.too_low:.3f} | {r.warned:.2f} | {reason(r)} |"
        )
    lines += [
        "",
        "Above 98% an interval is valid and wider than it needs to be. These are so many that they are listed by reason;",
        "each is in `validation.json` (`reached` is false).",
        "",
        "| estimate | reason | settings | coverage | warned |",
        "|---|---|---|---|---|",
    ]
    wide: dict[tuple[str, str], list[Result]] = {}
    for r in missed:
        if r.coverage > HIGH:
            wide.setdefault((r.estimate, reason(r)), []).append(r)
    for (estimate, why), group in sorted(wide.items(), key=lambda item: -len(item[1])):
        reached, warned = [r.coverage for r in group], [r.warned for r in group]
        lines.append(
            f"| {estimate} | {why} | {len(group)} | {min(reached):.3f} to {max(reached):.3f} "
            f"| {min(warned):.2f} to {max(warned):.2f} |"
        )
    lines += [
        "",
        "## Which way to correct unanimity",
        "",
        "20 prompts, sensitivity and specificity 0.90, 200 calibration images. `none` is the uncorrected figure;",
        "`plug-in` takes each prompt's most likely share to the fourth power; `mixture` is empirical Bayes with the",
        "non-parametric maximum-likelihood distribution of shares; both with a percentile bootstrap over prompts and",
        "calibration. `moments` is what the tool does.",
        "",
        "| population | images | estimator | truth | bias | root mean square error | coverage | mean width |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['images']} | {r['estimator']} | {r['truth']:.3f} | {r['bias']:+.3f} "
            f"| {r['rmse']:.3f} | {r['coverage']:.3f} | {r['width']:.2f} |"
            for r in extra["estimators"]
        ),
        "",
        "## Bootstraps beside the default",
        "",
        "Coverage of unanimity of nine images. One stage resamples prompts; two stages resample their images too.",
        "",
        "| population | prompts | one stage | two stages | default |",
        "|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['prompts']} | {r['one stage']:.3f} | {r['two stages']:.3f} "
            f"| {r['default']:.3f} |"
            for r in extra["bootstraps"]
        ),
        "",
        "## The given prompts alone",
        "",
        "Coverage of unanimity of one fixed list of prompts whose images are made anew, by the interval for that and",
        "by the default one, which also covers other prompts like these and is therefore wider here.",
        "",
        "| population | images | prompts | `fixed` | its width | default | its width |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['population']} | {r['images']} | {r['prompts']} | {r['fixed']:.3f} | {r['fixed_width']:.2f} "
            f"| {r['default']:.3f} | {r['default_width']:.2f} |"
            for r in extra["fixed"]
        ),
        "",
        "## Seven labels with abstention",
        "",
        f"40 prompts, 9 images, 66% right, 10% abstentions, 200 calibration images per label: unanimity covered in "
        f"{extra['seven_labels']['unanimity']:.3f} and",
        f"the first label's share in {extra['seven_labels']['share']:.3f} of {extra['seven_labels']['audits']} audits.",
        "",
    ]
    return "\n".join(lines)


def write_json(path: Path, results: list[Result], extra: dict[str, Any]) -> None:
    """Write everything, one setting a line."""
    rows = []
    for r in results:
        row = {**asdict(r.setting), **{k: v for k, v in asdict(r).items() if k != "setting"}, "reached": r.reached}
        rows.append(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}))
    rest = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in extra.items())
    lines = ",\n".join(rows)
    path.write_text(f'{{{rest},\n"results": [\n{lines}\n]}}\n', encoding="utf-8")


Task = tuple[str, Any, int, int, int]
"""What to run, on what, with how many audits and draws, and its seed."""


def run_task(task: Task) -> Any:
    """Run one piece of the grid; pieces have seeds of their own, so their order and the number of jobs do not matter."""
    name, setting, audits, draws, seed = task
    random = np.random.default_rng(seed)
    match name:
        case "raw":
            return list(check_raw(setting, audits, random))
        case "corrected":
            return list(check_corrected(setting, audits, draws=draws, random=random))
        case "estimators":
            return compare_estimators(audits, draws, random)
        case "bootstraps":
            return check_bootstraps(audits, random)
        case "fixed":
            return check_fixed_prompts(audits, random)
        case _:
            return check_seven_labels(audits, random)


def tasks(*, quick: bool, seed: int) -> list[Task]:
    """Return all pieces of the grid, the long ones first."""
    audits, draws = (200, 300) if quick else (2000, 400)
    extra = {"estimators": 40, "bootstraps": 50, "fixed": 50, "seven_labels": 10}
    if not quick:
        extra = {"estimators": 200, "bootstraps": 500, "fixed": 1000, "seven_labels": 200}
    found: list[Task] = [(name, None, number, 40 if quick else 100, 0) for name, number in extra.items()]
    grid = list(product(POPULATIONS, IMAGES, (5, 20) if quick else PROMPTS))
    found += [("raw", Setting(*cell, None, None, None), audits, draws, 0) for cell in grid]
    for (sensitivity, specificity), calibration in product(ERRORS[2:3] if quick else ERRORS, CALIBRATIONS):
        found += [
            ("corrected", Setting(*cell, sensitivity, specificity, calibration), audits, draws, 0) for cell in grid
        ]
    return [(*task[:4], seed * 100_000 + number) for number, task in enumerate(found)]


def main() -> None:
    """Run the grid and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small grid with few audits")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for validation.md and validation.json")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers; 0 wrote the files in docs")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    started, results, extra = time.monotonic(), [], {}
    todo = tasks(quick=options.quick, seed=options.seed)
    with ProcessPoolExecutor(options.jobs) as pool:
        for number, (task, found) in enumerate(zip(todo, pool.map(run_task, todo), strict=True), start=1):
            if task[0] in ("raw", "corrected"):
                results += found
            else:
                extra[task[0]] = found
            print(f"{number}/{len(todo)} {time.monotonic() - started:.0f} s {task[0]} {task[1] or ''}", flush=True)
    audits, draws = todo[-1][2:4]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out / "validation.json", results, {"audits": audits, "draws": draws, "seed": options.seed, **extra}
    )
    (options.out / "validation.md").write_text(report(results, extra, audits=audits, draws=draws), encoding="utf-8")
    print(f"wrote {options.out / 'validation.md'} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
