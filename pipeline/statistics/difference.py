"""How much more often sets of one run agree than those of another, over the same prompts, with or without the classifiers' errors.

Both runs estimate the same thing, the chance that `set_size` images of a prompt agree, by every set that could be drawn from the images
there are: 4 images against 16 is a fair comparison, though single sets of the two would not be. The unit is the prompt.

With the error rates of a calibration on either side, each run's estimate is unbiased whatever its classifier's errors are
(`correction.py`), and so is their difference; without, a run that is read worse seems less unanimous. Limits then carry two uncertainties:
prompts, as those of `bounded_difference`, and either calibration, by draws from its posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, check_confidence
from allfour.pipeline.statistics.bounded_difference import bounded_difference
from allfour.pipeline.statistics.corrected_difference import corrected_difference
from allfour.pipeline.statistics.identification import imbens_manski
from allfour.pipeline.statistics.paired import sign_flip_test
from allfour.pipeline.statistics.paired_means import Difference, mean_and_error, mean_difference
from allfour.pipeline.statistics.read_images import ReadImages, one_set_each, unanimity_step, with_rest
from allfour.pipeline.statistics.unanimity import subset_unanimity

MAX_DEALT = 3_000_000
"""Hands dealt for one test; with very many prompts there are fewer draws."""


@dataclass(frozen=True)
class DifferenceBounds:
    """A difference that images without a label only bound."""

    least: float
    most: float
    """Estimates, with all images without a label as they tell most against either end."""
    low: float
    high: float
    """Limits for the truth, whatever those images show."""


@dataclass(frozen=True)
class UnanimityDifference:
    """All that two runs tell of their difference in unanimity."""

    measured: Difference
    """As the classifiers read the images; images without a label count against."""
    bounds: DifferenceBounds | None
    """The same whatever images without a label show; None with fewer than two prompts."""
    corrected: Difference | None
    """With the errors of both classifiers taken out; None without a calibration on either side that tells labels apart."""
    left_out: int
    """Prompts with fewer images than a set in one of the runs."""


def unanimity_difference(
    first: ReadImages,
    second: ReadImages,
    *,
    set_size: int = 4,
    confidence: float = 0.95,
    margin: float | None = None,
    shared_calibration: bool | None = None,
    draws: int = 4000,
    test_draws: int = 9_999,
    seed: int = 0,
) -> UnanimityDifference:
    """Return the difference of two runs over the same prompts.

    Parameters
    ----------
    first, second
        The runs; prompts in the same order. They may have different numbers of images, also from prompt to prompt.
    set_size
        Images per set.
    confidence
        Wanted coverage.
    margin
        The largest difference that counts as none, for the test of equivalence.
    shared_calibration
        Whether both classifiers' rates are those of one calibration, whose error is then the same on both sides. By default where both
        runs hold the same object.
    draws
        Draws of the error rates.
    test_draws
        Random hands or sign flips of the test of what was measured.
    seed
        Of all draws.

    Raises
    ------
    ValueError
        If the runs have different numbers of prompts or labels, or a parameter is out of range.
    """
    check_confidence(confidence)
    if len(first.decisions) != len(second.decisions) or first.labels != second.labels:
        raise ValueError("both runs need the same prompts and the same labels, in the same order")
    whole = (first.images >= set_size) & (second.images >= set_size)
    one, two = first.rows(whole), second.rows(whole)
    before, after = one.unanimity(set_size), two.unanimity(set_size)
    same = shared_calibration if shared_calibration is not None else first.confusion is second.confusion
    return UnanimityDifference(
        measured=_measured(one, two, before, after, set_size, confidence=confidence, margin=margin, draws=test_draws, seed=seed),
        bounds=_bounds(one, two, set_size, confidence=confidence),
        corrected=corrected_difference(
            one, two, set_size=set_size, confidence=confidence, margin=margin, shared_calibration=same, draws=draws, test_draws=test_draws, seed=seed
        ),
        left_out=int((~whole).sum()),
    )  # fmt: skip


def _measured(
    one: ReadImages,
    two: ReadImages,
    before: FloatArray,
    after: FloatArray,
    set_size: int,
    *,
    confidence: float,
    margin: float | None,
    draws: int,
    seed: int,
) -> Difference:
    """Test by sign flips where both runs have as many images of every prompt, so that no change means a symmetric difference."""
    if len(before) < 2:
        p, test = 1.0, "sign-flip"
    elif np.array_equal(one.images, two.images):
        p, test = sign_flip_test(after - before, draws=draws, seed=seed), "sign-flip"
    else:
        p, test = dealt_test(one, two, set_size=set_size, draws=draws, seed=seed), "dealt"
    single = one_set_each(one, two, set_size)
    return mean_difference(before, after, p_value=p, test=test, single=single, confidence=confidence, margin=margin)


def dealt_test(one: ReadImages, two: ReadImages, *, set_size: int = 4, draws: int = 9_999, seed: int = 0) -> float:
    """Return the p-value of a difference in unanimity by dealing each prompt's images to the two runs anew.

    Where a prompt's shares are the same in both runs, its images are exchangeable between them, however many either has: the test is then
    exact. The statistic is the mean difference over its standard error, so that the test keeps its level in many prompts also where shares
    moved and unanimity did not on average.

    Parameters
    ----------
    one, two
        The runs, every prompt with a set of images or more in both.
    set_size
        Images per set.
    draws, seed
        Deals, and their seed; fewer where there are very many prompts, 199 at least.

    References
    ----------
    Chung, E., Romano, J. P. (2013). Exact and asymptotically robust permutation tests. Ann. Math. Stat. 41, 484-507. A p-value of random
    deals: Phipson, B., Smyth, G. K. (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9, 39.
    """
    labels, prompts = one.labels, len(one.decisions)
    tables = [with_rest(run) for run in (one, two)]
    values = [run.unanimity(set_size) for run in (one, two)]
    step = unanimity_step(one, two, set_size)
    mean, error = mean_and_error(values[1] - values[0], step)
    observed = abs(mean / error)
    pooled, size = tables[0] + tables[1], tables[0].sum(axis=1)
    random = np.random.default_rng(seed)
    times = int(max(199, min(draws, MAX_DEALT // max(prompts, 1))))
    total, squares = np.zeros(times), np.zeros(times)
    for row in range(prompts):
        hand = random.multivariate_hypergeometric(pooled[row], int(size[row]), size=times, method="marginals")
        sides = []
        for table in (hand, pooled[row] - hand):
            sides.append(subset_unanimity(table[:, :labels], set_size=set_size, unresolved=table[:, labels]))
        difference = sides[1] - sides[0]
        total += difference
        squares += difference**2
    means = total / prompts
    spread = np.maximum(squares - prompts * means**2, 0.0)
    dealt = np.abs(means) / np.sqrt((spread + 2 * step**2) / (prompts + 1) / prompts)
    return (1 + int((dealt >= observed - 1e-9).sum())) / (times + 1)


def _bounds(one: ReadImages, two: ReadImages, set_size: int, *, confidence: float) -> DifferenceBounds | None:
    """Limits for the difference whatever images without a label show: those of `mean_difference`, as far away as `imbens_manski` says."""
    prompts = len(one.decisions)
    if prompts < 2:
        return None
    against = [run.unanimity(set_size) for run in (one, two)]
    favour = [run.unanimity(set_size, favourable=True) for run in (one, two)]
    step = unanimity_step(one, two, set_size)
    ends = against[1] - favour[0], favour[1] - against[0]
    (least, below), (most, above) = (mean_and_error(end, step) for end in ends)
    wide = imbens_manski(most - least, error=max(below, above), confidence=confidence)
    if one_set_each(one, two, set_size):
        quantile = (1 + confidence) / 2
        wide *= float(special.stdtrit(prompts - 1, quantile) / special.ndtri(quantile))
        return DifferenceBounds(least, most, max(least - wide * below, -1.0), min(most + wide * above, 1.0))
    at = float(2 * special.ndtr(wide) - 1)
    low, high = (bounded_difference(end, confidence=at)[side] for side, end in enumerate(ends))
    return DifferenceBounds(least, most, low, high)
