"""What the tool does beside what it might have done: other ways to correct unanimity, bootstraps, the given prompts alone."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from scipy import special

from allfour.pipeline.statistics import subset_unanimity, unanimity
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from scripts.validation.alternatives import fixed_unanimity
from scripts.validation.audits import corrected_limits, raw_limits
from scripts.validation.settings import IMAGES, POPULATIONS, PROMPTS, SET_SIZE, Setting, truths


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
            both = fixed_unanimity(table, set_size=SET_SIZE), unanimity(table, set_size=SET_SIZE).interval
            for column, found in enumerate(both):
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
