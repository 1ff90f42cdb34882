"""Audits without and with classifier error, many at once, with the functions of `allfour.pipeline.statistics`.

The first audit of every setting is repeated through the public functions and must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from allfour.pipeline.statistics import (
    Confusion,
    Interval,
    corrected_share,
    corrected_unanimity,
    coverage_warnings,
    mean_share,
    unanimity,
)
from allfour.pipeline.statistics.arrays import IntArray
from allfour.pipeline.statistics.compositions import apportion, compositions, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import decision_scores
from allfour.pipeline.statistics.correction import confidence_draws, least_doubt, normal_draws
from scripts.validation.settings import SET_SIZE, Limits, Result, Setting, intervals, summarise, truths


def raw_limits(women: IntArray, images: int) -> dict[str, Limits]:
    """Return value and limits per audit, as `mean_share` and `unanimity` do for one.

    `seen` are the limits of unanimity from the spread between prompts as it was seen, by which a run is warned about.
    """
    # unanimity does not depend on which of the two labels an image has
    fewer = np.minimum(women, images - women)
    share = _once(women, images, lambda rows: (mean_share(rows),))[0]
    agreeing, seen = _once(fewer, images, _unanimity)
    return {"share": share, "unanimity": agreeing, "seen": seen}


def _unanimity(rows: IntArray) -> tuple[Interval, Interval]:
    found = unanimity(rows, set_size=SET_SIZE)
    assert found.seen is not None
    return found.interval, found.seen


def _once(women: IntArray, images: int, estimate: Callable[[IntArray], Sequence[Interval]]) -> list[Limits]:
    """Return value and limits per audit, of each estimate; audits with the same counts in another order are one."""
    found, place = np.unique(np.sort(women, axis=1), axis=0, return_inverse=True)
    each = [estimate(np.column_stack([row, images - row])) for row in found]
    table = np.array([[(e.value, e.low, e.high) for e in one] for one in each], dtype=np.float64)[place.ravel()]
    return [(part[:, 0], part[:, 1], part[:, 2]) for part in np.swapaxes(table, 0, 1)]


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


def check_raw(setting: Setting, audits: int, random: np.random.Generator) -> Iterator[Result]:
    """Yield coverage of the uncorrected intervals where the classifier makes no error."""
    women = random.binomial(setting.images, setting.shares(audits, random))
    limits = raw_limits(women, setting.images)
    first = np.column_stack([women[0], setting.images - women[0]])
    public = {"share": mean_share(first), "unanimity": unanimity(first, set_size=SET_SIZE).interval}
    sample = min(audits, 100)
    warnings = [
        coverage_warnings(
            prompts=setting.prompts,
            share=intervals(limits["share"], a),
            unanimity=intervals(limits["seen"], a),
            other_images=other_images(women[a], setting),
        )
        for a in range(sample)
    ]
    for name, truth in truths(setting.population).items():
        ours, theirs = intervals(limits[name], 0), public[name]
        assert np.allclose([ours.low, ours.high], [theirs.low, theirs.high], atol=1e-6), (setting, ours, theirs)
        yield summarise(
            setting, name, truth=truth, limits=limits[name], warned=np.mean([bool(w) for w in warnings]).item()
        )


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
    warned = np.mean(
        [is_warned(a, setting, women=women, right=right, limits=limits, raw=raw) for a in range(sample)]
    ).item()
    for name, truth in truths(setting.population).items():
        yield summarise(setting, f"corrected {name}", truth=truth, limits=limits[name], warned=warned)
        yield summarise(setting, f"uncorrected {name}", truth=truth, limits=raw[name], warned=warned)


def other_images(women: IntArray, setting: Setting) -> int:
    """Return how many images of an audit have another label than the commonest."""
    one = int(women.sum())
    return min(one, setting.images * setting.prompts - one)


def is_warned(
    audit: int, setting: Setting, *, women: IntArray, right: IntArray, limits: dict[str, Any], raw: dict[str, Any]
) -> bool:
    """Return whether the tool would warn in one audit."""
    assert setting.calibration is not None
    each = setting.calibration // 2
    sensitive, specific = right[audit].tolist()
    warnings = coverage_warnings(
        prompts=setting.prompts,
        share=intervals(raw["share"], audit),
        unanimity=intervals(raw["seen"], audit),
        other_images=other_images(women[audit], setting),
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
