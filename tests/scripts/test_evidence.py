"""The simulated settings of the first line: runs and calibrations are of one kind where they are meant to be."""

from __future__ import annotations

import numpy as np

from scripts.validation.evidence import LABELS, calibration_of, read_of
from scripts.validation.faults import rows as faults
from scripts.validation.labelled import World, row
from scripts.validation.near_mix import near_mix


def test_the_simulated_calibration_has_the_bands_of_the_simulated_runs() -> None:
    """Small leads are 0.5 there and large ones 9: both must fall where the calibration counted them."""
    found = calibration_of(np.array([[4, 3, 84, 5, 4], [2, 5, 2, 87, 4]])).sure_cells("gender", LABELS)
    assert found is not None and 0.5 < found.edges[0] < found.edges[1] < 9.0
    assert found.counts.tolist() == [[4, 3, 0, 0, 84, 5, 4], [2, 5, 0, 0, 2, 87, 4]]


def test_seven_cells_have_three_leads() -> None:
    read, leads = read_of(np.arange(7), 7)
    assert read.tolist() == [0, 1, 0, 1, 0, 1, 2]
    assert leads[:6].tolist() == [0.5, 0.5, 1.5, 1.5, 9.0, 9.0]
    found = calibration_of(np.arange(14).reshape(2, 7)).sure_cells("gender", LABELS)
    assert found is not None and found.counts.tolist() == np.arange(14).reshape(2, 7).tolist()


def test_faults_are_those_of_before_and_are_right_now() -> None:
    people, few, labour = faults(6, np.random.default_rng(2))
    assert people.right_before < 0.7 < people.right and few.right == 1.0
    assert labour.right_before == 0.0 and labour.right >= 0.8


def test_labels_of_a_part_widen_nothing_where_errors_are_alike() -> None:
    found = row(World(40, 16, 0.1, 0.0, cue=False), 3, np.random.default_rng(3))
    assert found.led == 1.0 and found.wider == 0.0 and found.covered >= 2 / 3
    assert found.width_whole > found.width_plain
    none = row(World(20, 4, 0.25, 0.6, cue=True), 2, np.random.default_rng(3))  # 20 labelled images
    assert none.width == none.width_plain == none.width_whole and none.named == 1.0


def test_a_mix_near_the_calibration_s_own_is_mostly_not_seen_and_the_range_beside_it_holds() -> None:
    found = near_mix(12)
    assert found.audits == 12 and 0.4 < found.as_it_is <= 1.0
    assert found.held <= found.range_held and found.range_held > 0.9
