"""Limits that hold whatever images without a label show."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics.identification import imbens_manski


def test_without_images_that_lack_a_label_it_is_the_plain_interval() -> None:
    rows = [[4, 0]] * 17 + [[1, 3]] * 3
    found = st.identified_unanimity(rows, unlabelled=0)
    plain = st.unanimity(rows, set_size=4).interval
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    assert found.least == found.most == 0.85
    many = np.column_stack([np.arange(10, 30) % 17, 16 - np.arange(10, 30) % 17])
    found, plain = st.identified_unanimity(many, unlabelled=0), st.unanimity(many, set_size=4).interval
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))


def test_the_bounds_are_those_of_the_images_for_and_against() -> None:
    found = st.identified_unanimity([[3, 0], [2, 1], [4, 0], [3, 0]], unlabelled=[1, 1, 0, 0], divided=[0, 0, 0, 1])
    assert (found.least, found.most) == (0.25, 0.5)  # the first may be unanimous, the last has people who differ
    assert found.low < 0.25 and found.high > 0.5


def test_far_apart_the_limits_are_one_sided() -> None:
    assert imbens_manski(0.0, error=0.1) == pytest.approx(1.95996, abs=1e-4)
    assert imbens_manski(0.9, error=0.05) == pytest.approx(1.64485, abs=1e-4)
    assert 1.645 < imbens_manski(0.05, error=0.1) < 1.96


def test_no_prompts_say_nothing() -> None:
    found = st.identified_unanimity(np.zeros((0, 2), dtype=int), unlabelled=np.zeros(0, dtype=int))
    assert (found.least, found.low, found.high) == (None, 0.0, 1.0)


def test_bounds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="nowhere be above"):
        st.identified_mean([0.5], [0.4])


@pytest.mark.parametrize("images", [4, 16])
@pytest.mark.parametrize("kind", ["leaning prompts unclear", "minority looks unclear"])
def test_it_covers_where_abstentions_are_not_missing_at_random(images: int, kind: str) -> None:
    random = np.random.default_rng(5)
    audits, prompts = 300, 40
    truth = 2 * (0.3 * 1.3 * 2.3 * 3.3) / (0.6 * 1.6 * 2.6 * 3.6)
    hits = 0
    for _ in range(audits):
        share = random.beta(0.3, 0.3, size=prompts)
        women = random.random((prompts, images)) < share[:, np.newaxis]
        minority = women != (share[:, np.newaxis] > 0.5)
        chance = 0.3 * np.abs(2 * share - 1)[:, np.newaxis] if kind.startswith("leaning") else 0.05 + 0.6 * minority
        hidden = random.random(women.shape) < chance
        counts = np.column_stack([(women & ~hidden).sum(axis=1), (~women & ~hidden).sum(axis=1)])
        found = st.identified_unanimity(counts, unlabelled=hidden.sum(axis=1))
        hits += found.low <= truth <= found.high
    assert hits / audits >= 0.93


def test_a_share_is_bounded_by_the_images_without_a_label() -> None:
    found = st.identified_share([[2, 1], [1, 3]], label=0, unlabelled=[1, 0])
    assert (found.least, found.most) == pytest.approx(((0.5 + 0.25) / 2, (0.75 + 0.25) / 2))
