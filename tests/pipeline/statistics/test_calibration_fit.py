"""A calibration is tested against a run by the directions that no mix of its labels can move."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.arrays import FloatArray, IntArray

ADULTS = np.array([[0.05, 0.03, 0.80, 0.06, 0.06], [0.03, 0.06, 0.02, 0.85, 0.04]])
"""Rates of decisions below and above the median lead, and of no decision, per label."""
CHILDREN = np.array([[0.15, 0.15, 0.45, 0.05, 0.20], [0.10, 0.15, 0.05, 0.50, 0.20]])


def audit(rates: FloatArray, random: np.random.Generator, *, prompts: int = 40, images: int = 16, spread: float = 0.0) -> IntArray:  # fmt: skip
    """Cells of a run whose shares differ by prompt, and whose rates may: by a normal pull on the logit of each cell."""
    share = random.beta(0.3, 0.3, size=(prompts, 1))
    pulled = rates * np.exp(random.normal(0, spread, size=(prompts, 1, rates.shape[1])))
    pulled /= pulled.sum(axis=2, keepdims=True)
    cells = share * pulled[:, 0] + (1 - share) * pulled[:, 1]
    return random.multinomial(images, cells / cells.sum(axis=1, keepdims=True))


def rejected(rates: FloatArray, *, spread: float = 0.0, audits: int = 400, calibrated: int = 100) -> float:
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(audits):
        calibration = np.stack([random.multinomial(calibrated, row) for row in ADULTS])
        found = st.calibration_fit(audit(rates, random, spread=spread), calibration)
        assert found is not None and found.contrasts == 3
        hits += found.p_value < 0.05
    return hits / audits


def test_a_matching_calibration_is_seldom_refused() -> None:
    assert rejected(ADULTS) <= 0.06  # 5% and what 400 audits leave open
    assert rejected(ADULTS, spread=0.3) <= 0.06


def test_rates_of_another_kind_of_image_are_told() -> None:
    assert rejected(CHILDREN, audits=100) >= 0.95


def test_shares_alone_never_make_it_refuse() -> None:
    """All women, or all men, are mixtures too."""
    random = np.random.default_rng(1)
    women = random.multinomial(16, ADULTS[0], size=40)
    found = st.calibration_fit(women, np.stack([random.multinomial(500, row) for row in ADULTS]))
    assert found is not None and found.p_value > 0.05


def test_what_cannot_be_tested_gives_nothing() -> None:
    assert st.calibration_fit([[3, 1]] * 20, [[90, 10], [10, 90]]) is None  # as many decisions as labels
    assert st.calibration_fit([[3, 1, 0]] * 3, [[90, 5, 5], [5, 90, 5]]) is None  # three prompts
    with pytest.raises(ValueError, match="same ones"):
        st.calibration_fit([[3, 1]], [[90, 5, 5], [5, 90, 5]])
