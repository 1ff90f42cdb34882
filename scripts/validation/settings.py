"""What is simulated, its truth, and how an interval did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from allfour.pipeline.statistics import Interval
from allfour.pipeline.statistics.arrays import FloatArray

SET_SIZE = 4
LOW, HIGH = 0.93, 0.98
POPULATIONS = {"near 0": (1, 32), "near 0.5": (15, 15), "near 1": (32, 1), "mixed (U)": (0.3, 0.3)}
"""Beta distributions of the prompts' shares."""
IMAGES = (4, 9, 64)
PROMPTS = (5, 20, 150)
ERRORS = ((0.80, 0.80), (0.80, 0.99), (0.90, 0.90), (0.99, 0.99))
CALIBRATIONS = (200, 5000)
Limits = tuple[FloatArray, FloatArray, FloatArray]
"""Value, lower and upper limit, one of each per audit."""


@dataclass(frozen=True)
class Setting:
    """One row of the results."""

    population: str
    images: int
    prompts: int
    sensitivity: float | None
    specificity: float | None
    calibration: int | None
    abstention: float | None = None
    """Share of the first label's images that are ambiguous; of the second label's it is half."""
    labelled: int | None = None
    """Units that people label."""
    unit: Literal["image", "set"] | None = None
    """What people label."""
    effect: str | None = None
    """What differs in a second run of the same prompts: nothing, or every share moves halfway to even."""

    def describe(self) -> str:
        """Return what is special about the setting, in a few words."""
        parts = []
        if self.abstention is not None:
            parts.append(f"{self.abstention:.0%} / {self.abstention / 2:.1%} ambiguous")
        if self.labelled is not None:
            parts.append(f"{self.labelled} {self.unit}s labelled")
        if self.effect is not None:
            parts.append("same shares" if self.effect == "none" else "shares halfway to even")
        return ", ".join(parts) or "-"

    def shares(self, audits: int, random: np.random.Generator) -> FloatArray:
        """Draw the prompts' shares, shape (audits, prompts)."""
        return random.beta(*POPULATIONS[self.population], size=(audits, self.prompts))


@dataclass(frozen=True)
class Result:
    """How an interval did in a setting."""

    setting: Setting
    estimate: str
    audits: int
    truth: float
    coverage: float
    too_high: float
    """Share of audits whose interval lies above the truth."""
    too_low: float
    width: float
    warned: float | None
    """Share of audits in which the tool warns; None where it was not asked."""
    rejected: float | None = None
    """Share of audits whose test rejects at 5%, where the estimate has one."""

    @property
    def reached(self) -> bool:
        """Whether coverage is where it is wanted."""
        return LOW <= self.coverage <= HIGH


def truths(population: str) -> dict[str, float]:
    """Return mean share and mean unanimity of a Beta population."""
    a, b = POPULATIONS[population]
    rising = [np.prod([(x + i) / (a + b + i) for i in range(SET_SIZE)]) for x in (a, b)]
    return {"share": a / (a + b), "unanimity": float(sum(rising))}


def summarise(
    setting: Setting,
    estimate: str,
    *,
    truth: float,
    limits: Limits,
    warned: float | None,
    rejected: float | None = None,
) -> Result:
    """Return how often limits cover."""
    _, low, high = limits
    slack = 1e-9
    too_high, too_low = float((low > truth + slack).mean()), float((high < truth - slack).mean())
    return Result(
        setting,
        estimate,
        len(low),
        truth,
        1 - too_high - too_low,
        too_high,
        too_low,
        float((high - low).mean()),
        warned,
        rejected,
    )


def intervals(limits: Limits, audit: int) -> Interval:
    """Return one audit's interval."""
    value, low, high = (float(part[audit]) for part in limits)
    return Interval(value, low, high, "")
