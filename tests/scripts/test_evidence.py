"""The simulated settings of the first line: runs and calibrations are of one kind where they are meant to be."""

from __future__ import annotations

import numpy as np

from scripts.validation.evidence import LABELS, calibration_of


def test_the_simulated_calibration_has_the_bands_of_the_simulated_runs() -> None:
    """Small leads are 0.5 there and large ones 9: both must fall where the calibration counted them."""
    found = calibration_of(np.array([[4, 3, 84, 5, 4], [2, 5, 2, 87, 4]])).sure_cells("gender", LABELS)
    assert found is not None and 0.5 < found.edges[0] < found.edges[1] < 9.0
    assert found.counts.tolist() == [[4, 3, 0, 0, 84, 5, 4], [2, 5, 0, 0, 2, 87, 4]]
