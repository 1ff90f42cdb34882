"""Differences of two runs against values computed by hand, by enumeration, and in simulated pairs."""

from itertools import combinations, product

import numpy as np
import pytest

from allfour.pipeline.statistics import Confusion
from allfour.pipeline.statistics.corrected_difference import corrected_difference, error_that_explains
from allfour.pipeline.statistics.difference import dealt_test, unanimity_difference
from allfour.pipeline.statistics.paired_means import mean_difference
from allfour.pipeline.statistics.read_images import ReadImages


def read(women, images, confusion=None, unread=0):
    women = np.asarray(women)
    return ReadImages(np.column_stack([women, images - women]), 2, unread, confusion)


def test_four_against_sixteen_is_the_hypergeometric_chance_of_one_kind():
    found = unanimity_difference(read([4, 2, 0], 4), read([16, 8, 10], 16)).measured
    # of 16 images with 8 and with 10 women: (C(8,4) + C(8,4)) / C(16,4) = 140 / 1820, (C(10,4) + C(6,4)) / 1820 = 225 / 1820
    second = (1 + 140 / 1820 + 225 / 1820) / 3
    assert (found.first, found.second) == (pytest.approx(2 / 3), pytest.approx(second))
    assert found.interval.value == pytest.approx(second - 2 / 3)
    assert (found.test, found.prompts) == ("dealt", 3)
    # random weights of the three prompts, half a prompt at -1 and half at the highest difference
    d = np.array([-1, 225 / 1820 - 1, 0, 140 / 1820])
    weights = np.random.default_rng(1).dirichlet([0.5, 1, 1, 1.5], size=400_000)
    assert found.interval.low == pytest.approx(np.quantile(weights @ d, 0.025), abs=3e-3)


def by_enumeration(first, second, set_size):
    """p-value over every way to deal each prompt's images, which are letters, to hands as large as they are."""

    def unanimous(hand):
        sets = list(combinations(hand, set_size))
        return sum(len(set(chosen)) == 1 and "?" not in chosen for chosen in sets) / len(sets)

    options = []
    for one, two in zip(first, second, strict=True):
        whole, found = one + two, []
        for places in combinations(range(len(whole)), len(one)):
            rest = [whole[i] for i in range(len(whole)) if i not in places]
            found.append(unanimous(rest) - unanimous([whole[i] for i in places]))
        options.append(found)
    step = max(_gap([unanimous(h) for h in side]) for side in (first, second))

    def studentised(d):
        mean = np.mean(d)
        return abs(mean) / np.sqrt((((d - mean) ** 2).sum() + 2 * step**2) / (len(d) + 1) / len(d))

    observed = studentised(np.array([unanimous(b) - unanimous(a) for a, b in zip(first, second, strict=True)]))
    every = np.array([studentised(np.array(d)) for d in product(*options)])
    return (every >= observed - 1e-9).mean()


def _gap(values):
    gaps = np.diff(np.unique(values))
    return gaps.min() if len(gaps) else 1.0


def test_deals_are_those_of_an_enumeration():
    first, second = ["WW", "WW", "MM"], ["WMM?", "WMMW", "MMMW"]
    tables = [
        ReadImages([[hand.count("W"), hand.count("M")] for hand in side], 2, [hand.count("?") for hand in side])
        for side in (first, second)
    ]
    exact = by_enumeration(first, second, 2)
    assert 0.01 < exact < 0.9
    found = dealt_test(*tables, set_size=2, draws=9_999)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9_999))
    assert found == dealt_test(*tables, set_size=2, draws=9_999)


