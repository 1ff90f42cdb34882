"""Paired comparisons against values computed by hand and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from allfour.pipeline.statistics.paired import holm, mcnemar, paired_difference, prompt_differences, sign_flip_test


def test_sign_flips_by_hand():
    # Of 2^4 flips, only all plus and all minus are as extreme.
    assert sign_flip_test([1, 1, 1, 1, 0, 0]) == pytest.approx(2 / 16)
    assert sign_flip_test([1, -1]) == pytest.approx(1.0)
    assert sign_flip_test([0, 0]) == 1.0


def by_scipy(differences, *, draws=np.inf, seed=0):
    vector = np.array(differences, dtype=float)
    return stats.permutation_test(
        (vector[vector != 0],),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        rng=seed,
    ).pvalue


@given(st.lists(st.integers(-4, 4), min_size=3, max_size=9).filter(lambda d: np.count_nonzero(d) > 1))
def test_sign_flips_of_shares_are_scipys(differences):
    shares = np.array(differences) / 4
    assert sign_flip_test(shares) == pytest.approx(by_scipy(shares), abs=1e-9)


def test_sign_flips_of_unequal_differences_are_scipys():
    differences = np.random.default_rng(0).normal(0.05, 0.2, size=11).clip(-1, 1)
    assert sign_flip_test(differences) == pytest.approx(by_scipy(differences), abs=1e-9)


def test_random_sign_flips_are_close_to_the_exact_test_and_to_scipys():
    differences = np.random.default_rng(4).normal(0.05, 0.2, size=14).clip(-1, 1)
    exact = by_scipy(differences)
    assert 0.02 < exact < 0.5
    error = 4 * np.sqrt(exact * (1 - exact) / 9_999)
    assert sign_flip_test(differences, draws=9_999) == pytest.approx(exact, abs=error)
    assert by_scipy(differences, draws=9_999) == pytest.approx(exact, abs=error)
    assert sign_flip_test(differences, draws=9_999) == sign_flip_test(differences, draws=9_999)


def test_many_equal_differences_are_exact():
    # 1,000 prompts that gained an image and 900 that lost one: a binomial, however many prompts.
    differences = np.repeat([0.25, -0.25], [1000, 900])
    assert sign_flip_test(differences) == pytest.approx(stats.binomtest(1000, 1900).pvalue, rel=1e-9)


def test_mcnemar_by_hand():
    first, second = [True] * 5 + [False] * 5, [False] * 4 + [True] * 2 + [False] * 4
    # Four lost, one gained: 2 P(X <= 1), X ~ Binomial(5, 1/2).
    assert mcnemar(first, second) == pytest.approx(2 * 6 / 32)
    assert mcnemar([True, False], [True, False]) == 1.0
    with pytest.raises(ValueError, match="same prompts"):
        mcnemar([True], [True, False])


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])), min_size=2, max_size=12))
def test_sign_flips_of_unanimity_are_mcnemars_test(pairs):
    first, second = np.array(pairs, dtype=float).T
    assert paired_difference(first, second).p_value == pytest.approx(mcnemar(first, second), abs=1e-9)


def test_agreement_is_not_certainty():
    same = paired_difference([1.0, 0.0] * 10, [1.0, 0.0] * 10)
    assert same.interval.value == 0.0
    assert 0.1 < same.interval.high < 0.2
    assert same.p_value == 1.0


def test_limits_of_shares_and_of_single_draws():
    values = np.linspace(0.1, 0.8, 20)
    shares = paired_difference(values, values + 0.1)
    # every prompt changed alike; half a prompt may be of a kind that changed by -1: Beta(20.5, 1/2) on the range from -1 to 0.1
    assert shares.interval.low == pytest.approx(-1 + 1.1 * stats.beta.ppf(0.025, 20.5, 0.5), abs=1e-6)
    assert shares.p_value < 1e-4
    # of 0 and 1 Student's, with one pair of -1 and 1 that was not seen
    single = paired_difference([0.0] * 20, [1.0] * 4 + [0.0] * 16, single=True)
    half = stats.t.ppf(0.975, 19) * np.sqrt((4 * 0.8**2 + 16 * 0.2**2 + 2) / 21 / 20)
    assert single.interval.low == pytest.approx(0.2 - half)


def test_difference_is_second_less_first():
    result = paired_difference([0.5, 0.25, 0.75], [0.75, 0.25, 1.0])
    assert result.interval.value == pytest.approx(0.5 / 3)
    assert result.prompts == 3


def test_too_few_prompts_say_nothing():
    assert paired_difference([], []).interval.value is None
    one = paired_difference([0.0], [1.0])
    assert (one.interval.low, one.interval.high, one.p_value) == (-1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference([0.5], [0.5, 0.6])


def test_prompt_differences_by_hand():
    p_values, adjusted = prompt_differences([[4, 0], [2, 2], [0, 0]], [[0, 4], [2, 2], [4, 0]])
    assert p_values[:2].tolist() == pytest.approx([2 / 70, 1.0])
    assert adjusted[:2].tolist() == pytest.approx([4 / 70, 1.0])
    assert np.isnan(p_values[2])
    with pytest.raises(ValueError, match="shape"):
        prompt_differences([[1, 2, 3]], [[1, 2, 3]])


@pytest.mark.parametrize("images", [4, 64])
def test_interval_covers_and_test_keeps_its_level(images):
    random = np.random.default_rng(9)
    covered = rejected = 0
    for _ in range(150):
        shares = random.beta(0.5, 0.5, size=20)
        shift = np.clip(shares + random.normal(0, 0.05, size=20), 0, 1)
        first, second = random.binomial(images, shares) / images, random.binomial(images, shift) / images
        result = paired_difference(first, second, draws=200)
        covered += result.interval.low <= 0 <= result.interval.high
        rejected += result.p_value <= 0.05
    assert covered / 150 >= 0.95
    assert rejected / 150 <= 0.08


def test_holm_by_hand():
    # 3 x 0.01, then 2 x 0.03, then the larger of that and 0.04
    assert holm([0.03, 0.01, np.nan, 0.04]).tolist() == pytest.approx([0.06, 0.03, np.nan, 0.06], nan_ok=True)
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])
