"""A rate over prompts that is rare and goes by the prompt: limits that hold it."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline.statistics import mean_over_prompts, rate_over_prompts, wilson


def covered(rate: float, *, prompts: int, images: int, runs: int, spread: float = 4.0) -> float:
    """Share of runs whose limits hold the mean of prompts' own rates, which are Beta distributed."""
    random = np.random.default_rng(7)
    hit = 0
    for _ in range(runs):
        own = random.beta(rate * spread, (1 - rate) * spread, prompts)
        found = rate_over_prompts(random.binomial(images, own), trials=[images] * prompts)
        hit += found.low <= rate <= found.high
    return hit / runs


@pytest.mark.parametrize(
    ("rate", "prompts", "images", "runs"), [(0.05, 10, 16, 120), (0.1, 20, 16, 80), (0.3, 50, 8, 1000)]
)
def test_planted_rates_are_held(rate: float, prompts: int, images: int, runs: int) -> None:
    """By the observed spread alone the first would be held in 83% of runs."""
    assert covered(rate, prompts=prompts, images=images, runs=runs) >= 0.92


def test_nothing_seen_is_not_read_as_so_many_images() -> None:
    assert rate_over_prompts([0] * 20, trials=[50] * 20).high == wilson(0, 20).high
    assert rate_over_prompts([50] * 20, trials=[50] * 20).low == wilson(20, 20).low


def test_one_prompt_refused_in_all_its_images_counts_as_one() -> None:
    whole = rate_over_prompts([8, *[0] * 19], trials=[8] * 20)
    strewn = rate_over_prompts([1] * 8 + [0] * 12, trials=[8] * 20)
    assert whole.value == strewn.value == pytest.approx(0.05)
    assert whole.high > strewn.high and whole.low < strewn.low


def test_what_happened_and_what_did_not_are_alike() -> None:
    one, other = rate_over_prompts([3, 1, 0, 0], trials=[4] * 4), rate_over_prompts([1, 3, 4, 4], trials=[4] * 4)
    assert (one.low, one.high) == (pytest.approx(1 - other.high), pytest.approx(1 - other.low))


def test_many_prompts_of_either_kind_need_no_model() -> None:
    events, trials = [0] * 20 + [2] * 10 + [4] * 20, [4] * 50
    plain = mean_over_prompts(np.array(events) / 4, independent=200)
    found = rate_over_prompts(events, trials=trials)
    assert (found.low, found.high, found.method) == (plain.low, plain.high, plain.method)


def test_a_narrow_mass_is_found_between_the_points_of_the_first_grid() -> None:
    found = rate_over_prompts([1] * 19 + [0] * 99_981, trials=[4] * 100_000)
    assert found.low == pytest.approx(19 / 400_000 * 0.63, rel=0.1) and found.high == pytest.approx(
        19 / 400_000 * 1.55, rel=0.1
    )


def test_a_rate_that_goes_with_the_number_of_images_is_within_its_limits() -> None:
    found = rate_over_prompts([1, 1, 1, *[0] * 60], trials=[1, 1, 1, *[64] * 60])
    assert found.low < found.value < found.high and found.value == pytest.approx(3 / 63)


def test_prompts_without_an_image_are_left_out() -> None:
    assert rate_over_prompts([1, 0, 0], trials=[4, 4, 0]) == rate_over_prompts([1, 0], trials=[4, 4])
    nothing = rate_over_prompts([0], trials=[0])
    assert (nothing.value, nothing.low, nothing.high) == (None, 0.0, 1.0)


def test_more_events_than_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no more events than trials"):
        rate_over_prompts([5], trials=[4])
