"""The margin for a wanted error: shown, not only seen."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st


def test_the_smallest_margin_whose_upper_limit_is_low_enough() -> None:
    """By trying every margin with the interval itself."""
    random = np.random.default_rng(0)
    gaps = random.random(800).astype(np.float32)
    wrong = random.random(800) < 0.3 * (1 - gaps) ** 2
    found = st.margin_for_error(gaps, wrong, max_error=0.05)
    shown = [m for m in sorted(gaps) if st.wilson(int(wrong[gaps >= m].sum()), int((gaps >= m).sum())).high <= 0.05]
    assert found is not None and found.margin == pytest.approx(shown[0], abs=1e-6)
    kept = gaps >= np.float32(found.margin)
    assert (found.images, found.labelled) == (kept.sum(), pytest.approx(kept.mean()))
    assert found.error.high <= 0.05 and found.error.value == pytest.approx(wrong[kept].mean())


def test_no_margin_is_needed_where_all_are_right() -> None:
    found = st.margin_for_error(np.linspace(0.1, 1, 200), np.zeros(200, dtype=bool), max_error=0.05)
    assert found is not None and (found.margin, found.labelled) == (0.0, 1.0)


def test_few_images_or_sure_errors_give_none() -> None:
    assert st.margin_for_error(np.ones(20), np.zeros(20), max_error=0.05) is None  # the upper limit of 0 of 20 is 16%
    gaps = np.linspace(0.01, 1, 500)
    assert st.margin_for_error(gaps, gaps > 0.8, max_error=0.05) is None


def test_images_of_one_gap_are_kept_together() -> None:
    gaps, wrong = np.repeat([0.9, 0.5], [300, 300]), np.repeat([False, True], [450, 150])
    found = st.margin_for_error(gaps, wrong, max_error=0.05)
    assert found is not None and found.images == 300 and 0.5 < found.margin <= 0.9


def test_on_other_images_the_error_seldom_lies_above_it() -> None:
    random, above = np.random.default_rng(1), 0
    for _ in range(300):
        gaps = random.random(500)
        wrong = random.random(500) < 0.3 * (1 - gaps) ** 2
        found = st.margin_for_error(gaps, wrong, max_error=0.05)
        above += (
            found is not None and 0.3 * (1 - found.margin) ** 2 / 3 > 0.05
        )  # the mean of 0.3 (1 - g)^2 over gaps from the margin on
    assert above / 300 <= 0.06
