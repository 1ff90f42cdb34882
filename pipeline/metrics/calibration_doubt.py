"""Where a calibration shows too little for a correction: a classifier that it does not show to tell labels apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.statistics.correction import SMALLEST_DISCRIMINATION


def doubt(name: str, confusion: st.Confusion, *, confidence: float) -> str | None:
    """Why nothing can be corrected with these error rates; None where they tell labels apart.

    Where the interval of J holds 0, the calibration does not show that decisions depend on the label: to take the errors
    out is then to divide by what may be nothing, and one share is as good a correction as another.

    Parameters
    ----------
    name
        The attribute.
    confusion
        Its error rates.
    confidence
        Of the interval of J.
    """
    found = confusion.discrimination_interval(confidence=confidence)
    if found.low > 0 and confusion.discrimination >= SMALLEST_DISCRIMINATION:
        return None
    text = f"J = {confusion.discrimination:.2f}, {confidence * 100:.6g}% interval {found.low:.2f} to {found.high:.2f}, where 0 is guessing"
    swapped = " It is below 0: look whether labels of the data set are swapped." if found.high < 0 else ""
    return f"The calibration does not show that the classifier tells the labels of {name} apart ({text}).{swapped}"


def calibration_notes(data: Mapping[str, Any]) -> list[str]:
    """What to know of a calibration before it is used: the attributes that it cannot correct, and why."""
    calibration, notes = Calibration(data), []
    for name, entry in data["attributes"].items():
        confusion = calibration.confusion(name, entry["labels"])
        why = doubt(name, confusion, confidence=data["confidence"]) if confusion is not None else None
        if why is not None:
            notes.append(f"{why} With this file no figure of {name} is corrected.")
    return notes
