"""The difference of two runs with the errors of both classifiers taken out, and the error that alone would explain one.

With the error rates of a calibration on either side, each run's estimate is unbiased whatever its classifier's errors are
(`correction.py`), and so is their difference. Limits carry two uncertainties: prompts, as those of `bounded_difference`, and either
calibration, by draws from its posterior.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray
from allfour.pipeline.statistics.bounded_difference import drawn_means
from allfour.pipeline.statistics.compositions import compositions, draws_within, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import decision_scores
from allfour.pipeline.statistics.correction import SMALLEST_DISCRIMINATION, decision_weights
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.paired import sign_flip_test
from allfour.pipeline.statistics.paired_means import Difference, share_step
from allfour.pipeline.statistics.read_images import ReadImages, one_set_each, unanimity_step, with_rest
from allfour.pipeline.statistics.roots import root_between

_CELLS = 4_000_000


def corrected_difference(
    first: ReadImages,
    second: ReadImages,
    *,
    label: int | None = None,
    set_size: int = 4,
    confidence: float = 0.95,
    margin: float | None = None,
    shared_calibration: bool = False,
    draws: int = 4000,
    test_draws: int = 9_999,
    seed: int = 0,
) -> Difference | None:
    """Return the difference in unanimity, or in one label's share, with the errors of both classifiers taken out.

    Every prompt's estimate is unbiased for given error rates (see `corrected_unanimity`). For each draw of either side's rates from its
    posterior the mean difference and its standard error over prompts give a t distribution, of whose mixture the p-value is. Limits and
    the test of equivalence are of the mixture of means under random weights (`drawn_means`), which allow for kinds of prompts that were
    not drawn, and of the t distributions where both runs have one set, or one image, of every prompt. Images that no error rate covers (no person, unreadable, missing) may show anything: as much of a prompt as depends on them is
    added to both limits.

    Where one calibration serves both runs, and they have as many images of every prompt, none of them outside the error model, images of
    a prompt whose shares are alike may change sides: its difference is then as likely to be either of plus and minus itself whatever the
    rates are, and p is that of sign flips at the calibration's own rates.

    Parameters
    ----------
    first, second
        The runs; prompts with fewer decided or unclear images than a set are left out.
    label
        Column of a label, for its share; None for unanimity.
    set_size, confidence, margin, shared_calibration, draws, test_draws, seed
        See `unanimity_difference`.

    Returns
    -------
    None without a calibration on either side that tells the labels apart, or with fewer than two prompts.
    """
    confusions = [run.confusion for run in (first, second)]
    size = set_size if label is None else 1
    read = (first.decisions.sum(axis=1) >= size) & (second.decisions.sum(axis=1) >= size)
    if any(c is None or c.discrimination < SMALLEST_DISCRIMINATION for c in confusions) or int(read.sum()) < 2:
        return None
    runs = [run.rows(read) for run in (first, second)]
    random = np.random.default_rng(seed)
    pooled = runs[0].decisions + runs[1].decisions if shared_calibration else None
    sides = [_Scored(run, label=label, set_size=size, weighed_by=pooled) for run in runs]
    rates = [side.confusion.draw_rates(draws, random) for side in sides]
    if shared_calibration:
        rates[1] = rates[0]
    prompts = int(read.sum())
    quantiles = special.stdtrit(prompts - 1, (random.permutation(draws) + 0.5) / draws)
    points = [side.point for side in sides]
    step = unanimity_step(runs[0], runs[1], size) if label is None else share_step(runs[0].images, runs[1].images)
    single = one_set_each(runs[0], runs[1], size)
    kinds, times = _kinds(*(side.place for side in sides))
    drawn: list[FloatArray] = []
    weighted: list[tuple[FloatArray, FloatArray]] = []
    weigher = np.random.default_rng([seed, 1])
    block = max(1, _CELLS // max(prompts, 1))
    for start in range(0, draws, block):
        part = slice(start, start + block)
        difference = sides[1].values(rates[1][part]) - sides[0].values(rates[0][part])
        mean = difference.mean(axis=1)
        variance = (((difference - mean[:, np.newaxis]) ** 2).sum(axis=1) + 2 * step**2) / (prompts + 1)
        drawn.append(mean + quantiles[part] * np.sqrt(variance / prompts))
        if not single:
            weighted.append(drawn_means(difference[:, kinds], times, weigher))
    found = np.concatenate(drawn)
    below, above = (found, found) if single else (np.concatenate(side) for side in zip(*weighted, strict=True))
    unsure = sum(float(1 - draws_within(run.decisions.sum(axis=1), run.images, size).mean()) for run in runs)
    tail = (1 - confidence) / 2
    low, high = float(np.quantile(below, tail)), float(np.quantile(above, 1 - tail))
    value = min(max(float(points[1].mean() - points[0].mean()), -1.0), 1.0)
    low, high = max(min(low, value) - unsure, -1.0), min(max(high, value) + unsure, 1.0)
    beyond = [float((found - unsure <= 0).mean()), float((found + unsure >= 0).mean())]
    p_value, test = min(1.0, max(2 * min(beyond), 1 / draws)), "confidence"
    if shared_calibration and not unsure and np.array_equal(runs[0].images, runs[1].images):
        p_value, test = sign_flip_test(points[1] - points[0], draws=test_draws, seed=seed), "sign-flip"
    equal = None
    if margin is not None:
        equal = float(max((below - unsure <= -margin).mean(), (above + unsure >= margin).mean()))
    return Difference(
        Interval(value, low, high, "paired, error-corrected"),
        p_value,
        test,
        prompts,
        float(points[0].mean()),
        float(points[1].mean()),
        equal,
    )


def error_that_explains(first: ReadImages, second: ReadImages, *, set_size: int = 4) -> float | None:
    """Return how much more often the run that seems less unanimous would have to be read wrongly for that alone to make the difference.

    The other run's labels are taken as if each were read as any other label with that probability: a set composed in a known way then
    agrees with a probability that is summed exactly, and falls as the error grows.

    Parameters
    ----------
    first, second, set_size
        See `unanimity_difference`.

    Returns
    -------
    The error rate per image, of those with a label; None without a difference, without prompts, and where no error is enough.
    """
    whole = (first.images >= set_size) & (second.images >= set_size)
    if not whole.any():
        return None
    runs = [run.rows(whole) for run in (first, second)]
    means = [float(run.unanimity(set_size).mean()) for run in runs]
    if abs(means[0] - means[1]) < 1e-12:
        return None
    more, target = (runs[0], means[1]) if means[0] > means[1] else (runs[1], means[0])
    table = with_rest(more)
    labels = more.labels
    ways = compositions(labels + 1, set_size)
    rows, times = np.unique(table, axis=0, return_counts=True)
    weight = times @ set_probabilities(rows, ways) / times.sum()

    def short_of(error: float) -> float:
        read: FloatArray = np.full((labels, labels + 1), error / (labels - 1))
        read[np.arange(labels), np.arange(labels)] = 1 - error
        read[:, labels] = 0.0
        return float(weight @ set_scores(read, ways)) - target

    most = 1 - 1 / labels
    return None if short_of(most) > 0 else root_between(short_of, 0.0, most, xtol=1e-6)


def _kinds(one: IntArray, two: IntArray) -> tuple[IntArray, FloatArray]:
    """Return a prompt of each kind, those that have the same decisions in both runs being one kind, and how many there are of each."""
    _, first, times = np.unique(np.column_stack([one, two]), axis=0, return_index=True, return_counts=True)
    return first, times.astype(np.float64)


class _Scored:
    """The corrected estimates of one run's prompts, for any error rates."""

    def __init__(
        self, run: ReadImages, *, label: int | None, set_size: int, weighed_by: IntArray | None = None
    ) -> None:
        assert run.confusion is not None
        self.confusion = run.confusion
        self._chosen = slice(None) if label is None else slice(label, label + 1)
        self._weights = decision_weights(run.decisions if weighed_by is None else weighed_by)
        self._ways = compositions(run.decisions.shape[1], set_size)
        rows, place = np.unique(run.decisions, axis=0, return_inverse=True)
        self.place = place.ravel()
        """Shape (prompts,): prompts of one number have the same decisions."""
        self._probabilities = set_probabilities(rows, self._ways)
        self.point = self.values(self.confusion.rates[np.newaxis])[0]
        """Shape (prompts,), at the calibration's own rates."""

    def values(self, rates: FloatArray) -> FloatArray:
        """Return the estimates, shape (draws, prompts)."""
        scores = set_scores(decision_scores(rates, weights=self._weights)[:, self._chosen], self._ways)
        by_row: FloatArray = scores @ self._probabilities.T
        return by_row[:, self.place]
