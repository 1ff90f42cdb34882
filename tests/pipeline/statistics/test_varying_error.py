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


def test_the_spread_between_groups_is_what_their_sizes_do_not_explain() -> None:
    random = np.random.default_rng(2)
    same = [st.spread_between_groups(random.binomial(400, 0.1, size=20), [400] * 20) for _ in range(50)]
    assert np.mean(same) < 0.12
    logit = np.log(0.1 / 0.9) + random.normal(0, 0.8, size=(50, 20))
    apart = [st.spread_between_groups(random.binomial(400, 1 / (1 + np.exp(-row))), [400] * 20) for row in logit]
    assert np.mean(apart) == pytest.approx(0.8, abs=0.12)
    assert st.spread_between_groups([1], [10]) == 0.0
