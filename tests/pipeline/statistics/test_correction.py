"""Error correction against textbook formulas, enumeration of all outcomes, and simulated audits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfour.pipeline.statistics.compositions import compositions, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import Confusion, decision_scores
from allfour.pipeline.statistics.correction import (
    CONTRADICTED,
    CORRECTED,
    corrected_prompt_shares,
    corrected_share,
    corrected_unanimity,
    decision_weights,
)
from allfour.pipeline.statistics.coverage import coverage_warnings
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.unanimity import subset_unanimity, unanimity

RATES = np.array([[0.80, 0.12, 0.08], [0.05, 0.90, 0.05]])
PERFECT = Confusion(np.array([[10**9, 0], [0, 10**9]]))


def confusion_of(rates, images):
    return Confusion(np.rint(np.asarray(rates) * images).astype(int))


def test_scores_of_two_labels_are_rogan_and_gladens():
    scores = decision_scores(np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert scores == pytest.approx(np.array([[0.8, -0.2], [-0.1, 0.9]]) / 0.7)


@given(st.integers(2, 4), st.integers(0, 2), st.integers(0, 10_000))
def test_scores_have_the_right_expectation_for_every_label(labels, others, seed):
    random = np.random.default_rng(seed)
    rates = random.dirichlet(np.ones(labels + others), size=labels) * 0.4
    rates[np.arange(labels), np.arange(labels)] += 0.6
    scores = decision_scores(rates, weights=random.uniform(0.5, 2, size=labels + others))
    assert scores @ rates.T == pytest.approx(np.eye(labels), abs=1e-9)


@given(st.integers(1, 4), st.integers(1, 4))
def test_compositions_are_all_ways_to_fill_a_set(parts, total):
    ways = compositions(parts, total).tolist()
    assert sorted(ways) == sorted(list(w) for w in itertools.product(range(total + 1), repeat=parts) if sum(w) == total)


def test_too_many_compositions_are_refused_with_the_mend():
    with pytest.raises(ValueError, match="set_size"):
        compositions(20, 20)


def test_set_scores_are_products_over_all_sets():
    random = np.random.default_rng(0)
    scores, images = random.normal(size=(2, 3)), [0, 0, 1, 2, 2, 2]
    counts = np.bincount(images, minlength=3)[np.newaxis]
    ways = compositions(3, 3)
    estimate = (set_probabilities(counts, ways) @ set_scores(scores, ways))[0]
    by_hand = [sum(np.prod(scores[k, list(s)]) for k in range(2)) for s in itertools.combinations(images, 3)]
    assert estimate == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize("images", [4, 6])
def test_estimate_is_unbiased_under_misclassification_and_abstention(images):
    share = 0.85
    decided = share * RATES[0] + (1 - share) * RATES[1]
    ways, outcomes = compositions(3, 4), compositions(3, images)
    values = set_probabilities(outcomes, ways) @ set_scores(decision_scores(RATES), ways)
    factorial = np.array([1, 1, 2, 6, 24, 120, 720])
    chances = factorial[images] / factorial[outcomes].prod(axis=1) * (decided**outcomes).prod(axis=1)
    assert chances.sum() == pytest.approx(1)
    assert chances @ values == pytest.approx(share**4 + (1 - share) ** 4)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda r: sum(r) >= 4), min_size=2, max_size=9))
def test_perfect_classifier_changes_nothing(rows):
    corrected, raw = corrected_unanimity(rows, confusion=PERFECT, draws=2000), unanimity(rows)
    assert corrected.interval.value == pytest.approx(max(raw.interval.value, 0.125), abs=1e-6)
    assert corrected.prompts == raw.prompts
    if raw.interval.value == pytest.approx(np.mean(subset_unanimity(rows))) and raw.seen.low > 0.125:
        assert corrected.interval.low == pytest.approx(raw.seen.low, abs=0.03)
        assert corrected.interval.high == pytest.approx(raw.seen.high, abs=0.03)


def test_published_count_with_five_per_cent_error():
    """A true 17 of 20 reads as about 14 of 20; the correction leads back."""
    confusion = Confusion.from_rates(sensitivity=(1900, 2000), specificity=(1900, 2000))
    read = [[4, 0]] * 8 + [[0, 4]] * 6 + [[3, 1]] * 4 + [[2, 2]] * 2
    estimate = corrected_unanimity(read, confusion=confusion).interval
    assert unanimity(read).interval.value == 0.7
    assert estimate.value == pytest.approx(0.85, abs=0.03)
    assert estimate.low < 0.7 < estimate.value < estimate.high <= 1
    assert estimate.method == CORRECTED


def test_a_smaller_calibration_gives_a_wider_interval():
    rows = [[5, 4]] * 10 + [[9, 0]] * 10
    widths = []
    for images in (20, 200, 20_000):
        confusion = Confusion.from_rates(sensitivity=(images * 9 // 10, images), specificity=(images * 9 // 10, images))
        interval = corrected_share(rows, confusion=confusion)
        widths.append(interval.high - interval.low)
    assert widths[0] > widths[1] > widths[2]


def test_seven_labels_with_abstention():
    random = np.random.default_rng(3)
    rates = np.full((7, 8), 0.04)
    rates[:, 7] = 0.10
    rates[np.arange(7), np.arange(7)] = 1 - 0.10 - 6 * 0.04
    shares = random.dirichlet(np.full(7, 0.4), size=120)
    rows = np.array([random.multinomial(16, share @ rates) for share in shares])
    confusion = confusion_of(rates, 1000)
    estimate = corrected_unanimity(rows, confusion=confusion, draws=500).interval
    assert estimate.low < (shares**4).sum(axis=1).mean() < estimate.high
    for label in range(7):
        linear = corrected_share(rows, confusion=confusion, label=label, draws=500)
        assert linear.low < shares[:, label].mean() < linear.high


def test_prompt_shares_follow_their_rows():
    confusion = Confusion.from_rates(sensitivity=(90, 100), specificity=(80, 100))
    shares = corrected_prompt_shares([[30, 70], [0, 0], [60, 40], [30, 70]], confusion=confusion)
    assert shares[0] == shares[3]
    assert shares[1].value is None
    assert shares[0].value == pytest.approx(0.1 / 0.7)
    assert shares[2].value == pytest.approx(0.4 / 0.7)


def test_same_seed_same_limits_and_few_images_are_counted():
    confusion = Confusion.from_rates(sensitivity=(90, 100), specificity=(80, 100))
    rows = [[4, 0], [3, 1], [2, 1], [0, 4]]
    first, again = (corrected_unanimity(rows, confusion=confusion, seed=5) for _ in range(2))
    assert first == again
    assert (first.prompts, first.left_out) == (3, 1)
    nothing = corrected_unanimity([[1, 1]], confusion=confusion)
    assert (nothing.interval.value, nothing.left_out) == (None, 1)


def test_a_classifier_that_guesses_corrects_nothing():
    confusion = Confusion.from_rates(sensitivity=(50, 100), specificity=(50, 100))
    assert confusion.discrimination == pytest.approx(0)
    assert corrected_unanimity([[4, 0]], confusion=confusion).interval.value is None
    assert corrected_share([[4, 0]], confusion=confusion).value is None
    assert corrected_prompt_shares([[4, 0]], confusion=confusion)[0].value is None


def test_a_calibration_of_other_images_is_noticed():
    confusion = Confusion.from_rates(sensitivity=(8000, 10_000), specificity=(8000, 10_000))
    estimate = corrected_unanimity([[64, 0]] * 20, confusion=confusion).interval
    assert estimate.method == CONTRADICTED
    assert estimate.low < estimate.high == 1.0
    codes = [w.code for w in coverage_warnings(prompts=20, confusion=confusion, corrected_unanimity=estimate)]
    assert codes == ["weak-classifier", "calibration-contradicted"]


@pytest.mark.parametrize(
    ("counts", "message"), [([[1, 2, 3]], "label"), ([[1], [2]], "shape"), ([[1, 2], [0, 0]], "at least one")]
)
def test_a_confusion_needs_every_label(counts, message):
    with pytest.raises(ValueError, match=message):
        Confusion(np.array(counts))


def test_decisions_must_fit_the_confusion():
    with pytest.raises(ValueError, match="same decisions"):
        corrected_share([[1, 2, 3]], confusion=PERFECT)


def test_warnings_name_the_settings():
    weak = Confusion.from_rates(sensitivity=(14, 20), specificity=(14, 20))
    codes = [
        w.code
        for w in coverage_warnings(
            prompts=5,
            share=Interval(1.0, 0.8, 1.0, "wilson"),
            unanimity=Interval(0.15, 0.1, 0.3, "wilson"),
            confusion=weak,
        )
    ]
    assert codes == ["few-prompts", "agreement", "near-chance", "small-calibration", "weak-classifier"]
    assert coverage_warnings(prompts=150, unanimity=Interval(0.5, 0.4, 0.6, "wilson")) == []


def test_corrected_intervals_cover_where_raw_ones_miss():
    """150 simulated audits: 40 prompts of two kinds, 9 images each, 10% error known from 200 calibration images."""
    random = np.random.default_rng(11)
    truth = 0.7 * (0.97**4 + 0.03**4) + 0.3 * 0.125
    hits = np.zeros(3)
    for _ in range(150):
        shares = random.choice([0.97, 0.5], p=[0.7, 0.3], size=40)
        read = random.binomial(9, shares * 0.9 + (1 - shares) * 0.1)
        rows = np.column_stack([read, 9 - read])
        confusion = Confusion.from_rates(
            sensitivity=(random.binomial(100, 0.9), 100), specificity=(random.binomial(100, 0.9), 100)
        )
        share = corrected_share(rows, confusion=confusion, draws=500)
        together = corrected_unanimity(rows, confusion=confusion, draws=500).interval
        raw = unanimity(rows).interval
        hits += [
            share.low <= 0.829 <= share.high,
            together.low <= truth <= together.high,
            raw.low <= truth <= raw.high,
        ]
    assert (hits[:2] / 150 >= 0.9).all()
    assert hits[2] / 150 < 0.3


def test_no_correction_is_surer_than_a_perfect_classifier():
    confusion = Confusion.from_rates(sensitivity=(95, 100), specificity=(95, 100))
    corrected = corrected_unanimity([[4, 0]] * 20, confusion=confusion).interval
    raw = unanimity([[4, 0]] * 20).interval
    assert corrected.value == raw.value == 1.0
    # The corrected measure reaches down to 1/8 only, the plain one to 0.
    assert corrected.low <= raw.low + 0.125 * (1 - raw.low) + 1e-9


def test_a_label_that_was_never_decided_may_still_be_there():
    rates = np.full((7, 7), 0.05)
    rates[np.arange(7), np.arange(7)] = 0.7
    confusion = confusion_of(rates, 500)
    share = corrected_prompt_shares([[0, 16, 0, 0, 0, 0, 0]], confusion=confusion)[0]
    assert share.value == 0.0
    assert share.high > 0.15


def test_frequencies_of_decisions_are_smoothed_by_half_an_image():
    weights = decision_weights(np.array([[4, 5, 1], [6, 4, 0]]))
    assert weights == pytest.approx([21.5 / 10.5, 21.5 / 9.5, 21.5 / 1.5])
    assert decision_weights(np.array([[20, 19, 0]]))[2] == pytest.approx(1 / 0.05)
