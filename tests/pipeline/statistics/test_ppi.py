"""Prediction-powered estimates against survey formulas and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfour.pipeline.statistics.ppi import agreement, powered_mean


def test_difference_estimator_by_hand():
    predictions = [1, 1, 1, 0, 0, 0, 1, 0]
    labels = [1, 1, 0, 0] + [np.nan] * 4
    estimate = powered_mean(predictions, labels)
    # Covariance 1/6 over variance 1/4 of the labelled predictions.
    assert estimate.power == pytest.approx(2 / 3)
    assert estimate.interval.value == pytest.approx(2 / 3 * 0.5 + (0.5 - 2 / 3 * 0.75))
    assert estimate.labels_only.value == 0.5
    assert (estimate.predictions_only, estimate.labelled, estimate.units) == (0.5, 4, 8)


def test_strata_are_weighed_by_their_size():
    strata = ["a"] * 6 + ["b"] * 2
    labels = [1, 1, np.nan, np.nan, np.nan, np.nan, 0, 0]
    estimate = powered_mean([0.5] * 8, labels, strata=strata)
    assert estimate.interval.value == pytest.approx(6 / 8)


def test_all_labelled_leaves_nothing_uncertain_about_these_units():
    estimate = powered_mean([1, 0, 1, 0], [1, 1, 1, 0])
    assert estimate.interval.value == estimate.interval.low == estimate.interval.high == pytest.approx(0.75)
    other_prompts = powered_mean([1, 0, 1, 0], [1, 1, 1, 0], prompts=[0, 0, 1, 1])
    assert other_prompts.interval.high - other_prompts.interval.low > 0.5


def test_no_correction_seen_is_not_certainty():
    predictions = np.repeat([0.0, 1.0], 500)
    labels = np.full(1000, np.nan)
    labels[::10] = predictions[::10]
    interval = powered_mean(predictions, labels).interval
    assert interval.value == pytest.approx(0.5)
    assert 0.02 < interval.high - interval.value < 0.05


@given(st.integers(0, 10_000))
def test_value_lies_within_its_limits(seed):
    random = np.random.default_rng(seed)
    predictions, labels = random.uniform(size=30), random.integers(0, 2, size=30).astype(float)
    labels[random.permutation(30)[:20]] = np.nan
    interval = powered_mean(predictions, labels, prompts=random.integers(0, 5, size=30)).interval
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize("error", [0.02, 0.4])
@pytest.mark.parametrize("stratified", [False, True])
def test_covers_whatever_the_error(error, stratified):
    random = np.random.default_rng(8)
    covered = covered_prompts = 0
    for _ in range(150):
        prompts = np.repeat(np.arange(40), 9)
        truth = random.binomial(1, np.repeat(random.beta(0.5, 0.5, size=40), 9)).astype(float)
        # One-sided errors, which bias the predictions most.
        predictions = np.where((truth == 1) & (random.uniform(size=360) < error), 0.0, truth)
        strata = predictions if stratified else np.zeros(360)
        labels = np.full(360, np.nan)
        for stratum in np.unique(strata):
            inside = np.flatnonzero(strata == stratum)
            picked = random.permutation(inside)[: min(len(inside), 50 if stratified else 100)]
            labels[picked] = truth[picked]
        here = powered_mean(predictions, labels, strata=strata).interval
        there = powered_mean(predictions, labels, strata=strata, prompts=prompts).interval
        covered += here.low <= truth.mean() <= here.high
        covered_prompts += there.low <= 0.5 <= there.high
    assert covered / 150 >= 0.92
    assert covered_prompts / 150 >= 0.92


def test_a_good_classifier_narrows_and_a_bad_one_does_no_harm():
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, size=4000).astype(float)
    labels = np.where(np.arange(4000) < 200, truth, np.nan)
    widths = {}
    for name, predictions in {
        "good": np.where(random.uniform(size=4000) < 0.03, 1 - truth, truth),
        "bad": random.integers(0, 2, size=4000).astype(float),
    }.items():
        estimate = powered_mean(predictions, labels)
        widths[name] = (estimate.interval.high - estimate.interval.low) / (
            estimate.labels_only.high - estimate.labels_only.low
        )
    assert widths["good"] < 0.5
    assert 0.95 < widths["bad"] < 1.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [0.5, 1]), "length"),
        (([2.0], [1.0]), "between 0 and 1"),
        (([np.nan], [1.0]), "between 0 and 1"),
        (([0.5, 0.5], [1.0, np.nan], [0, 1]), "labelled unit"),
        (([0.5, 0.5], [1.0, np.nan], [0]), "stratum"),
    ],
)
def test_wrong_samples_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        powered_mean(*arguments[:2], strata=arguments[2] if len(arguments) > 2 else None)


def test_kappa_by_hand():
    # Cohen's textbook table: agreement 0.7, by chance 0.5.
    result = agreement([[20, 5], [10, 15]])
    assert result.agreement.value == pytest.approx(0.7)
    assert result.kappa.value == pytest.approx(0.4)
    assert 0.1 < result.kappa.low < 0.4 < result.kappa.high < 0.7


def test_kappa_of_one_label_is_not_defined():
    result = agreement([[7, 0], [0, 0]])
    assert result.agreement.value == 1.0
    assert result.kappa.value is None
    assert agreement([[0, 0], [0, 0]]).agreement.value is None
    with pytest.raises(ValueError, match="square"):
        agreement([[1, 2, 3], [1, 2, 3]])


@pytest.mark.parametrize(
    ("prompts", "margin"),
    [
        # the residuals' squares are 5, and two corrections by 1 are as good as unseen: (5 + 2) / (19 + 2), t with 19 degrees
        (None, 2.093024 * np.sqrt((1 / 20 - 1 / 1000) * 7 / 21)),
        # totals of -75, -25, 25 and 75 thousandths, times 4 / 3; the unseen corrections beside them; t with 3 degrees
        (np.arange(1000) % 4, 3.182446 * np.sqrt(0.0125 * 4 / 3 + (1 / 20 - 1 / 1000) * 2 / 20)),
    ],
)
def test_limits_by_hand(prompts, margin):
    labels = np.full(1000, np.nan)
    labels[:20] = [number // 4 <= number % 4 for number in range(20)]
    assert [int(labels[:20][np.arange(20) % 4 == prompt].sum()) for prompt in range(4)] == [1, 2, 3, 4]
    interval = powered_mean(np.zeros(1000), labels, prompts=prompts).interval
    assert (interval.value - interval.low, interval.high - interval.value) == pytest.approx((margin, margin), rel=1e-5)
