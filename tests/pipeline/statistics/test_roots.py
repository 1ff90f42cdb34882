"""Brent's method gives scipy's roots to the last bit, so nothing that was computed with those has moved."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, special

from allfour.pipeline.statistics.roots import root_between


def functions(c: np.ndarray) -> list[Callable[[float], float]]:
    return [
        lambda x: math.tanh(c[0] + 3 * x) + 0.2 * c[1] * x**3,
        lambda x: x**3 - c[0],
        lambda x: float(special.ndtr(x + abs(c[0])) - special.ndtr(-x)) - 0.9,
        lambda x: min(max(x - c[0], -0.5), 0.5),  # flat at both ends
        lambda x: -1.0 if x < c[0] else 1.0,
    ]


def test_the_roots_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    looked = 0
    for _ in range(150):
        for f in functions(random.uniform(-2, 2, 2)):
            if (f(-3.0) < 0) != (f(3.0) < 0):
                looked += 1
                for xtol in (2e-12, 1e-6):
                    assert root_between(f, -3.0, 3.0, xtol=xtol) == optimize.brentq(f, -3.0, 3.0, xtol=xtol)
    assert looked > 500


def test_ends_that_are_roots_and_ends_of_one_sign() -> None:
    assert (root_between(lambda x: x, 0.0, 1.0), root_between(lambda x: x - 1, 0.0, 1.0)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="one sign"):
        root_between(lambda x: x + 5, 0.0, 1.0)
