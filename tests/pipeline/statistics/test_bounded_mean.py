"""Limits of a mean of values with two ends, against Jeffreys' interval of a count and against random weights."""

import doctest
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from allfour.pipeline.statistics import unanimity, wilson
from allfour.pipeline.statistics.bounded_mean import bounded_mean


@pytest.mark.parametrize("prompts", [2, 5, 20, 1000, 100_000])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_of_a_count_it_is_jeffreys_interval(prompts: int, confidence: float) -> None:
    for hits in {1, prompts // 3, prompts - 1} - {0}:
        found = bounded_mean([1.0] * hits + [0.0] * (prompts - hits), confidence=confidence)
        tail = (1 - confidence) / 2
        low, high = stats.beta.ppf([tail, 1 - tail], hits + 0.5, prompts - hits + 0.5)
        assert found.value == pytest.approx(hits / prompts)
        assert found.low == pytest.approx(min(low, hits / prompts), rel=1e-4, abs=1e-8)
        assert 1 - found.high == pytest.approx(min(1 - high, 1 - hits / prompts), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    ("values", "lowest"),
    [([0.1, 0.15] * 5, 0.08), ([0.3], 0.1), (list(np.linspace(0.1, 1, 30) ** 3), 0.0), ([1.0] * 9 + [0.4], 0.077)],
)
def test_limits_are_quantiles_of_the_mean_under_random_weights(values: list[float], lowest: float) -> None:
    random = np.random.default_rng(0)
    weights = random.dirichlet([1.0] * len(values) + [0.5, 0.5], 200_000)
    found = bounded_mean(values, lowest=lowest)
    low = np.mean(weights @ [*values, lowest, max(values)] <= found.low)
    high = np.mean(weights @ [*values, 1.0, min(values)] >= found.high)
    # four standard errors of a share of 2.5%
    assert [low, high] == pytest.approx([0.025, 0.025], abs=0.0014)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.01, 0.25, 0.3, 0.5, 0.999, 1.0]), min_size=1, max_size=12))
def test_limits_enclose_the_mean_are_mirrored_and_widen_with_confidence(values: list[float]) -> None:
    narrow, wide = (bounded_mean(values, confidence=confidence) for confidence in (0.8, 0.95))
    assert 0 <= wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high <= 1
    other = bounded_mean(1 - np.array(values))
    assert [1 - other.high, 1 - other.low] == pytest.approx([wide.low, wide.high], abs=1e-8)


def test_where_all_values_are_at_one_end_it_is_wilsons_interval_of_so_many_prompts() -> None:
    assert bounded_mean([1.0] * 20).low == wilson(20, 20).low
    assert bounded_mean([0.0] * 20).high == wilson(0, 20).high
    assert bounded_mean([0.2] * 20, lowest=0.2).low == 0.2


def test_many_different_values_are_taken_together_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random(4000) ** 4
    found = bounded_mean(values)
    monkeypatch.setattr(sys.modules[bounded_mean.__module__], "_MOST_POINTS", 10_000)
    one_by_one = bounded_mean(values)
    assert found != one_by_one
    assert [found.low, found.high] == pytest.approx([one_by_one.low, one_by_one.high], abs=1e-6)
    assert found.value == one_by_one.value


def test_no_prompts_say_nothing_and_a_value_outside_is_refused() -> None:
    assert (bounded_mean([]).value, bounded_mean([]).low, bounded_mean([]).high) == (None, 0.0, 1.0)
    with pytest.raises(ValueError, match="lie between"):
        bounded_mean([0.05], lowest=0.1)


@pytest.mark.parametrize(("prompts", "images"), [(5, 16), (10, 16)])
def test_unanimity_of_all_images_holds_the_mean_where_one_prompt_in_ten_is_of_another_kind(
    prompts: int, images: int
) -> None:
    """From the spread as it was seen 80% at 5 x 16, and 74% at 10 x 16."""
    random = np.random.default_rng(3)
    truth, held, seen = 0.9 * 0.125 + 0.1, [], []
    for _ in range(150):
        share = np.where(random.random(prompts) < 0.1, 1.0, 0.5)
        women = random.binomial(images, share)
        found = unanimity(np.column_stack([women, images - women]))
        held.append(found.interval.low <= truth <= found.interval.high)
        assert found.seen is not None
        seen.append(found.seen.low <= truth <= found.seen.high)
    assert np.mean(held) > 0.93
    assert np.mean(seen) < 0.92


def test_an_even_generator_pays_no_more_than_a_kind_that_was_not_drawn_asks_for() -> None:
    """Ten even prompts leave out a kind of one in five in a tenth of audits: its mean, 0.305, has to be within reach."""
    women = np.random.default_rng(4).binomial(64, 0.5, 10)
    found = unanimity(np.column_stack([women, 64 - women])).interval
    needed = 0.125 + 0.875 * (1 - 0.1 ** (1 / 10))
    assert needed < found.high < needed + 0.03
    assert found.low > 0.1


def test_the_examples_of_the_documentation() -> None:
    # the package has a function of the module's name
    assert doctest.testmod(sys.modules[bounded_mean.__module__]).failed == 0
    found = unanimity([[women, 16 - women] for women in (6, 7, 8, 9, 10)] * 2)
    assert found.seen is not None
    assert [found.interval.value, found.interval.low, found.interval.high] == pytest.approx(
        [0.100, 0.090, 0.295], abs=6e-4
    )
    assert [found.seen.low, found.seen.high] == pytest.approx([0.085, 0.143], abs=6e-4)


def test_limits_of_the_same_values_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[bounded_mean.__module__]
    values = [0.21, 0.34, 0.34, 0.55, 0.89]
    found = bounded_mean(values, lowest=0.13)
    assert bounded_mean(values, lowest=0.13, confidence=0.9).high < found.high
    monkeypatch.setattr(module, "_quantile_of", lambda *arguments, **options: pytest.fail("they were found before"))
    assert bounded_mean(values, lowest=0.13) == found
