"""Ranks as intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allfour.pipeline import statistics as st


def test_holm_equals_the_closed_test_of_bonferroni() -> None:
    """A hypothesis falls where every intersection that holds it does: the definition, tried over all subsets."""
    p = np.array([0.004, 0.03, 0.02, 0.5])
    closed = [
        max(
            min(len(s) * min(p[list(s)]), 1) for r in range(1, 5) for s in itertools.combinations(range(4), r) if i in s
        )
        for i in range(4)
    ]
    assert st.holm(p) == pytest.approx(closed)


def test_a_test_that_was_not_made_counts_for_none() -> None:
    found = st.holm([0.02, np.nan, 0.03])
    assert found[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(found[1])


def test_ranks_hold_every_place_that_the_told_differences_leave() -> None:
    different = np.zeros((4, 4), dtype=bool)
    for i, j in ((0, 3), (0, 2)):
        different[i, j] = different[j, i] = True
    found = st.rank_intervals([0.1, 0.2, 0.3, 0.3], different)
    assert [(r.rank, r.low, r.high) for r in found] == [(1, 1, 2), (2, 1, 4), (3, 2, 4), (3, 2, 4)]


def test_groups_that_are_alike_are_the_largest_without_a_told_pair() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        apart = np.triu(rng.random((6, 6)) < 0.4, 1)
        apart |= apart.T
        found = {frozenset(g) for g in st.alike_groups(rng.random(6), apart)}
        free = [
            frozenset(s)
            for r in range(1, 7)
            for s in itertools.combinations(range(6), r)
            if not apart[np.ix_(s, s)].any()
        ]
        assert found == {s for s in free if not any(s < other for other in free)}
