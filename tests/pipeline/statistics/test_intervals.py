"""Intervals against published values, scipy, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from allfour.pipeline.statistics.intervals import (
    Interval,
    clopper_pearson,
    effective_size,
    mean_over_prompts,
    wilson,
    wilson_limit,
)
from scripts.validate_shares import check, spread

PROPORTIONS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_published_values_for_17_of_20():
    score, exact = wilson(17, 20), clopper_pearson(17, 20)
    assert score.value == exact.value == 0.85
    assert (round(score.low, 3), round(score.high, 3)) == (0.640, 0.948)
    assert (round(exact.low, 3), round(exact.high, 3)) == (0.621, 0.968)


@given(PROPORTIONS, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_agrees_with_scipy(proportion, confidence):
    successes, trials = proportion
    test = stats.binomtest(successes, trials)
    for function, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        ours, theirs = function(successes, trials, confidence=confidence), test.proportion_ci(confidence, method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
def test_nothing_observed_says_nothing(function):
    interval = function(0, 0)
    assert interval.value is None
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize("function", [wilson, clopper_pearson])
@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(function, successes, trials):
    with pytest.raises(ValueError, match="successes"):
        function(successes, trials)


def test_confidence_out_of_range_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=95)


def test_to_dict_has_the_contract_keys():
    assert Interval(0.5, 0.1, 0.9, "wilson").to_dict() == {"value": 0.5, "low": 0.1, "high": 0.9, "method": "wilson"}


@given(PROPORTIONS, st.floats(-4, 4))
def test_wilson_limit_solves_its_equation(proportion, z):
    successes, trials = proportion
    share = successes / trials
    limit = float(wilson_limit(share, trials, z))
    assert limit - share == pytest.approx(z * np.sqrt(limit * (1 - limit) / trials), abs=1e-6)


@given(st.integers(1, 60).flatmap(lambda n: st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
def test_mean_of_zeros_and_ones_is_the_wilson_interval_of_the_count(values):
    ours, plain = mean_over_prompts(values), wilson(int(sum(values)), len(values))
    assert (ours.value, ours.low, ours.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_agreement_does_not_become_certainty():
    interval = mean_over_prompts(np.ones(20))
    assert interval.low == pytest.approx(20 / (20 + 1.959964**2))
    assert interval.high == 1.0


def test_mean_over_prompts_narrows_when_prompts_agree_but_not_to_a_point():
    spread = mean_over_prompts([0.0, 1.0] * 10, independent=320)
    close = mean_over_prompts([0.3, 0.7] * 10, independent=320)
    same = mean_over_prompts([0.5] * 20, independent=320)
    assert spread.high - spread.low > close.high - close.low > same.high - same.low
    assert same.high - same.low > 2 * 1.96 * np.sqrt(0.25 / 330)


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.5, 1.1], [np.nan], [[0.5]]])
def test_mean_over_prompts_refuses_what_is_no_share(values):
    with pytest.raises(ValueError, match="values"):
        mean_over_prompts(values)


def test_mean_over_no_prompts_and_over_one():
    assert mean_over_prompts([]) == Interval(None, 0.0, 1.0, "wilson-clustered")
    one = mean_over_prompts([0.25], independent=64)
    plain = wilson_limit(0.25, 1, 1.959964)
    assert one.high == pytest.approx(float(plain), abs=1e-6)


def test_no_value_below_the_lowest_possible():
    interval = mean_over_prompts([0.125, 0.13, 0.2], lowest=0.125)
    assert 0.125 <= interval.low < interval.value < interval.high
    assert mean_over_prompts([0.125, 0.125], lowest=0.125).low == 0.125
    with pytest.raises(ValueError, match=r"0\.125"):
        mean_over_prompts([0.1], lowest=0.125)


def test_effective_size_is_at_least_the_number_of_prompts():
    sizes = effective_size([0.5, 0.5, 0.5], [0.3, 0.0125, 0.0], prompts=20, independent=80)
    correction = (1.959964 / 2.093024) ** 2
    assert sizes.tolist() == pytest.approx([20, 400 * correction, 80 * correction], rel=1e-5)
    assert effective_size([0.0, 1.0], 0.0, prompts=20, independent=80).tolist() == [20, 20]


def test_prompts_of_a_rare_kind_are_not_excluded_by_more_images() -> None:
    """Nearly every prompt shows one label throughout: five that agree say as much by 16 images each as by one."""
    assert mean_over_prompts([1.0] * 5, independent=80).low == wilson(5, 5).low
    assert mean_over_prompts([0.0] * 5, independent=80).high == wilson(0, 5).high
    seen, model, ours = check(spread(0.1, 0.01), prompts=5, images=16, audits=300, random=np.random.default_rng(0))
    assert ours.held > 0.95 and ours.held >= max(seen.held, model.held)


def test_share_interval_covers_clustered_images():
    """400 simulated audits of 20 prompts with 9 images each, prompts as different as real ones are."""
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(400):
        shares = random.beta(0.6, 0.9, size=20)
        interval = mean_over_prompts(random.binomial(9, shares) / 9, independent=180)
        covered += interval.low <= 0.4 <= interval.high
    assert 0.92 <= covered / 400 <= 0.98
