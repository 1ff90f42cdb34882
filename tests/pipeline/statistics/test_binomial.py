"""The binomial law without `scipy.stats` gives the numbers of `scipy.stats`, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from allfour.pipeline.statistics.binomial import binom_cdf, binom_pmf, binom_sf, binom_span, binom_test
from allfour.pipeline.statistics.unanimity import benjamini_hochberg

SHARES = [0.0, 1e-300, 1e-9, 1 / 8, 0.13, 1 / 3, 0.5, 2 / 3, 0.9, 1 - 1e-12, 1.0]


@pytest.mark.parametrize("trials", [0, 1, 4, 20, 97, 1000])
def test_chances_are_those_of_scipy(trials: int) -> None:
    counts = np.unique(np.linspace(-1, trials + 1, 60).round())[:, None]
    for ours, theirs in ((binom_pmf, stats.binom.pmf), (binom_cdf, stats.binom.cdf), (binom_sf, stats.binom.sf)):
        np.testing.assert_array_equal(ours(counts, trials, SHARES), theirs(counts, trials, SHARES))
    assert binom_pmf(0.5, trials, 0.5) == 0


@pytest.mark.parametrize("trials", [1, 2, 4, 97, 1000, 99_913])
def test_outcomes_outside_the_span_have_no_chance(trials: int) -> None:
    chances = binom_pmf(np.arange(trials + 1)[:, None], trials, SHARES).T
    for share, chance in zip(SHARES, chances, strict=True):
        first, last = binom_span(trials, share)
        assert 0 <= first <= last <= trials
        assert not chance[:first].any() and not chance[last + 1 :].any()
    first, last = binom_span(1_000_000, 0.5)
    assert last - first < 45 * 1000  # about 40 standard deviations to either side


@pytest.mark.parametrize("trials", [1, 2, 4, 7, 20, 150])
def test_p_values_are_those_of_scipy(trials: int) -> None:
    for share in SHARES:
        for hits in sorted({*range(min(trials, 12) + 1), trials // 2, trials - 1, trials}):
            assert binom_test(hits, trials, share) == stats.binomtest(hits, trials, share).pvalue, (hits, trials, share)


def test_adjusted_p_values_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    for size in (1, 2, 5, 60):
        p_values = random.random(size).round(2)
        np.testing.assert_array_equal(benjamini_hochberg(p_values), stats.false_discovery_control(p_values))
    with pytest.raises(ValueError, match="0 to 1"):
        benjamini_hochberg([0.2, 1.5])


def test_quantiles_and_tails_are_those_of_scipy() -> None:
    level, freedom = np.linspace(0.0, 1.0, 401), np.array([[1], [2], [3], [19], [170], [4000]])
    np.testing.assert_array_equal(special.stdtrit(freedom, level)[:, 1:-1], stats.t.ppf(level, freedom)[:, 1:-1])
    np.testing.assert_array_equal(special.ndtri(level), stats.norm.ppf(level))
    values = np.concatenate([np.linspace(-40, 40, 801), [np.inf, -np.inf, np.nan]])
    np.testing.assert_array_equal(special.stdtr(freedom, values), stats.t.cdf(values, freedom))
    np.testing.assert_array_equal(special.stdtr(freedom, -values), stats.t.sf(values, freedom))
