"""Differences of rates over prompts, with as many images in either run and with other numbers."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st


def test_with_as_many_images_signs_are_flipped() -> None:
    one, two, images = [4, 3, 0, 2, 1, 4], [1, 1, 0, 0, 1, 2], [4] * 6
    found = st.rate_difference(one, two, trials=(images, images))
    plain = st.paired_difference(np.array(one) / 4, np.array(two) / 4)
    assert (found.test, found.p_value, found.prompts) == ("sign-flip", plain.p_value, 6)
    assert found.interval.low == pytest.approx(plain.interval.low)


@pytest.mark.parametrize("share", [0.03, 0.97])
def test_few_images_against_many_keep_the_level_and_hold_no_difference(share: float) -> None:
    """By flips of signs and the median number of images, 27% of such pairs were called different and 72% of the limits held 0."""
    random = np.random.default_rng(3)
    called = held = 0
    for _ in range(100):
        one, two = random.binomial(4, share, size=10), random.binomial(64, share, size=10)
        found = st.rate_difference(one, two, trials=([4] * 10, [64] * 10), draws=199)
        called += found.p_value <= 0.05
        held += found.interval.low <= 0 <= found.interval.high
    assert found.test == "dealt" and called <= 11 and held >= 95


def test_a_difference_is_found_where_there_is_one() -> None:
    found = st.rate_difference([0, 1] * 10, [12, 16] * 10, trials=([4] * 20, [16] * 20))
    assert found.p_value == pytest.approx(1e-4) and found.interval.low > 0.5
    assert (found.first, found.second) == (0.125, 0.875)


def test_prompts_without_an_image_in_either_run_are_left_out() -> None:
    whole = st.rate_difference([1, 2, 3, 0], [1, 1, 2, 0], trials=([4, 4, 4, 0], [4, 4, 4, 9]))
    assert whole == st.rate_difference([1, 2, 3], [1, 1, 2], trials=([4] * 3, [4] * 3))
    nothing = st.rate_difference([0], [0], trials=([0], [4]))
    assert (nothing.prompts, nothing.p_value, nothing.interval.value) == (0, 1.0, None)
    assert st.rate_difference([1], [1], trials=([4], [5])).p_value == 1.0


def test_a_label_and_all_others_together_have_one_test() -> None:
    """Of two labels each is the other's rest; dealt apart, their p-values were 0.220 and 0.213."""
    random = np.random.default_rng(0)
    images = random.integers(8, 40, size=60), random.integers(8, 40, size=60)
    one, two = (random.binomial(of, 0.4) for of in images)
    found = st.rate_difference(one, two, trials=images, draws=999)
    rest = st.rate_difference(images[0] - one, images[1] - two, trials=images, draws=999)
    assert found.test == "dealt" and found.p_value == rest.p_value
    assert found.interval.value == pytest.approx(-rest.interval.value)
