"""Imbalance scores and their floors against values computed by hand and by enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from allfour.pipeline.statistics.binomial import binom_pmf
from allfour.pipeline.statistics.imbalance import (
    MEASURES,
    _floors,
    absent_labels,
    imbalance,
    imbalance_floor,
    imbalance_scores,
    mean_share,
)


def test_floors_by_hand():
    assert imbalance_floor(4, labels=2, measure="mean_absolute_deviation") == pytest.approx(0.1875)
    assert imbalance_floor(8, labels=2, measure="mean_absolute_deviation") == pytest.approx(0.137, abs=5e-4)
    assert imbalance_floor(1, labels=2, measure="total_variation") == pytest.approx(0.5)
    assert imbalance_floor(1, labels=7, measure="kl_divergence") == pytest.approx(math.log(7))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("reference", [None, [0.5, 0.3, 0.2]])
def test_floor_is_the_expectation_over_all_outcomes(measure, reference):
    images, shares = 4, reference or [1 / 3] * 3
    expected = 0.0
    for outcome in itertools.product(range(3), repeat=images):
        counts = np.bincount(outcome, minlength=3)
        score = imbalance_scores([counts], measure=measure, reference=reference)[0]
        expected += math.prod(shares[label] for label in outcome) * score
    assert imbalance_floor(images, labels=3, measure=measure, reference=reference) == pytest.approx(expected)


def test_scores_by_hand():
    counts = [[3, 1], [2, 2], [4, 0], [0, 0]]
    assert imbalance_scores(counts, measure="mean_absolute_deviation")[:3].tolist() == pytest.approx([0.25, 0, 0.5])
    assert imbalance_scores(counts, measure="total_variation")[:3].tolist() == pytest.approx([0.25, 0, 0.5])
    assert imbalance_scores(counts, measure="entropy_deficit")[:3].tolist() == pytest.approx([0.188722, 0, 1], abs=1e-6)
    assert imbalance_scores(counts, measure="kl_divergence")[2] == pytest.approx(math.log(2))
    assert np.isnan(imbalance_scores(counts, measure="kl_divergence")[3])


@given(
    st.integers(2, 9).flatmap(lambda k: st.lists(st.integers(0, 50), min_size=k, max_size=k)).filter(any),
    st.sampled_from(MEASURES),
)
def test_scores_lie_between_even_and_one_label_only(counts, measure):
    labels = len(counts)
    score = imbalance_scores([counts], measure=measure)[0]
    even, only = imbalance_scores([[1] * labels, [5] + [0] * (labels - 1)], measure=measure)
    assert even == pytest.approx(0, abs=1e-12)
    assert -1e-12 <= score <= only + 1e-12


@pytest.mark.parametrize("images", [1, 4, 1000, 100_003])
def test_chances_of_nothing_are_left_out_and_no_bit_changes(images, monkeypatch):
    shares, count = (0.1, 0.25, 0.65), np.arange(images + 1)
    whole = {
        share: (binom_pmf(count, images, share), special.rel_entr(count / images, np.array([share])))
        for share in shares
    }
    expected = 0.0
    for chances, terms in whole.values():
        expected += float(chances @ terms)
    asked = []
    monkeypatch.setitem(
        _floors.__wrapped__.__globals__, "binom_pmf", lambda k, n, p: (asked.append(len(k)), binom_pmf(k, n, p))[1]
    )
    assert _floors.__wrapped__(images, shares)["kl_divergence"] == expected
    assert max(asked) < 100 + 45 * math.sqrt(images)


def test_floor_is_taken_off():
    result = imbalance([[4, 0], [2, 2], [0, 0]], measure="mean_absolute_deviation")
    assert result.score.value == pytest.approx(0.25)
    assert result.floor == pytest.approx(0.1875)
    assert result.excess.value == pytest.approx(0.0625)
    assert result.excess.low == pytest.approx(result.score.low - 0.1875)
    assert (result.prompts, result.left_out) == (2, 1)


def test_no_usable_image_is_no_imbalance():
    result = imbalance([[0, 0], [0, 0]], measure="total_variation")
    assert (result.score.value, result.floor, result.excess.value, result.left_out) == (None, None, None, 2)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_fair_generator_has_no_excess(measure):
    counts = np.random.default_rng(4).multinomial(9, [1 / 7] * 7, size=3000)
    excess = imbalance(counts, measure=measure).excess
    assert excess.low < 0 < excess.high
    assert abs(excess.value) < 0.01


def test_absent_labels():
    absent = absent_labels([[3, 1, 0, 0], [4, 0, 0, 0]])
    assert [entry.label for entry in absent] == [2, 3]
    assert absent[0].chance == pytest.approx(0.75**8)
    assert 0.1 < absent[0].high < 1
    assert absent_labels([[1, 1]]) == []
    assert [entry.high for entry in absent_labels([[0, 0]])] == [1.0, 1.0]


def test_wrong_reference_and_measure_are_refused():
    with pytest.raises(ValueError, match="reference"):
        imbalance_scores([[1, 2]], measure="total_variation", reference=[0.5, 0.6])
    with pytest.raises(ValueError, match="total_variation"):
        imbalance_scores([[1, 2]], measure="variation")
    with pytest.raises(ValueError, match="images"):
        imbalance_floor(0, labels=2, measure="total_variation")
    for counts in ([[1, 2]], [[0, 0]]):
        with pytest.raises(ValueError, match="confidence"):
            imbalance(counts, measure="total_variation", confidence=1.5)


def test_mean_share_weighs_prompts_not_images():
    interval = mean_share([[4, 0], [16, 48], [0, 0]])
    assert interval.value == pytest.approx((1 + 0.25) / 2)
    assert 0 <= interval.low < interval.value < interval.high <= 1
    assert mean_share([[0, 0]]).value is None
