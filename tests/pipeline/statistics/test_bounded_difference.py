"""Limits of differences where a kind of prompt that changed was not drawn, against draws of random weights and in simulated pairs."""

from __future__ import annotations

import doctest
import sys

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.bounded_difference import (
    bounded_difference,
    difference_beyond,
    difference_from_zero,
    drawn_means,
)

ONE_IN_TEN = 0.1


def pairs(runs: int, prompts: int, images: int, *, before: float, after: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Women of even or fixed prompts in two runs, of which one prompt in ten changes its share from `before` to `after`."""
    random = np.random.default_rng(7)
    changed = random.random((runs, prompts)) < ONE_IN_TEN
    first = random.binomial(images, np.full((runs, prompts), before))
    second = random.binomial(images, np.where(changed, after, before))
    return list(zip(first, second, strict=True))


def table(women: np.ndarray, images: int) -> np.ndarray:
    return np.column_stack([women, images - women])


def test_limits_and_chances_are_those_of_random_weights() -> None:
    d = np.array([0.3, -0.1, 0.0, 0.7, 0.0, 0.2])
    low, high = bounded_difference(d)
    drawn = drawn_means(np.tile(d, (200_000, 1)), np.ones(6), np.random.default_rng(1))
    assert [low, high] == pytest.approx([np.quantile(drawn[0], 0.025), np.quantile(drawn[1], 0.975)], abs=4e-3)
    assert difference_beyond(d, 0.3) == pytest.approx((drawn[1] >= 0.3).mean(), abs=4e-3)
    assert difference_from_zero(d) == pytest.approx(2 * (drawn[0] <= 0).mean(), abs=6e-3)
    assert bounded_difference(-d) == pytest.approx((-high, -low))
    assert difference_from_zero(np.zeros(4)) == 1.0


def test_differences_that_are_all_as_large_as_can_be() -> None:
    low, high = bounded_difference(np.ones(10))
    assert (low, high) == (pytest.approx(2 * st.wilson(10, 10).low - 1), 1.0)
    assert difference_beyond(np.ones(10), 0.5) == 1.0


def test_unanimity_holds_where_one_prompt_in_ten_changed() -> None:
    """Student's limits held it in 67% of such pairs, and 35% of them were called equal within 8 points."""
    runs = pairs(200, 10, 16, before=0.5, after=1.0)
    truth = ONE_IN_TEN * (1 - 0.125)
    held = called = 0
    for women in runs:
        sides = [st.ReadImages(table(w, 16), 2) for w in women]
        found = st.unanimity_difference(*sides, margin=0.08, test_draws=99)
        assert found.bounds is not None and found.measured.equivalent is not None
        held += found.measured.interval.low <= truth <= found.measured.interval.high
        called += found.measured.equivalent <= 0.05
        assert found.bounds.low == pytest.approx(found.measured.interval.low, abs=1e-6)
    assert held >= 190 and called == 0


def test_shares_hold_where_one_prompt_in_ten_changed() -> None:
    """Student's limits held it in 70% of such pairs."""
    held = 0
    for one, two in pairs(200, 10, 16, before=1.0, after=0.5):
        found = st.rate_difference(one, two, trials=([16] * 10, [16] * 10), draws=99).interval
        held += found.low <= -ONE_IN_TEN / 2 <= found.high
    assert held >= 190


def test_limits_of_shares_are_nowhere_wider_than_of_runs_that_share_no_prompts() -> None:
    one, two, images = [8, 7, 9, 8] * 5, [8, 9, 8, 7] * 5, [16] * 20
    found = st.rate_difference(one, two, trials=(images, images)).interval
    own = [st.rate_over_prompts(side, trials=images) for side in (one, two)]
    low, _ = bounded_difference((np.array(two) - np.array(one)) / 16)
    unpaired = np.hypot(own[1].value - own[1].low, own[0].high - own[0].value)
    assert found.low == pytest.approx(found.value - unpaired)
    assert found.low > low + 0.02


def test_corrected_limits_hold_where_one_prompt_in_ten_changed() -> None:
    confusion = st.Confusion.from_rates(sensitivity=(2475, 2500), specificity=(2475, 2500))
    truth = ONE_IN_TEN * (1 - 0.125)
    random = np.random.default_rng(2)
    held = 0
    for women in pairs(60, 10, 16, before=0.5, after=1.0):
        read = [random.binomial(w, 0.99) + random.binomial(16 - w, 0.01) for w in women]
        found = st.corrected_difference(
            *(st.ReadImages(table(w, 16), 2, 0, confusion) for w in read),
            shared_calibration=True, draws=400, test_draws=99,
        )  # fmt: skip
        assert found is not None
        held += found.interval.low <= truth <= found.interval.high
    assert held >= 56


def test_one_set_of_each_prompt_keeps_students_limits() -> None:
    one, two = (st.ReadImages(table(np.array(w), 4), 2) for w in ([4, 4, 2, 1, 0], [4, 2, 2, 1, 3]))
    found = st.unanimity_difference(one, two).measured.interval
    plain = st.paired_difference([1, 1, 0, 0, 1], [1, 0, 0, 0, 0], single=True).interval
    assert (found.low, found.high) == (plain.low, plain.high)


def test_the_examples_are_right() -> None:
    assert doctest.testmod(sys.modules[bounded_difference.__module__]).failed == 0
