"""Confidence sequences: valid at every look, and no wider than they must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from allfour.pipeline.statistics.sequential import betting_sequence, log_capital


def test_counts_give_the_beta_binomial_mixture_in_closed_form() -> None:
    values = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1], float)
    ones, zeros = np.cumsum(values), np.cumsum(1 - values)
    for mean in (0.2, 0.5, 0.9):
        known = special.betaln(ones + 0.5, zeros + 0.5) - special.betaln(0.5, 0.5)
        known -= ones * np.log(mean) + zeros * np.log(1 - mean)
        assert np.array(list(log_capital(values, mean))) == pytest.approx(known)


@pytest.mark.parametrize("kind", ["counts", "shares"])
def test_the_capital_against_the_truth_hardly_ever_gets_there(kind: str) -> None:
    random = np.random.default_rng(0)
    shape = (1_000, 150)
    values = random.random(shape) < 0.5 if kind == "counts" else random.binomial(4, random.beta(0.4, 0.4, shape)) / 4
    reached = np.zeros(shape[0], dtype=bool)
    for capital in log_capital(values, 0.5):
        reached |= capital >= np.log(20)
    assert 0 < reached.mean() <= 0.05


def test_limits_only_come_closer_and_hold_the_truth() -> None:
    values = np.random.default_rng(1).random(120) < 0.85
    found = betting_sequence(values)
    assert (np.diff(found.low) >= 0).all()
    assert (np.diff(found.high) <= 0).all()
    assert found.low[-1] < 0.85 < found.high[-1]
    assert found.high[-1] - found.low[-1] < 0.3


def test_values_that_differ_little_are_worth_more_than_counts() -> None:
    even = betting_sequence(np.full(60, 0.6))
    counts = betting_sequence(np.arange(60) % 5 < 3)
    assert even.high[-1] - even.low[-1] < 0.7 * (counts.high[-1] - counts.low[-1])


def test_nothing_gives_no_limits_and_what_is_no_share_is_refused() -> None:
    assert betting_sequence([]).low.shape == (0,)
    assert betting_sequence([1.0]).low[0] == pytest.approx(0.025, abs=0.001)  # half the capital wins 1 to mean
    with pytest.raises(ValueError, match="between 0 and 1"):
        betting_sequence([0.5, 1.5])
    with pytest.raises(ValueError, match="confidence"):
        betting_sequence([0.5], confidence=1)
