"""Plans: numbers known from theory, and a simulation of what is promised."""

from __future__ import annotations

import numpy as np
import pytest

from allfour.pipeline import statistics as st
from allfour.pipeline.statistics import planning


def test_twenty_prompts_are_too_few_to_tell_60_from_85_and_forty_are_enough() -> None:
    change = planning.nested(0.60, 0.85)
    assert planning.mcnemar_power(change, prompts=20) == pytest.approx(0.372, abs=0.001)
    assert planning.mcnemar_power(change, prompts=40) == pytest.approx(0.908, abs=0.001)
    assert planning.prompts_to_tell(change) == 40
    assert planning.prompts_to_tell(planning.independent(0.60, 0.85)) > 70  # type: ignore[operator]


def test_power_of_mcnemar_is_that_of_simulated_runs() -> None:
    random = np.random.default_rng(1)
    change = planning.Discordance(gained=0.3, lost=0.05)
    kinds = random.choice(3, size=(2_000, 25), p=[0.3, 0.05, 0.65])
    found = np.mean([st.mcnemar(row == 1, row == 0) <= 0.05 for row in kinds])
    assert planning.mcnemar_power(change, prompts=25) == pytest.approx(found, abs=0.03)


def test_with_fewer_prompts_than_said_the_power_is_missed() -> None:
    change = planning.nested(0.5, 0.7)
    needed = planning.prompts_to_tell(change, power=0.8)
    assert needed is not None
    assert planning.mcnemar_power(change, prompts=needed - 1) < 0.8
    assert all(planning.mcnemar_power(change, prompts=needed + more) >= 0.8 for more in range(30))


def test_equal_runs_are_never_told_apart() -> None:
    assert planning.prompts_to_tell(planning.independent(0.6, 0.6)) is None
    assert planning.mcnemar_power(planning.Discordance(0.0, 0.0), prompts=40) == 0


@pytest.mark.parametrize("unanimity", [0.2, 0.6, 0.85, 0.99])
def test_the_even_population_has_the_unanimity_that_was_asked_for(unanimity: float) -> None:
    population = planning.Population.of_unanimity(unanimity)
    shares = np.random.default_rng(0).beta(population.a, population.b, 400_000)
    assert np.mean(shares**4 + (1 - shares) ** 4) == pytest.approx(unanimity, abs=0.003)
    assert planning.value_moments(population, figure="unanimity", images=4).mean == pytest.approx(unanimity, abs=0.003)


def test_no_population_is_less_unanimous_than_even_draws() -> None:
    with pytest.raises(ValueError, match=r"0\.125"):
        planning.Population.of_unanimity(0.1)


@pytest.mark.parametrize("figure", ["share", "unanimity"])
def test_variances_are_those_of_simulated_prompts(figure: str) -> None:
    random = np.random.default_rng(2)
    population, reading = planning.Population(0.5, 0.9), planning.Reading(0.9, 0.8)
    shares = random.beta(population.a, population.b, 200_000)
    counts = random.binomial(9, reading.read(shares))
    table = np.column_stack([counts, 9 - counts])
    values = counts / 9 if figure == "share" else st.subset_unanimity(table, set_size=4)
    moments = planning.value_moments(population, figure=figure, images=9, reading=reading)
    assert moments.mean == pytest.approx(values.mean(), abs=0.003)
    assert moments.between + moments.within == pytest.approx(values.var(), rel=0.02)


def test_a_pilot_gives_its_spread_back() -> None:
    random = np.random.default_rng(3)
    shares = random.beta(0.6, 1.2, 3_000)
    counts = random.binomial(6, shares)
    found = planning.Population.of_pilot(np.column_stack([counts, 6 - counts]))
    assert (found.a, found.b) == (pytest.approx(0.6, rel=0.1), pytest.approx(1.2, rel=0.1))


def test_a_pilot_of_one_prompt_says_nothing_of_spread() -> None:
    with pytest.raises(ValueError, match="two prompts"):
        planning.Population.of_pilot([[2, 2], [1, 0]])


def test_the_expected_width_is_that_of_the_interval_that_audits_get() -> None:
    random = np.random.default_rng(4)
    population = planning.Population.of_unanimity(0.6)
    widths = []
    for _ in range(150):
        shares = random.beta(population.a, population.b, 60)
        counts = random.binomial(8, shares)
        found = st.unanimity(np.column_stack([counts, 8 - counts]), set_size=4).interval
        widths.append(found.high - found.low)
    moments = planning.value_moments(population, figure="unanimity", images=8)
    assert planning.expected_width(moments, prompts=60) == pytest.approx(np.mean(widths), rel=0.05)
    needed = planning.prompts_for_width(moments, width=0.2)
    assert needed is not None
    assert (
        planning.expected_width(moments, prompts=needed) <= 0.2 < planning.expected_width(moments, prompts=needed - 1)
    )


def test_the_power_of_all_sets_is_that_of_the_test_that_compare_makes() -> None:
    random = np.random.default_rng(5)
    first, second = planning.Population.of_unanimity(0.6), planning.Population.of_unanimity(0.85)
    ranks = [population.shares() for population in (first, second)]
    found = 0
    for _ in range(300):
        drawn = random.integers(len(ranks[0]), size=20)
        values = []
        for shares in ranks:
            counts = random.binomial(8, shares[drawn])
            values.append(st.subset_unanimity(np.column_stack([counts, 8 - counts]), set_size=4))
        found += st.sign_flip_test(values[1] - values[0], draws=999) <= 0.05
    assert planning.paired_power(first, second, prompts=20, images=8) == pytest.approx(found / 300, abs=0.06)
