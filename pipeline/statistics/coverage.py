"""Where an interval may not cover as often as it says, or says very little: the settings docs/validation.md found."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.statistics.confusion import Confusion
from pipeline.statistics.correction import CONTRADICTED
from pipeline.statistics.intervals import Interval

FEW_PROMPTS = 10
"""Below this, kinds of prompts that are rare are easily missed."""
SMALL_CALIBRATION = 50
"""Calibration images of a label below which its error rates are hardly known."""
WEAK_DISCRIMINATION = 0.5
"""Youden's J below which a correction multiplies noise many times over."""


@dataclass(frozen=True)
class CoverageWarning:
    """A reason to read an interval with care."""

    code: str
    """Short name, stable across versions."""
    message: str
    """One sentence for a reader."""


def coverage_warnings(
    *,
    prompts: int,
    set_size: int = 4,
    labels: int = 2,
    share: Interval | None = None,
    unanimity: Interval | None = None,
    confusion: Confusion | None = None,
    corrected_unanimity: Interval | None = None,
) -> list[CoverageWarning]:
    """Return what to warn about beside the intervals of a run.

    Parameters
    ----------
    prompts
        Prompts with enough images.
    set_size, labels
        As in `unanimity`.
    share, unanimity
        The uncorrected estimates; share is that of any one label.
    confusion
        The calibration, if one is attached.
    corrected_unanimity
        The corrected estimate, if there is one.
    """
    found: list[CoverageWarning] = []

    def warn(code: str, message: str) -> None:
        found.append(CoverageWarning(code, message))

    if prompts < FEW_PROMPTS:
        warn(
            "few-prompts",
            f"{prompts} prompts: prompts of a rare kind are easily missed, and limits may cover less or more often "
            "than stated.",
        )
    agree = [e for e in (share, unanimity) if e is not None and e.value in (0.0, 1.0)]
    if agree:
        warn("agreement", "All prompts agree, so how much prompts differ is not known; the limits assume little.")
    chance = float(labels) ** (1 - set_size)
    near = [e.value for e in (unanimity, corrected_unanimity) if e is not None and e.value is not None]
    if near and min(near) < 2 * chance:
        warn(
            "near-chance",
            f"Unanimity is close to {chance:.3g}, the least that is possible over many images; its estimate is skewed "
            "there, and calibration error can only raise it.",
        )
    if confusion is not None:
        fewest = int(confusion.counts.sum(axis=1).min())
        if fewest < SMALL_CALIBRATION:
            warn("small-calibration", f"Only {fewest} calibration images of a label: its error rates are hardly known.")
        if confusion.discrimination < WEAK_DISCRIMINATION:
            warn(
                "weak-classifier",
                f"The classifier tells labels apart poorly (J = {confusion.discrimination:.2f}): corrected limits are "
                "very wide.",
            )
    if corrected_unanimity is not None and corrected_unanimity.method == CONTRADICTED:
        warn(
            "calibration-contradicted",
            "The images are more alike, or more even, than the calibration's error rates allow: the calibration is "
            "not that of these images.",
        )
    return found
