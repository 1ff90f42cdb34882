"""Chance, by the shares of a reference and by even draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allfour.pipeline import statistics as st


def test_unequal_shares_against_every_outcome_counted() -> None:
    shares = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    coins = (shares**4).sum(axis=1)
    found = st.null_of_shares(shares, set_size=4, observed=2)
    tail = sum(
        np.prod([c if hit else 1 - c for c, hit in zip(coins, outcome, strict=True)])
        for outcome in itertools.product((0, 1), repeat=3)
        if sum(outcome) >= 2
    )
    assert found.expected_count == pytest.approx(coins.sum())
    assert found.p_value == pytest.approx(tail)


def test_even_shares_are_the_null_of_a_fair_coin() -> None:
    even = st.null_of_shares(np.full((20, 2), 0.5), set_size=4, observed=17)
    assert even.p_value == pytest.approx(st.unanimity_null([4] * 20, observed=17).p_value)
    assert st.at_least(17, prompts=20, probability=0.125) == pytest.approx(even.p_value)


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        st.null_of_shares([[0.5, 0.6]], set_size=4, observed=0)


def test_amplification_is_unbiased_and_covers() -> None:
    random = np.random.default_rng(2)
    found = []
    for _ in range(400):
        reference = random.beta(1, 1, size=30)
        lean = reference > 0.5
        share = np.clip(reference + np.where(lean, 0.0, 0.0), 0, 1)
        women = random.binomial(4, share)
        table = np.column_stack([women, 4 - women])
        found.append(st.amplification(table, np.column_stack([reference, 1 - reference])).interval)
    assert np.mean([one.value for one in found]) == pytest.approx(0, abs=0.01)
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.93


def test_all_of_one_label_is_amplified() -> None:
    counts = [[4, 0]] * 10 + [[0, 4]] * 10
    reference = [[0.8, 0.2]] * 10 + [[0.3, 0.7]] * 10
    found = st.amplification(counts, reference)
    assert found.interval.value == pytest.approx(0.25)
    assert found.interval.low > 0.1


def test_the_floor_of_a_distance_is_that_of_exact_draws() -> None:
    found = st.reference_distance([2, 3, 4], trials=[4, 4, 4], reference=[0.5, 0.5, 0.5])
    assert found.floor == pytest.approx(0.1875)
    assert found.distance.value == pytest.approx(0.25)
