"""A rate between groups of prompts: a test that holds its level where images of a prompt hang together."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline.statistics import group_homogeneity


def p_values(*, differ: float, runs: int = 200, prompts: int = 24, images: int = 4) -> np.ndarray:
    """Of runs in which a prompt's rate is 0 or 1 nearly: as a policy decides."""
    random = np.random.default_rng(1)
    member = np.arange(prompts) % 2
    found = []
    for _ in range(runs):
        refused = random.random(prompts) < np.where(member == 0, 0.25, 0.25 + differ)
        events = np.where(refused, images, 0)
        p = group_homogeneity(events, np.full(prompts, images), member, seed=0)
        found.append(1.0 if p is None else p)
    return np.array(found)


def test_the_level_holds_where_a_chi_square_of_images_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allfour.pipeline.statistics.homogeneity._CELLS", 1)  # fewest draws
    assert (p_values(differ=0.0) <= 0.05).mean() <= 0.085
    assert (p_values(differ=0.6) <= 0.05).mean() >= 0.7


def test_what_cannot_be_told_is_none() -> None:
    assert group_homogeneity([1, 2], [4, 4], [0, 0]) is None
    assert group_homogeneity([0, 0], [4, 4], [0, 1]) == 1.0
    assert group_homogeneity([4, 4], [4, 4], [0, 1]) == 1.0
    assert group_homogeneity([], [], []) is None
    assert group_homogeneity([0, 1], [0, 4], [0, 1]) is None  # a group without an image


def test_it_is_the_same_each_time_and_never_zero() -> None:
    events, groups = [4] * 10 + [0] * 10, [0] * 10 + [1] * 10
    first = group_homogeneity(events, [4] * 20, groups)
    assert first == group_homogeneity(events, [4] * 20, groups)
    assert first is not None
    assert 0 < first < 0.001


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no more events than trials"):
        group_homogeneity([5], [4], [0])
