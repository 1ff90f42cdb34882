"""A variance that was found apart is added to an interval over prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from allfour.pipeline import statistics as st


def test_distances_are_added_as_squares_on_either_side() -> None:
    """By hand: 1.96 x 0.05 = 0.098; the root of 0.1^2 + 0.098^2 is 0.14002, of 0.2^2 + 0.098^2 0.22272."""
    assert st.square_and_add(0.5, 0.4, 0.7, sd=0.05) == pytest.approx((0.35999, 0.72272), abs=1e-4)
    assert st.square_and_add(0.5, 0.4, 0.7, sd=0.0) == pytest.approx((0.4, 0.7))
    assert st.square_and_add(0.9, 0.8, 0.95, sd=0.5) == (0.0, 1.0)


def test_few_settings_reach_further() -> None:
    """Student's t with two degrees of freedom: 4.303 x 0.05."""
    low, _ = st.square_and_add(0.5, 0.4, 0.7, sd=0.05, degrees=2)
    assert low == pytest.approx(0.5 - np.hypot(0.1, 4.302653 * 0.05), abs=1e-6)


def test_the_sum_of_two_errors_is_covered_as_stated() -> None:
    """Shares over prompts read in one wording of many: plain limits miss the mean over wordings, these hold it."""
    random = np.random.default_rng(0)
    truth, prompts, sd, plain, wide = 0.5, 60, 0.08, 0, 0
    for _ in range(2000):
        found = st.wilson(int(random.binomial(prompts, np.clip(truth + random.normal(0, sd), 0, 1))), prompts)
        low, high = st.square_and_add(found.value or 0.0, found.low, found.high, sd=sd)
        plain += found.low <= truth <= found.high
        wide += low <= truth <= high
    assert plain / 2000 < 0.90
    assert stats.binomtest(wide, 2000, 0.95).pvalue > 0.001
