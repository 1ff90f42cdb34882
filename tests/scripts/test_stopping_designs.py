"""The sums behind docs/validation-stopping.md, against simulation and against what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from allfour.pipeline.statistics.planning import Population
from allfour.pipeline.statistics.sequential import log_capital
from scripts.validation.stopping_designs import (
    LEVEL,
    even_allocation,
    fixed_power,
    fixed_prompts,
    images_until_decided,
    least_prompts,
    list_for_power,
    more_where_mixed,
    prompts_made,
    settling,
)


def test_the_sum_over_courses_is_what_simulated_audits_do() -> None:
    values = (np.random.default_rng(0).random((2_000, 60)) < 0.8).astype(float)
    beyond = np.zeros(len(values), dtype=bool)
    stopped = np.full(len(values), 60)
    for place, capital in enumerate(log_capital(values, 0.5), 1):
        beyond |= capital >= -math.log(LEVEL)
        stopped = np.where(beyond & (place % 5 == 0), np.minimum(stopped, place), stopped)
    assert prompts_made(settling(0.5, 0.8, listed=60, round_prompts=5)) == pytest.approx(stopped.mean(), abs=1)


@pytest.mark.parametrize("line", [0.125, 0.5, 0.85])
def test_a_truth_on_the_line_is_settled_in_no_more_than_one_audit_of_twenty(line: float) -> None:
    assert 0.01 < settling(line, line, listed=200).sum() <= LEVEL


def test_rounds_lie_between_the_least_that_is_possible_and_a_fixed_design() -> None:
    fixed, least = fixed_prompts(0.7, 0.5), least_prompts(0.7, 0.5)
    assert fixed_power(0.7, 0.5, fixed) >= 0.9 > fixed_power(0.7, 0.5, fixed - 1)
    listed = list_for_power(0.5, 0.7, round_prompts=1, most=200)
    assert least < prompts_made(settling(0.5, 0.7, listed=listed)) < fixed


def test_more_images_of_mixed_prompts_cost_more_than_more_prompts() -> None:
    prompts = Population.of_unanimity(0.6)
    four, mixed = even_allocation(prompts, 4), more_where_mixed(prompts, first=4, more=4)
    assert 4 < mixed.images < 8
    assert mixed.variance < four.variance
    assert mixed.images * mixed.variance > four.images * four.variance
    # one of 4 images and one label: 2 + chance that the first two agree + that the first three do
    assert images_until_decided(Population(1e6, 1e6), set_size=4) == pytest.approx(2 + 1 / 2 + 1 / 4, abs=1e-3)
