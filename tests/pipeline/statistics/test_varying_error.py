"""A corrected figure if error rates differ by prompt."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st

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
