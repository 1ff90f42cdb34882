"""The simulation behind docs/validation-unseen.md: a short round, and that it finds what the page says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scripts import validate_unseen
from scripts.validate_shares import two_kinds
from scripts.validation import unseen


def test_a_short_round_fills_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("POPULATIONS", unseen.POPULATIONS[:2]), ("CHANGES", unseen.CHANGES[2:4])):
        monkeypatch.setattr(unseen, name, few)
    monkeypatch.setattr(validate_unseen, "SUBJECTS", validate_unseen.SUBJECTS[:1])
    text = validate_unseen.page(audits=2)
    tables = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    # two populations by two numbers of sets, and by three classifiers and two numbers of images; and so on, with their heads
    assert len(tables) == (3 + 1 + 4) + (2 + 1 + 12) + 2 * (3 + 1 + 4) + (2 + 1 + 6) + (1 + 2)
    assert " nan" not in text and "(nan" not in text


def test_limits_from_the_spread_miss_what_the_tools_hold() -> None:
    random = np.random.default_rng(1)
    seen, ours = unseen.by_sets(two_kinds(0.99, 0.5, 0.1), prompts=10, sets=16, audits=200, random=random)
    assert seen.held < 0.8 and ours.held > 0.93
    (change,) = (change for change in unseen.CHANGES if change.name == "0.5; to 1 in 10%")
    found = unseen.differences(change, prompts=10, images=(16, 16), audits=80, random=random)
    assert found.unanimity[0].held < 0.8 and found.unanimity[1].held > 0.93
    assert found.equal[0] > 0.2 > 0.03 > found.equal[1]
    (same,) = (change for change in unseen.CHANGES if change.name == "none, 0.5 in every prompt")
    assert math.isnan(unseen.differences(same, prompts=5, images=(4, 4), audits=2, random=random).equal[0])
