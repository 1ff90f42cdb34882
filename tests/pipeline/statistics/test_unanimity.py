"""Unanimity against values computed by hand and by enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfour.pipeline.statistics.intervals import wilson_limit
from allfour.pipeline.statistics.unanimity import (
    benjamini_hochberg,
    poisson_binomial,
    setwise_unanimity,
    share_tests,
    subset_unanimity,
    unanimity,
    unanimity_bounds,
    unanimity_null,
    unanimous_label,
    unanimous_probability,
)

TABLES = st.integers(2, 4).flatmap(
    lambda labels: st.lists(st.lists(st.integers(0, 7), min_size=labels, max_size=labels), min_size=1, max_size=5)
)


def test_unanimous_label_needs_every_image():
    counts = [[4, 0], [0, 4], [3, 1], [3, 0], [0, 0], [2, 0]]
    assert unanimous_label(counts, unresolved=[0, 0, 0, 1, 4, 0]).tolist() == [0, 1, -1, -1, -1, 0]
    assert unanimous_label(counts, unresolved=[0, 0, 0, 1, 4, 0], set_size=4).tolist() == [0, 1, -1, -1, -1, -1]


@given(TABLES, st.integers(1, 5))
def test_subset_unanimity_counts_the_subsets(counts, set_size):
    for row, value in zip(counts, subset_unanimity(counts, set_size=set_size), strict=True):
        images = [label for label, number in enumerate(row) for _ in range(number)]
        subsets = list(itertools.combinations(images, set_size)) if len(images) <= 12 else None
        if len(images) < set_size:
            assert np.isnan(value)
        elif subsets is not None:
            assert value == pytest.approx(sum(len(set(subset)) == 1 for subset in subsets) / len(subsets))
        else:
            expected = sum(math.comb(number, set_size) for number in row) / math.comb(len(images), set_size)
            assert value == pytest.approx(expected)


def test_subset_unanimity_by_hand():
    # C(8,4) = 70 and C(1,4) = 0 of C(9,4) = 126.
    assert subset_unanimity([[8, 1], [4, 0], [3, 1]]).tolist() == pytest.approx([70 / 126, 1.0, 0.0])


def test_subset_unanimity_is_stable_for_many_images():
    value = subset_unanimity([[900_000, 100_000]], set_size=50)[0]
    assert value == pytest.approx(0.9**50, rel=1e-3)


def test_subset_unanimity_is_unbiased():
    share, images = 0.8, 9
    heads = np.arange(images + 1)
    probability = [math.comb(images, k) * share**k * (1 - share) ** (images - k) for k in heads]
    values = subset_unanimity(np.column_stack([heads, images - heads]))
    assert np.dot(probability, values) == pytest.approx(share**4 + (1 - share) ** 4)


def test_unresolved_images_against_for_and_excluded():
    counts, unresolved = [[3, 0], [2, 1]], [1, 1]
    assert subset_unanimity(counts, unresolved=unresolved, resolve="against").tolist() == [0.0, 0.0]
    assert subset_unanimity(counts, unresolved=unresolved, resolve="for").tolist() == [1.0, 0.0]
    excluded = subset_unanimity(counts, unresolved=unresolved, resolve="exclude", set_size=3)
    assert excluded.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="resolve"):
        subset_unanimity(counts, resolve="maybe")


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=3), st.integers(0, 4), st.integers(1, 4))
def test_bounds_hold_for_every_way_to_resolve(counts, unresolved, set_size):
    bounds = unanimity_bounds([counts], unresolved=[unresolved], set_size=set_size)
    if bounds.low is None:
        assert sum(counts) + unresolved < set_size
        return
    reached = []
    for labels in itertools.combinations_with_replacement(range(len(counts)), unresolved):
        resolved = np.array(counts) + np.bincount(labels, minlength=len(counts))
        reached.append(subset_unanimity([resolved], set_size=set_size)[0])
    assert bounds.high == pytest.approx(max(reached))
    assert bounds.low <= min(reached) + 1e-12
    if sum(counts) + unresolved == set_size:
        assert bounds.possible[0] == (max(reached) == 1)


def test_setwise_unanimity_by_hand():
    counts = [[4, 0], [3, 1], [0, 4], [4, 0], [3, 0]]
    share, sets = setwise_unanimity(counts, prompts=[0, 0, 2, 2, 2], unresolved=[0, 0, 0, 0, 1])
    assert share[[0, 2]].tolist() == pytest.approx([0.5, 2 / 3])
    assert np.isnan(share[1])
    assert sets.tolist() == [2, 0, 3]


def test_headline_of_the_published_experiment():
    counts = [[4, 0]] * 10 + [[0, 4]] * 7 + [[3, 1]] * 3
    estimate = unanimity(counts)
    assert estimate.interval.value == 0.85
    assert (round(estimate.interval.low, 3), round(estimate.interval.high, 3)) == (0.640, 0.948)
    assert estimate.interval.method == "wilson"
    assert (estimate.prompts, estimate.left_out) == (20, 0)


def test_prompts_with_too_few_images_are_counted_not_hidden():
    estimate = unanimity([[4, 0], [3, 0], [2, 2]])
    assert (estimate.prompts, estimate.left_out, estimate.interval.value) == (2, 1, 0.5)
    nothing = unanimity([[1, 0]])
    assert (nothing.prompts, nothing.left_out, nothing.interval.value) == (0, 1, None)
    assert (nothing.interval.low, nothing.interval.high) == (0.0, 1.0)


def test_null_of_the_published_experiment():
    null = unanimity_null([4] * 20, observed=17)
    assert null.expected_count == pytest.approx(2.5)
    assert null.expected_share == pytest.approx(0.125)
    assert f"{null.p_value:.0e}" == "3e-13"
    exact = sum(math.comb(20, k) * 0.125**k * 0.875 ** (20 - k) for k in range(17, 21))
    assert null.p_value == pytest.approx(exact, rel=1e-12)


def test_null_uses_each_prompts_own_number_of_images():
    null = unanimity_null([1, 2, 4, 0], observed=2)
    # One image is always unanimous, none never; two agree half the time, four one time in eight.
    assert null.expected_count == pytest.approx(1 + 0.5 + 0.125)
    assert null.p_value == pytest.approx(1 - 0.5 * 0.875)


def test_null_without_prompts_and_with_impossible_counts():
    null = unanimity_null([], observed=0)
    assert (null.expected_share, null.expected_count, null.p_value) == (None, 0.0, 1.0)
    with pytest.raises(ValueError, match="observed"):
        unanimity_null([4], observed=2)


def test_null_for_ten_thousand_prompts():
    sizes = np.random.default_rng(0).integers(1, 65, size=10_000)
    expected = unanimity_null(sizes, observed=0).expected_count
    middle = unanimity_null(sizes, observed=round(expected))
    assert 0.3 < middle.p_value < 0.7
    assert unanimity_null(sizes, observed=10_000).p_value == 0.0
    assert 0 < unanimity_null(sizes, observed=round(expected) + 300).p_value < 1e-50


@given(st.lists(st.floats(0, 1), min_size=0, max_size=9))
def test_poisson_binomial_by_enumeration(probabilities):
    expected = np.zeros(len(probabilities) + 1)
    for outcome in itertools.product([0, 1], repeat=len(probabilities)):
        weight = math.prod(p if hit else 1 - p for p, hit in zip(probabilities, outcome, strict=True))
        expected[sum(outcome)] += weight
    assert poisson_binomial(probabilities) == pytest.approx(expected, abs=1e-12)


def test_unanimous_probability_for_more_labels():
    assert unanimous_probability([4], shares=[1 / 7] * 7)[0] == pytest.approx(7 * (1 / 7) ** 4)
    assert unanimous_probability([4, 0], shares=0.9).tolist() == pytest.approx([0.9**4 + 0.1**4, 0.0])
    with pytest.raises(ValueError, match="sum to 1"):
        unanimous_probability([4], shares=[0.5, 0.6])


def test_share_tests_by_hand():
    p_values, adjusted = share_tests([4, 2, 0, 0], trials=[4, 4, 4, 0])
    assert p_values[:3].tolist() == pytest.approx([0.125, 1.0, 0.125])
    assert np.isnan(p_values[3])
    assert adjusted[:3].tolist() == pytest.approx([0.1875, 1.0, 0.1875])
    against_statistic, _ = share_tests([4, 4], trials=[4, 4], reference=[0.9, np.nan])
    assert against_statistic[0] == pytest.approx(1.0)
    assert np.isnan(against_statistic[1])


def test_benjamini_hochberg_skips_missing_tests():
    assert np.isnan(benjamini_hochberg([np.nan, np.nan])).all()
    assert benjamini_hochberg([0.01, np.nan, 0.04])[[0, 2]].tolist() == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize("counts", [[1, 2], [[1.5, 2]], [[-1, 2]], [[3]]])
def test_counts_must_be_whole_numbers_in_a_table(counts):
    with pytest.raises(ValueError, match="counts"):
        subset_unanimity(counts)


@pytest.mark.parametrize("table", [[[4, 1]], [[1, 0]]])
def test_a_confidence_out_of_range_is_refused_whatever_the_counts(table):
    with pytest.raises(ValueError, match="confidence"):
        unanimity(table, confidence=1.5)


def test_prompts_that_agree_by_chance_count_for_no_more_than_their_images():
    counts = np.array([[32, 32], [33, 31]] * 10)
    values = subset_unanimity(counts)
    lowest, position = values.min(), (values.mean() - values.min()) / (1 - values.min())
    assert position * (1 - position) * 20 / (values.var(ddof=1) / (1 - lowest) ** 2) > 2 * 1280
    size = 1280 * (1.959964 / 2.093024) ** 2
    limits = [lowest + (1 - lowest) * float(wilson_limit(position, size, side)) for side in (-1.959964, 1.959964)]
    interval = unanimity(counts).seen
    assert [interval.low, interval.high] == pytest.approx(limits, rel=1e-4)
