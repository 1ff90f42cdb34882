"""A corrected figure if error rates differ by prompt."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.compositions import compositions, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import decision_scores
from allfour.pipeline.statistics.varying_error import spread_biases

RATES = np.array([[0.85, 0.10, 0.05], [0.10, 0.85, 0.05]])
TRUTH = 2 * (0.3 * 1.3 * 2.3 * 3.3) / (0.6 * 1.6 * 2.6 * 3.6)


def test_a_cue_that_goes_with_the_label_is_within_the_range_where_the_interval_is_not() -> None:
    random = np.random.default_rng(4)
    plain, ranged = 0, 0
    for _ in range(40):
        share = random.beta(0.3, 0.3, size=100)
        pull = np.abs(random.normal(0, 0.6, size=100)) * np.sign(share - 0.5)
        rates = RATES * np.stack([np.exp(pull), np.ones(100), np.ones(100)], axis=-1)[:, np.newaxis]
        rates /= rates.sum(axis=-1, keepdims=True)
        cells = share[:, np.newaxis] * rates[:, 0] + (1 - share[:, np.newaxis]) * rates[:, 1]
        table = random.multinomial(16, cells)
        confusion = st.Confusion(np.stack([random.multinomial(500, row) for row in RATES]))
        found = st.corrected_unanimity(table, confusion=confusion, draws=300).interval
        assert found.value is not None
        (at,) = st.spread_effects(table, confusion=confusion, value=found.value, spreads=(st.DEFAULT_SPREAD,))
        plain += found.low <= TRUTH <= found.high
        ranged += found.low - (found.value - at.least) <= TRUTH <= found.high + (at.most - found.value)
    assert plain < 28 and ranged >= 36


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bias_of_errors_that_go_with_a_cue_or_against_it_is_that_of_such_a_run(sign: int) -> None:
    """The shares behind the decisions are those that fit them under these very errors: under others the bias against was -0.08 for -0.38."""
    random = np.random.default_rng(5)
    share = random.beta(0.3, 0.3, size=3000)
    rates = RATES * np.stack([np.exp(sign * np.sign(share - 0.5)), *np.ones((2, 3000))], axis=-1)[:, np.newaxis]
    rates /= rates.sum(axis=-1, keepdims=True)
    table = random.multinomial(12, share[:, np.newaxis] * rates[:, 0] + (1 - share[:, np.newaxis]) * rates[:, 1])
    confusion = st.Confusion(np.round(RATES * 2000).astype(int))
    scores = decision_scores(confusion.rates, weights=1 / np.maximum(table.sum(axis=0) / table.sum(), 0.05))
    ways = compositions(3, 4)
    estimate = (set_probabilities(table, ways) @ set_scores(scores, ways)).mean()
    bias = estimate - (share**4 + (1 - share) ** 4).mean()
    found = spread_biases(table, confusion=confusion, spreads=(1.0,))[0, 1 if sign > 0 else 2]
    assert abs(bias) > 0.25 and found == pytest.approx(bias, abs=0.04)


def test_no_spread_is_no_effect() -> None:
    random = np.random.default_rng(1)
    table = random.multinomial(16, RATES[random.integers(0, 2, size=40)])
    confusion = st.Confusion(np.round(RATES * 500).astype(int))
    (at,) = st.spread_effects(table, confusion=confusion, value=0.9, spreads=(0.0,))
    assert (at.value, at.least, at.most) == pytest.approx((0.9, 0.9, 0.9), abs=1e-6)


def test_the_spread_between_groups_is_told_by_many_and_left_open_by_few() -> None:
    random = np.random.default_rng(2)

    def limits(groups: int, spread: float) -> list[float]:
        logit = np.log(0.1 / 0.9) + random.normal(0, spread, size=groups)
        drawn = st.group_spread(random.binomial(400, 1 / (1 + np.exp(-logit))), [400] * groups)
        assert drawn is not None
        return np.quantile(drawn, [0.025, 0.5, 0.975]).tolist()

    alike, apart = limits(40, 0.0), limits(40, 0.8)
    assert alike[0] == 0 and alike[2] < 0.25
    assert 0.5 < apart[0] < apart[2] < 1.2
    assert limits(2, 0.0)[2] > 0.8  # two that are alike say little
    assert st.group_spread([1], [10]) is None