def test_a_set_corrected_by_hand():
    """Of four images with known decisions the estimate is the product of their scores, summed over labels."""
    confusion = Confusion.from_rates(sensitivity=(900, 1000), specificity=(800, 1000))
    j = 0.9 + 0.8 - 1
    for_woman = {"w": 0.8 / j, "m": -(1 - 0.8) / j}
    for_man = {"w": -(1 - 0.9) / j, "m": 0.9 / j}

    def estimate(women):
        letters = "w" * women + "m" * (4 - women)
        return np.prod([for_woman[x] for x in letters]) + np.prod([for_man[x] for x in letters])

    found = corrected_difference(read([4, 3], 4, confusion), read([4, 2], 4, confusion))
    assert found.first == pytest.approx((estimate(4) + estimate(3)) / 2)
    assert found.second == pytest.approx((estimate(4) + estimate(2)) / 2)
    share = corrected_difference(read([4, 3], 4, confusion), read([4, 2], 4, confusion), label=0)
    assert share.interval.value == pytest.approx(-(1 / 8) / j)


def test_a_perfect_classifier_is_corrected_by_nothing():
    sure = Confusion.from_rates(sensitivity=(100_000, 100_000), specificity=(100_000, 100_000))
    random = np.random.default_rng(1)
    women = random.binomial(9, random.beta(0.3, 0.3, size=(2, 30)))
    found = unanimity_difference(read(women[0], 9, sure), read(women[1], 9, sure))
    assert found.corrected.interval.value == pytest.approx(found.measured.interval.value, abs=1e-9)
    assert found.corrected.interval.low == pytest.approx(found.measured.interval.low, abs=0.02)
    assert found.corrected.interval.high == pytest.approx(found.measured.interval.high, abs=0.02)


def test_one_calibration_on_both_sides_errs_alike():
    confusion = Confusion.from_rates(sensitivity=(45, 50), specificity=(45, 50))
    women = np.tile([0, 2, 14, 16], 10)
    again = Confusion(confusion.counts)
    shared = unanimity_difference(read(women, 16, confusion), read(women, 16, confusion)).corrected.interval
    apart = unanimity_difference(read(women, 16, confusion), read(women, 16, again)).corrected.interval
    assert shared.high - shared.low < 0.5 * (apart.high - apart.low)


def test_under_one_calibration_images_may_change_sides():
    """The test is then exact: signs are flipped, and which run is the first makes no difference."""
    random = np.random.default_rng(2)
    confusion = Confusion.from_rates(sensitivity=(45, 50), specificity=(45, 50))
    share = random.beta(0.3, 0.3, size=30)
    runs = [read(random.binomial(16, share), 16, confusion) for _ in range(2)]
    one, other = (unanimity_difference(*pair, draws=200).corrected for pair in (runs, runs[::-1]))
    assert one.test == other.test == "sign-flip" and one.p_value == other.p_value
    assert one.interval.value == pytest.approx(-other.interval.value, abs=1e-12)
    fewer = read(random.binomial(4, share), 4, confusion)
    assert unanimity_difference(runs[0], fewer, draws=200).corrected.test == "confidence"
    apart = read(runs[1].decisions[:, 0], 16, Confusion(confusion.counts))
    assert unanimity_difference(runs[0], apart, draws=200).corrected.test == "confidence"


def test_equivalence_is_two_one_sided_tests():
    random = np.random.default_rng(3)
    before = random.random(200)
    after = before + random.normal(0.01, 0.1, size=200)
    found = mean_difference(before, after, p_value=1.0, test="x", margin=0.05)
    assert found.equivalent < 0.05
    # a margin at a limit of 90% is one that is shown at 5%
    limits = mean_difference(before, after, p_value=1.0, test="x", confidence=0.9).interval
    at_limit = mean_difference(before, after, p_value=1.0, test="x", margin=max(limits.high, -limits.low))
    assert at_limit.equivalent == pytest.approx(0.05, abs=1e-6)
    assert mean_difference(before, after + 0.05, p_value=1.0, test="x", margin=0.05).equivalent > 0.05


