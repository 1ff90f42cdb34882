"""The estimators that validation lays beside those in use, against textbook formulas and simulated audits."""

import numpy as np
import pytest

from allfour.pipeline.statistics import Confusion, corrected_share, unanimity
from scripts.validation.alternatives import (
    cluster_bootstrap,
    fixed_unanimity,
    likelihood_shares,
    rogan_gladen,
    two_stage_bootstrap,
)


def test_bootstrap_is_reproducible_and_centred():
    values = np.linspace(-1, 2, 40)
    first, second = cluster_bootstrap(values, seed=3), cluster_bootstrap(values, seed=3)
    assert first == second
    assert first.value == pytest.approx(0.5)
    assert first.low < 0.5 < first.high
    assert cluster_bootstrap([]).value is None
    assert cluster_bootstrap(np.ones(20)).low == 1.0  # which is its fault


def test_fixed_prompts_are_narrower_where_prompts_differ():
    counts = np.array([[64, 0], [0, 64], [60, 4], [32, 32], [33, 31]] * 4)
    population, fixed = unanimity(counts).interval, fixed_unanimity(counts)
    assert fixed.value == population.value
    assert fixed.high - fixed.low < 0.5 * (population.high - population.low)


def test_fixed_prompts_interval_covers():
    random = np.random.default_rng(2)
    shares = np.array([0.02, 0.3, 0.5, 0.9, 0.99, 0.6, 0.1, 0.8])
    truth = (shares**4 + (1 - shares) ** 4).mean()
    covered = 0
    for _ in range(400):
        women = random.binomial(30, shares)
        interval = fixed_unanimity(np.column_stack([women, 30 - women]))
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.99


def test_two_stage_bootstrap_is_too_high_and_too_wide():
    random = np.random.default_rng(1)
    women = random.binomial(9, 0.5, size=60)
    counts = np.column_stack([women, 9 - women])
    naive, default = two_stage_bootstrap(counts, draws=300), unanimity(counts).interval
    assert naive.value == default.value
    assert naive.high - naive.low > 1.2 * (default.high - default.low)


def test_rogan_gladen_by_hand_and_clipped():
    assert rogan_gladen(30, 100, sensitivity=(90, 100), specificity=(80, 100)).value == pytest.approx(0.1 / 0.7)
    clipped = rogan_gladen(5, 100, sensitivity=(90, 100), specificity=(80, 100))
    assert clipped.value == 0.0
    assert clipped.low == 0.0 < clipped.high
    assert rogan_gladen(0, 0, sensitivity=(9, 10), specificity=(9, 10)).value is None


def test_rogan_gladen_with_exact_rates_is_the_transformed_wilson_interval():
    interval = rogan_gladen(60, 100, sensitivity=(9 * 10**8, 10**9), specificity=(8 * 10**8, 10**9), draws=20_000)
    assert interval.value == pytest.approx(0.4 / 0.7, abs=1e-6)
    assert interval.low == pytest.approx((0.5020 - 0.2) / 0.7, abs=2e-3)
    assert interval.high == pytest.approx((0.6906 - 0.2) / 0.7, abs=2e-3)


def test_likelihood_stays_among_the_shares_where_the_inverse_does_not():
    confusion = Confusion.from_rates(sensitivity=(80, 100), specificity=(80, 100))
    rare, rest = likelihood_shares([[0, 9]] * 5, confusion=confusion)
    assert rare.value == pytest.approx(0, abs=1e-6)
    assert rest.value == pytest.approx(1, abs=1e-6)
    assert likelihood_shares([[0, 0]], confusion=confusion)[0].value is None


def test_likely_shares_of_seven_labels_are_near_the_linear_ones():
    random = np.random.default_rng(3)
    rates = np.full((7, 8), 0.04)
    rates[:, 7] = 0.10
    rates[np.arange(7), np.arange(7)] = 1 - 0.10 - 6 * 0.04
    rows = np.array([random.multinomial(16, share @ rates) for share in random.dirichlet(np.full(7, 0.4), size=120)])
    confusion = Confusion(np.rint(rates * 1000).astype(int))
    likelihood = likelihood_shares(rows, confusion=confusion, draws=200)
    assert sum(interval.value for interval in likelihood) == pytest.approx(1)
    for label, interval in enumerate(likelihood):
        linear = corrected_share(rows, confusion=confusion, label=label, draws=500)
        assert interval.value == pytest.approx(linear.value, abs=0.04)


@pytest.mark.parametrize("table", [[[4, 1]], [[1, 0]]])
@pytest.mark.parametrize("function", [fixed_unanimity, two_stage_bootstrap])
def test_a_confidence_out_of_range_is_refused_whatever_the_counts(function, table):
    for confidence in (1.5, -0.5):
        with pytest.raises(ValueError, match="confidence"):
            function(table, confidence=confidence)


def test_fixed_prompts_of_one_set_each_have_the_interval_of_the_count():
    rows = [[4, 0]] * 17 + [[2, 2]] * 3 + [[1, 0]]
    assert fixed_unanimity(rows) == unanimity(rows).interval
    assert fixed_unanimity([[1, 0]]).value is None
