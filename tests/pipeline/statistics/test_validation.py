"""The simulation behind docs/validation.md: it must use the estimators as the tool does, and judge them rightly."""

import numpy as np
import pytest

from pipeline.statistics import Confusion, corrected_share, corrected_unanimity, mean_share, unanimity
from scripts.validate_statistics import (
    Result,
    Setting,
    check_corrected,
    check_raw,
    corrected_limits,
    mixture,
    plug_in,
    raw_limits,
    reason,
    truths,
)


@pytest.mark.parametrize("images", [4, 9])
def test_many_audits_at_once_are_the_public_functions_one_by_one(images):
    random = np.random.default_rng(0)
    women = random.binomial(images, random.beta(0.5, 0.5, size=(6, 15)))
    right = random.binomial(100, 0.9, size=(6, 2))
    raw = raw_limits(women, images)
    corrected = corrected_limits(women, images, right=right, calibrated=100, draws=4000, random=random)
    for audit in range(6):
        rows = np.column_stack([women[audit], images - women[audit]])
        confusion = Confusion.from_rates(sensitivity=(right[audit, 0], 100), specificity=(right[audit, 1], 100))
        expected = {
            ("share", 0): mean_share(rows),
            ("unanimity", 0): unanimity(rows).interval,
            ("share", 1): corrected_share(rows, confusion=confusion),
            ("unanimity", 1): corrected_unanimity(rows, confusion=confusion).interval,
        }
        for (name, after), interval in expected.items():
            ours = [part[audit] for part in (corrected if after else raw)[name]]
            theirs = [interval.value, interval.low, interval.high]
            assert ours == pytest.approx(theirs, abs=0.03 if after else 1e-6)


def test_truth_is_the_mean_over_the_population():
    shares = np.random.default_rng(1).beta(0.3, 0.3, size=400_000)
    truth = truths("mixed (U)")
    assert truth["share"] == pytest.approx(0.5)
    assert truth["unanimity"] == pytest.approx((shares**4 + (1 - shares) ** 4).mean(), abs=2e-3)


def test_a_setting_is_judged():
    random = np.random.default_rng(2)
    results = list(check_raw(Setting("mixed (U)", 9, 20, None, None, None), 200, random))
    results += check_corrected(Setting("mixed (U)", 9, 20, 0.9, 0.9, 200), 60, draws=200, random=random)
    found = {result.estimate: result.coverage for result in results}
    assert min(found["share"], found["unanimity"], found["corrected share"], found["corrected unanimity"]) > 0.85
    assert found["uncorrected unanimity"] < 0.6


def test_every_miss_has_a_reason():
    few = Result(Setting("near 0", 4, 5, None, None, None), "share", 100, 0.03, 0.99, 0.0, 0.01, 0.3, 1.0)
    assert not few.reached
    assert reason(few).startswith("5 prompts")


def test_rival_estimators_are_right_without_error_and_with_many_images():
    times = np.zeros((1, 401), dtype=int)
    times[0, [0, 200, 400]] = [1, 2, 1]
    rates = np.array([[1 - 1e-9, 1 - 1e-9]])
    expected = (2 + 2 * 0.125) / 4
    assert plug_in(times, rates)[0] == pytest.approx(expected)
    assert mixture(times, rates, steps=300)[0] == pytest.approx(expected, abs=0.01)
