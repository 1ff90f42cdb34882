"""Agreement of two classifiers, with the prompt as the unit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.clustered_agreement import clustered_agreement


def test_values_are_those_of_the_table() -> None:
    tables = np.array([[[3, 1], [0, 0]], [[0, 0], [1, 3]], [[2, 0], [0, 2]]])
    found = clustered_agreement(tables)
    assert found.agreement.value == 10 / 12
    first = np.repeat([0, 0, 1, 1], tables.sum(axis=0).ravel())
    second = np.repeat([0, 1, 0, 1], tables.sum(axis=0).ravel())
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second))
    assert found.kappa.low < found.kappa.value < found.kappa.high
    assert found.kappa.low == pytest.approx(
        (found.agreement.low - 0.5) / 0.5
    )  # chance agrees on half: both say 6 and 6


def test_full_agreement_is_no_certainty_and_one_sided_labels_have_no_kappa() -> None:
    found = clustered_agreement([[[2, 0], [0, 2]]] * 20)
    assert (found.agreement.value, found.agreement.high) == (1, 1)
    assert found.agreement.low == pytest.approx(st.wilson(20, 20).low)  # of 20 prompts
    assert found.kappa.value == 1
    assert found.kappa.low < 1
    one_sided = clustered_agreement([[[3, 1], [0, 0]]] * 5)
    assert one_sided.agreement.value == 0.75
    assert one_sided.kappa.value is None
    assert clustered_agreement(np.zeros((3, 2, 2))).agreement.value is None
    with pytest.raises(ValueError, match="shape"):
        clustered_agreement(np.zeros((2, 2)))


def test_prompts_without_a_common_label_change_nothing() -> None:
    tables = np.array([[[3, 1], [0, 2]], [[0, 1], [1, 3]]])
    assert clustered_agreement(np.concatenate([tables, np.zeros((4, 2, 2), int)])) == clustered_agreement(tables)


def test_images_that_are_misread_together_widen_the_interval() -> None:
    spread = [[[3, 1], [0, 4]]] * 12
    bunched = [[[0, 4], [0, 4]]] * 3 + [[[4, 0], [0, 4]]] * 9
    apart, together = clustered_agreement(spread).agreement, clustered_agreement(bunched).agreement
    assert apart.value == together.value
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
    assert together.low <= st.wilson(84, 96).low


@pytest.mark.parametrize("concentration", [2.0, 50.0])
def test_limits_cover_the_population(concentration: float) -> None:
    """Two classifiers that misread some prompts more than others, 20 prompts of 4 images."""
    random = np.random.default_rng(1)

    def drawn(prompts: int) -> np.ndarray:
        share = random.beta(0.5, 0.5, size=(prompts, 1))
        wrong = random.beta(0.1 * concentration, 0.9 * concentration, size=(prompts, 1))
        truth = random.random((prompts, 4)) < share
        one, two = truth ^ (random.random((prompts, 4)) < wrong), truth ^ (random.random((prompts, 4)) < 0.05)
        return np.array([[((one == a) & (two == b)).sum(axis=1) for b in (0, 1)] for a in (0, 1)]).transpose(2, 0, 1)

    whole = drawn(200_000).sum(axis=0)
    whole = whole / whole.sum()
    agreed = float(np.trace(whole))
    chance = float((whole.sum(axis=0) * whole.sum(axis=1)).sum())
    kappa = (agreed - chance) / (1 - chance)
    found = [clustered_agreement(drawn(20)) for _ in range(400)]
    assert np.mean([f.agreement.low <= agreed <= f.agreement.high for f in found]) > 0.93
    assert np.mean([f.kappa.low <= kappa <= f.kappa.high for f in found]) > 0.93
