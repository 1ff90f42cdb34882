"""A calibration's groups, weighted to what a run shows: found where it can be told, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline.statistics import group_mix

GROWN = np.array([[40, 30, 30, 20, 810, 40, 30], [20, 50, 20, 40, 20, 810, 40]])
YOUNG = np.array([[120, 170, 110, 60, 240, 100, 200], [100, 170, 50, 170, 40, 280, 190]])
OTHERS = np.array([[20, 20, 500, 100, 100, 20, 240], [20, 20, 100, 500, 20, 100, 240]])


def run_of(*parts: tuple[np.ndarray, float], images: int = 64, prompts: int = 60) -> np.ndarray:
    """Cells of prompts whose images are of these groups, in these shares, whatever their label."""
    random = np.random.default_rng(5)
    shares = random.beta(0.3, 0.3, prompts)
    rows = []
    for share in shares:
        rates = sum(part * (share * g[0] / g[0].sum() + (1 - share) * g[1] / g[1].sum()) for g, part in parts)
        rows.append(random.multinomial(images, rates))
    return np.array(rows)


@pytest.mark.parametrize("young", [0.0, 0.5, 1.0])
def test_a_planted_mix_is_found(young: float) -> None:
    found = group_mix(run_of((GROWN, 1 - young), (YOUNG, young)), [GROWN, YOUNG])
    assert found is not None and found.fit.p_value > 0.05 and found.fit.contrasts == 3
    assert (found.own > 0.05) == (young == 0.5)  # half and half is the calibration's own mix
    assert np.abs(found.weights[:, 1] - young).max() < 0.15
    rates = found.counts / found.counts.sum(axis=1, keepdims=True)
    mixed = (1 - young) * GROWN / GROWN.sum(axis=1, keepdims=True) + young * YOUNG / YOUNG.sum(axis=1, keepdims=True)
    assert np.abs(rates - mixed).max() < 0.06
    assert (found.counts.sum(axis=1) <= 2000).all()  # worth no more than the images there are


def test_a_run_of_nobody_in_the_calibration_does_not_fit() -> None:
    found = group_mix(run_of((OTHERS, 1.0)), [GROWN, YOUNG])
    assert found is None or found.fit.p_value < 0.01


def test_what_cannot_be_told_is_none() -> None:
    run = run_of((GROWN, 1.0))
    assert group_mix(run, [GROWN]) is None
    assert (
        group_mix(run, [GROWN, YOUNG, OTHERS]) is None
    )  # six rows of seven cells: next to nothing is left to test with
    assert group_mix(run[:5], [GROWN, YOUNG]) is None


def test_groups_that_err_alike_say_little_of_the_mix_and_much_of_the_rates() -> None:
    found = group_mix(run_of((GROWN, 1.0)), [GROWN, GROWN + 1])
    assert found is not None
    assert found.counts.sum(axis=1).min() > 500
