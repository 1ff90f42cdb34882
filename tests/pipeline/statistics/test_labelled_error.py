"""Error that differs by prompt, from images of the run that people labelled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from allfour.pipeline import statistics as st

RATES = np.array([[0.86, 0.10, 0.04], [0.08, 0.88, 0.04]])
TRUTH = 2 * (0.3 * 1.3 * 2.3 * 3.3) / (0.6 * 1.6 * 2.6 * 3.6)
Table = npt.NDArray[np.int64]


def audit(
    random: np.random.Generator, *, prompts: int = 60, images: int = 16, lean: float = 0.0, part: float = 0.2,
    rates: npt.NDArray[np.float64] = RATES,
) -> tuple[Table, Table, st.Confusion]:  # fmt: skip
    """Images that nobody labelled, those that people did, and a calibration of 200 images of each label."""
    share = random.beta(0.3, 0.3, size=prompts)
    tilt = np.ones((prompts, 1, 3))
    tilt[:, 0, 0] = np.exp(np.abs(random.normal(0, lean, size=prompts)) * np.sign(share - 0.5)) if lean else 1.0
    pulled = rates * tilt
    pulled /= pulled.sum(axis=-1, keepdims=True)
    joint = np.stack([share, 1 - share], axis=1)[:, :, np.newaxis] * pulled
    seen = round(part * images)
    known = random.multinomial(seen, joint.reshape(prompts, 6)).reshape(prompts, 2, 3)
    rest = random.multinomial(images - seen, joint.sum(axis=1))
    return rest, known, st.Confusion(np.stack([random.multinomial(200, row) for row in RATES]))


def test_error_that_follows_a_cue_is_told_by_labels_and_taken_out() -> None:
    random = np.random.default_rng(2)
    plain, held, lean, wide, shown = 0, 0, [], [], []
    for _ in range(8):
        rest, known, confusion = audit(random, prompts=80, lean=1.0, part=0.25)
        alike = st.corrected_unanimity(rest + known.sum(axis=1), confusion=confusion, draws=200).interval
        found = st.measured_error(rest, known, confusion=confusion, draws=400)
        assert found is not None and found.images == 320 and found.prompts == 80
        plain += alike.low <= TRUTH <= alike.high
        held += found.unanimity.low <= TRUTH <= found.unanimity.high
        lean.append(found.lean.value)
        shown.append(found.alike < st.SPREAD_SHOWN)
        wide.append((found.unanimity.high - found.unanimity.low) / (alike.high - alike.low))
    assert plain <= 4 and held >= 7
    assert np.mean(lean) > 0.5 and sum(shown) >= 5
    assert np.mean(wide) < 1.25


def test_where_error_is_alike_labels_say_so_and_make_the_limits_narrower() -> None:
    rest, known, confusion = audit(np.random.default_rng(4), prompts=100, images=40, part=0.5)
    found = st.measured_error(rest, known, confusion=confusion)
    alike = st.corrected_unanimity(rest + known.sum(axis=1), confusion=confusion).interval
    assert found is not None and found.spread.low < 0.15 and found.spread.high < 0.6
    assert found.lean.low < 0 < found.lean.high and found.agrees > 0.01 and found.alike > st.SPREAD_SHOWN
    assert found.unanimity.low <= TRUTH <= found.unanimity.high
    assert found.unanimity.high - found.unanimity.low < alike.high - alike.low


def test_labels_that_no_spread_brings_together_with_the_calibration_are_told() -> None:
    worse = np.array([[0.72, 0.24, 0.04], [0.22, 0.74, 0.04]])
    rest, known, confusion = audit(np.random.default_rng(5), images=24, part=0.5, rates=worse)
    found = st.measured_error(rest, known, confusion=confusion)
    assert found is not None and found.agrees < 0.001


@pytest.mark.parametrize("part", [0.0, 0.03])
def test_a_handful_of_labels_says_nothing(part: float) -> None:
    rest, known, confusion = audit(np.random.default_rng(1), prompts=20, images=32, part=part)
    assert st.measured_error(rest, known, confusion=confusion) is None


def test_a_classifier_that_guesses_has_no_errors_to_take_out() -> None:
    rest, known, _ = audit(np.random.default_rng(1))
    assert st.measured_error(rest, known, confusion=st.Confusion(np.full((2, 3), 50))) is None


def test_only_two_labels_have_a_pull() -> None:
    confusion = st.Confusion(np.eye(3, dtype=int) * 90 + 5)
    rest, known = np.full((40, 3), 4), np.ones((40, 3, 3), dtype=int)
    assert st.measured_error(rest, known, confusion=confusion) is None


def test_limits_are_drawn_together_around_the_value_and_never_apart() -> None:
    wide = st.Interval(0.5, 0.2, 0.7, st.CORRECTED)
    assert st.recentred(wide, width=0.6) == wide
    drawn = st.recentred(wide, width=0.25)
    assert (drawn.value, drawn.low, drawn.high) == (0.5, pytest.approx(0.35), pytest.approx(0.6))
    unknown = st.Interval(None, 0.0, 1.0, st.CORRECTED)
    assert st.recentred(unknown, width=0.1) == unknown
