"""Two runs of the same prompts against each other, prompt by prompt.

Pairing takes out how much prompts differ, which is most of the spread in either run alone. The unit is the prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, as_counts, as_values, check_confidence
from allfour.pipeline.statistics.binomial import binom_pmf, binom_test
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.paired_means import mean_difference
from allfour.pipeline.statistics.unanimity import benjamini_hochberg

_ROUNDING = 1e-9
_CELLS = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """Second run less first run, mean over prompts."""

    interval: Interval
    """Mean difference and its limits."""
    p_value: float
    """Sign-flip permutation test that neither run is higher, two-sided."""
    prompts: int
    """Prompts compared."""


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    single: bool = False,
    confidence: float = 0.95,
    draws: int = 20_000,
    seed: int = 0,
) -> PairedDifference:
    """Return the mean difference of per-prompt values, such as shares or unanimity, between two runs.

    Parameters
    ----------
    first, second
        One value between 0 and 1 per prompt, in the same order; leave out prompts that one run lacks.
    single
        Whether every value is of a single draw, 0 or 1, such as whether the one set of a prompt is unanimous.
    confidence
        Wanted coverage.
    draws, seed
        Random sign flips, where there are too many to try all, and their seed.

    Returns
    -------
    Fewer than two prompts give the limits -1 and 1 and the p-value 1.

    Raises
    ------
    ValueError
        If the runs have different numbers of values, a value is not finite, or confidence is out of range.

    Notes
    -----
    Limits are those of `bounded_difference`, which allow for kinds of prompts that were not drawn. For single draws they are mean -+ t s /
    sqrt(prompts), whose variance s^2 counts one pair of differences of plus and minus 1 that were not seen, so that runs that agree on all
    prompts are not declared equal for certain: close to the adjusted interval of Bonett and Price.

    References
    ----------
    Bonett, D. G., Price, R. M. (2012). Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data. J. Educ. Behav. Stat. 37, 479-488. On the test: Good, P. (2005). Permutation, Parametric and
    Bootstrap Tests of Hypotheses, chapter 3.
    """
    check_confidence(confidence)
    before, after = as_values(first, name="first"), as_values(second, name="second")
    if before.shape != after.shape:
        raise ValueError(f"both runs need the same prompts, got {len(before)} and {len(after)} values")
    p_value = sign_flip_test(after - before, draws=draws, seed=seed)
    found = mean_difference(before, after, p_value=p_value, test="sign-flip", single=single, confidence=confidence)
    return PairedDifference(found.interval, found.p_value, found.prompts)


def sign_flip_test(differences: npt.ArrayLike, *, draws: int = 20_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean difference under flips of its signs.

    Exact where there are at most `draws` different outcomes: differences of one size are taken together, of which only
    the number of pluses matters, and that is binomial. Otherwise (1 + flips at least as extreme) / (draws + 1) over
    `draws` random flips. Prompts without a difference play no part.

    Parameters
    ----------
    differences
        One per prompt, shape (prompts,).
    draws
        Outcomes up to which the test is exact, and the number of random flips beyond.
    seed
        Seed of the random flips.

    Raises
    ------
    ValueError
        If the differences are no vector of finite numbers.
    """
    vector = as_values(differences, name="differences")
    # Equal shares computed from different counts may differ by a rounding error.
    vector = vector[np.abs(vector) > _ROUNDING]
    if len(vector) < 2:
        return 1.0
    sizes = np.abs(vector)
    extreme = abs(float(vector.sum())) - _ROUNDING * len(vector)
    groups = np.split(np.sort(sizes), np.flatnonzero(np.diff(np.sort(sizes)) > _ROUNDING) + 1)
    if math.prod(len(group) + 1 for group in groups) <= draws:
        sums, chances = np.zeros(1), np.ones(1)
        for group in groups:
            pluses = np.arange(len(group) + 1)
            sums = np.add.outer(sums, group[0] * (2 * pluses - len(group))).ravel()
            chances = np.multiply.outer(chances, binom_pmf(pluses, len(group), 0.5)).ravel()
        return min(float(chances[np.abs(sums) >= extreme].sum()), 1.0)
    random = np.random.default_rng(seed)
    as_extreme = 0
    block = max(1, _CELLS // len(sizes))
    for start in range(0, draws, block):
        plus = random.integers(2, size=(min(block, draws - start), len(sizes)), dtype=np.int8)
        as_extreme += int((np.abs(2 * (plus @ sizes) - sizes.sum()) >= extreme).sum())
    return (1 + as_extreme) / (draws + 1)


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the exact two-sided p-value that two runs are unanimous equally often.

    Of the prompts that are unanimous in one run only, each run should have half.

    Parameters
    ----------
    first, second
        Whether each prompt is unanimous, in the same order.

    Raises
    ------
    ValueError
        If the runs have different numbers of prompts.

    References
    ----------
    McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions or percentages.
    Psychometrika 12, 153-157.
    """
    before, after = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if before.shape != after.shape:
        raise ValueError(f"both runs need the same prompts, got {before.shape} and {after.shape}")
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return binom_test(gained, gained + lost) if gained + lost else 1.0


def prompt_differences(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Test for every prompt whether two runs differ in their counts of two labels.

    Parameters
    ----------
    first, second
        Images per prompt and label, shape (prompts, 2).

    Returns
    -------
    Fisher's exact two-sided p-values and the same adjusted over prompts (Benjamini-Hochberg); nan where a run has no
    labelled image of a prompt.

    Raises
    ------
    ValueError
        If the counts are no tables of two labels and whole numbers, or of different numbers of prompts.
    """
    before, after = as_counts(first, name="first"), as_counts(second, name="second")
    if before.shape != after.shape or before.shape[1] != 2:
        raise ValueError(f"both runs need shape (prompts, 2), got {before.shape} and {after.shape}")
    from scipy import stats  # takes a third of the start of every command, and none but two runs need it

    p_values = np.array(
        [
            float(stats.fisher_exact([old, new]).pvalue) if old.sum() and new.sum() else np.nan
            for old, new in zip(before, after, strict=True)
        ]
    )
    return p_values, benjamini_hochberg(p_values)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Return p-values adjusted so that rejecting below a level bounds the chance of any false rejection at that level.

    The i-th smallest of m is multiplied by m - i + 1, and none may be below one that was smaller. It needs nothing of how the tests depend
    on each other. Missing tests (nan) stay nan and do not count.

    Raises
    ------
    ValueError
        If a p-value lies outside 0 to 1.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scand. J. Stat. 6, 65-70.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(raw.shape, np.nan)
    known = np.flatnonzero(np.isfinite(raw))
    if (raw[known] < 0).any() or (raw[known] > 1).any():
        raise ValueError("p-values must lie between 0 and 1")
    order = known[np.argsort(raw[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * factors), 1.0)
    return adjusted


def least_step(values: FloatArray) -> float:
    """Return the smallest gap between any two of the values; 1 where they are all alike."""
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > _ROUNDING]
    return float(gaps.min()) if len(gaps) else 1.0