def test_bounds_hold_for_every_way_to_label_what_has_no_label():
    first, second = ([[2, 0], [1, 1]], [2, 2]), ([[4, 0], [2, 2]], [0, 0])
    found = unanimity_difference(*(ReadImages(table, 2, unread) for table, unread in (first, second)))
    # first run: 2 women and 2 unknown may be one kind or not, 1 and 1 never; second run: 1 and 0
    assert (found.bounds.least, found.bounds.most) == (0.0, 0.5)
    assert found.measured.interval.value == 0.5
    assert found.bounds.low <= 0.0 <= 0.5 <= found.bounds.high


def test_images_that_no_rate_covers_widen_both_limits():
    sure = Confusion.from_rates(sensitivity=(1000, 1000), specificity=(1000, 1000))
    women = np.tile([0, 3, 6, 9], 10)
    whole = unanimity_difference(read(women, 9, sure), read(women, 9, sure)).corrected
    part = unanimity_difference(read(women, 9, sure), read(women, 9, sure, unread=1)).corrected
    hangs = 1 - 9 * 8 * 7 * 6 / (10 * 9 * 8 * 7)
    assert part.interval.high == pytest.approx(whole.interval.high + hangs, abs=0.01)
    assert part.p_value == 1.0


def test_prompts_with_less_than_a_set_are_counted_and_left_out():
    found = unanimity_difference(ReadImages([[4, 0], [2, 0], [4, 0]], 2), ReadImages([[4, 0], [4, 0], [0, 4]], 2))
    assert (found.measured.prompts, found.left_out, found.corrected) == (2, 1, None)
    one = unanimity_difference(read([4], 4), read([0], 4))
    assert (one.measured.p_value, one.measured.interval.low, one.bounds) == (1.0, -1.0, None)


def test_runs_of_other_prompts_are_refused():
    with pytest.raises(ValueError, match="same prompts"):
        unanimity_difference(read([4], 4), read([4, 4], 4))
    with pytest.raises(ValueError, match="columns"):
        ReadImages([[1, 2, 3]], 2, 0, Confusion.from_rates(sensitivity=(9, 10), specificity=(9, 10)))


def test_unequal_errors_are_taken_out_and_no_change_is_not_rejected():
    """5% more error in one run, which plain figures take for a difference; docs/validation.md has a thousand pairs of each."""
    random = np.random.default_rng(5)
    rates = [np.array([[0.95, 0.05], [0.05, 0.95]]), np.array([[0.88, 0.12], [0.12, 0.88]])]
    covered, rejected, plain = 0, 0, 0
    for seed in range(60):
        share = random.beta(0.3, 0.3, size=60)[:, np.newaxis]
        runs = [
            ReadImages(
                random.multinomial(16, share * r[0] + (1 - share) * r[1]), 2, 0, Confusion(np.stack([random.multinomial(200, row) for row in r]))
            )
            for r in rates
        ]  # fmt: skip
        found = unanimity_difference(*runs, draws=400, test_draws=199, seed=seed)
        covered += found.corrected.interval.low <= 0 <= found.corrected.interval.high
        rejected += found.corrected.p_value <= 0.05
        plain += found.measured.p_value <= 0.05
    assert plain > 40
    assert covered >= 54
    assert rejected <= 7


def test_the_error_that_would_explain_a_difference():
    """All-women sets of four agree after errors of e with (1 - e)^4 + e^4, so that 5% gives 0.8145 of them."""
    apart = (1 - 0.05) ** 4 + 0.05**4
    first = read([4] * 10_000, 4)
    second = read([4] * round(10_000 * apart) + [2] * (10_000 - round(10_000 * apart)), 4)
    assert error_that_explains(first, second) == pytest.approx(0.05, abs=1e-4)
    assert error_that_explains(second, first) == pytest.approx(0.05, abs=1e-4)
    assert error_that_explains(first, first) is None
    # fewer than chance alone would give: no error makes it
    assert error_that_explains(first, read([2] * 10_000, 4)) is None
