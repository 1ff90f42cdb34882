"""Warnings beside intervals: the settings of docs/validation.md that cover in fewer than 93% of audits are warned about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from allfour.pipeline.statistics import (
    Confusion,
    comparison_coverage_warnings,
    coverage_warnings,
    mean_share,
    subset_unanimity,
    unanimity,
)
from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.intervals import Interval, wilson


def few(prompts: int = 20, **given: object) -> list[str]:
    return [warning.code for warning in coverage_warnings(prompts=prompts, **given)]  # type: ignore[arg-type]


def estimate(value: float) -> Interval:
    return Interval(value, 0.0, 1.0, "wilson")


def test_few_images_of_another_label_are_warned_of_below_thirty() -> None:
    assert few(unanimity=estimate(0.8), other_images=29) == ["rare-label"]
    assert few(unanimity=estimate(0.8), other_images=30) == []
    assert few(unanimity=estimate(0.8)) == []


def test_a_classifier_that_errs_in_a_fifth_of_images_is_warned_of() -> None:
    """The corrected setting 0.80 / 0.80 that covered 92.7%: J = 0.60."""
    poor = Confusion.from_rates(sensitivity=(2000, 2500), specificity=(2000, 2500))
    fair = Confusion.from_rates(sensitivity=(2250, 2500), specificity=(2000, 2500))
    assert few(unanimity=estimate(0.7), confusion=poor) == ["weak-classifier"]
    assert few(unanimity=estimate(0.7), confusion=fair) == []


def test_full_agreement_is_one_sentence_and_not_two() -> None:
    found = few(share=estimate(1.0), unanimity=estimate(1.0), first_set=estimate(1.0), other_images=0)
    assert found == ["agreement"]


def test_the_first_set_and_all_images_near_chance_are_one_sentence() -> None:
    assert few(unanimity=estimate(0.15), first_set=estimate(0.2), other_images=500) == ["near-chance"]
    assert few(unanimity=estimate(0.15), first_set=estimate(0.5), other_images=500) == ["near-chance"]
    assert few(unanimity=estimate(0.5), first_set=estimate(0.2), other_images=500) == ["near-chance"]


def test_no_label_at_all_is_neither_agreement_nor_nearness_to_chance() -> None:
    nothing = mean_share(np.zeros((20, 2), dtype=int))
    none = unanimity(np.zeros((20, 2), dtype=int), unresolved=4)
    assert (nothing.value, none.interval.value) == (None, 0.0)
    assert few(share=nothing, unanimity=none.interval, first_set=none.interval) == []
    # where images have labels, a unanimity of 0 is what it says
    even = np.full((20, 2), 2)
    found = few(share=mean_share(even), unanimity=unanimity(even).interval, first_set=none.interval, other_images=40)
    assert found == ["agreement"]


def test_below_chance_is_not_near_chance() -> None:
    """230 of 5,000 sets agree: what even draws give, 12.5%, is ruled out. 0 of 6 leave it open, and nothing is said."""
    many, few_sets = wilson(230, 5000), wilson(0, 6)
    assert few(5000, unanimity=many, first_set=many, other_images=5000) == ["below-chance"]
    assert few_sets.high > 0.125
    assert few(20, first_set=few_sets, other_images=50) == ["agreement"]


def test_without_a_prompt_there_is_no_interval_to_warn_of() -> None:
    assert few(0, share=estimate(1.0), other_images=3) == []
    (warning,) = coverage_warnings(prompts=1)
    assert warning.message.startswith("Only 1 prompt: ")


def test_a_comparison_is_warned_of_for_either_run() -> None:
    def codes(unanimous: list[float | None], others: list[int | None], labels: int = 2) -> list[str]:
        found = comparison_coverage_warnings(unanimity=unanimous, other_images=others, labels=labels)
        return [warning.code for warning in found]

    assert codes([0.6, 0.7], [100, 30]) == []
    assert codes([0.6, 0.24], [100, 30]) == ["near-chance"]
    assert codes([0.6, 0.24], [100, 30], labels=3) == []
    assert codes([0.6, 0.7], [29, 100]) == ["rare-label"]
    assert codes([None, None], [None, None]) == []
    assert codes([0.0, 0.6], [None, 100]) == []  # no image of the first has a label


def single(shares: FloatArray, images: int, random: np.random.Generator) -> bool:
    table = tables(shares, images, random)
    return bool(
        coverage_warnings(
            prompts=len(shares),
            share=mean_share(table),
            unanimity=unanimity(table).interval,
            other_images=int(table.sum(axis=0).min()),
        )
    )


def pair(shares: FloatArray, images: int, random: np.random.Generator) -> bool:
    runs = [tables(shares, images, random), tables((shares + 0.5) / 2, images, random)]
    return bool(
        comparison_coverage_warnings(
            unanimity=[float(subset_unanimity(table, set_size=4).mean()) for table in runs],
            other_images=[int(table.sum(axis=0).min()) for table in runs],
        )
    )


def tables(shares: FloatArray, images: int, random: np.random.Generator) -> IntArray:
    women = random.binomial(images, shares)
    return np.column_stack([women, images - women])


@pytest.mark.parametrize(
    ("audit", "images", "a", "b"),
    [(pair, 64, 15, 15), (pair, 9, 1, 32), (single, 4, 1, 32)],
    ids=["difference near 0.5, 64 images", "difference near 0, 9 images", "unanimity near 0, 4 images"],
)
def test_settings_of_20_prompts_below_93_percent_are_warned_of(
    audit: Callable[[FloatArray, int, np.random.Generator], bool], images: int, a: float, b: float
) -> None:
    random = np.random.default_rng(1)
    warned = [audit(random.beta(a, b, size=20), images, random) for _ in range(200)]
    assert np.mean(warned) > 0.9


def test_a_usual_audit_is_not_warned_of() -> None:
    random = np.random.default_rng(1)
    assert not any(single(random.beta(0.3, 0.3, size=50), 9, random) for _ in range(50))
    for _ in range(50):
        runs = [tables(random.beta(0.3, 0.3, size=50), 9, random) for _ in range(2)]
        values = [float(subset_unanimity(table, set_size=4).mean()) for table in runs]
        others = [int(table.sum(axis=0).min()) for table in runs]
        assert comparison_coverage_warnings(unanimity=values, other_images=others) == []
