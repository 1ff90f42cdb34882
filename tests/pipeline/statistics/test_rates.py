"""A rate over prompts that is rare and goes by the prompt: limits that hold it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from allfour.pipeline.statistics import mean_over_prompts, rate_over_prompts, rates, wilson
from allfour.pipeline.statistics.rates import beta_binomial_limits


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


@pytest.mark.parametrize(("prompts", "images"), [(5, 16), (7, 16), (10, 8)])
def test_a_mean_is_held_where_one_prompt_in_ten_differs(prompts: int, images: int) -> None:
    """From the spread as it is seen alone the three are held in 65%, 64% and 75% of runs: the other kind is often not drawn."""
    random = np.random.default_rng(1)
    truth, hit = 0.9 * 0.97 + 0.1 * 0.1, 0
    for own in np.where(random.random((150, prompts)) < 0.1, 0.1, 0.97):
        found = rate_over_prompts(random.binomial(images, own), trials=[images] * prompts)
        hit += found.low <= truth <= found.high
    assert hit >= 0.9 * 150


def test_limits_are_never_narrower_than_those_of_the_spread_that_was_seen() -> None:
    """The model fails where prompts are of two kinds, which no Beta distribution describes."""
    random = np.random.default_rng(2)
    for _ in range(40):
        trials = random.integers(2, 9, 12)
        events = random.binomial(trials, random.choice([0.0, 0.5, 1.0], 12))
        if not 0 < events.sum() < trials.sum():
            continue
        plain, found = (
            mean_over_prompts(events / trials, independent=float(trials.sum())),
            rate_over_prompts(events, trials=trials),
        )
        low, high = beta_binomial_limits(events, trials, 0.95)
        assert (found.low, found.high) == (min(plain.low, low), max(plain.high, high))


@pytest.mark.parametrize("images", [64, 65])
def test_sums_of_logarithms_and_gamma_functions_agree(images: int) -> None:
    events, trials = np.array([images, 3, 0, images // 2]), np.array([images, 7, 5, images])
    low, high = beta_binomial_limits(events, trials, 0.95)
    means = np.linspace(0, np.pi / 2, 801)[1:-1]
    m, mass = np.sin(means) ** 2, np.zeros(len(means))
    for rho in (np.arange(100) + 0.5) / 100:
        a, b = m * (1 / rho - 1), (1 - m) * (1 / rho - 1)
        mass += np.exp(
            sum(special.betaln(a + k, b + n - k) - special.betaln(a, b) for k, n in zip(events, trials, strict=True))
            + 90
        )
    reached = np.cumsum(mass) / mass.sum()
    by_hand = np.sin(np.interp([0.025, 0.975], reached, means)) ** 2
    assert (low, high) == (pytest.approx(by_hand[0], abs=0.003), pytest.approx(by_hand[1], abs=0.003))


def test_one_image_of_each_prompt_has_wilson_s_limits() -> None:
    found = rate_over_prompts([1] * 3 + [0] * 5, trials=[1] * 8)
    assert (found.low, found.high) == (pytest.approx(wilson(3, 8).low), pytest.approx(wilson(3, 8).high))


def test_limits_of_the_same_counts_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events, trials = np.array([3, 1, 0, 2, 7, 0]), np.array([8, 8, 5, 8, 8, 9])
    found = rate_over_prompts(events, trials=trials)
    assert rates.beta_binomial_limits(events, trials, 0.95) == rates._limits(events, trials, 0.95)
    assert rate_over_prompts(events, trials=trials, confidence=0.9).high < found.high
    monkeypatch.setattr(rates, "_limits", lambda *arguments: pytest.fail("they were found before"))
    assert rate_over_prompts(events, trials=trials) == found


def test_of_very_many_prompts_none_are_kept() -> None:
    before = rates._kept_limits.cache_info().currsize
    events = np.zeros(rates._KEPT_PROMPTS + 1, dtype=np.int64)
    events[:5] = 1
    rate_over_prompts(events, trials=np.full(len(events), 4))
    assert rates._kept_limits.cache_info().currsize == before
