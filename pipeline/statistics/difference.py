"""How much more often sets of one run agree than those of another, over the same prompts, with or without the classifiers' errors.

Both runs estimate the same thing, the chance that `set_size` images of a prompt agree, by every set that could be drawn from the images
there are: 4 images against 16 is a fair comparison, though single sets of the two would not be. The unit is the prompt.

With the error rates of a calibration on either side, each run's estimate is unbiased whatever its classifier's errors are
(`correction.py`), and so is their difference; without, a run that is read worse seems less unanimous. Limits then carry two uncertainties:
prompts, by Student's t, and either calibration, by draws from its posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_counts, as_whole_numbers, check_confidence
from allfour.pipeline.statistics.compositions import compositions, draws_within, set_probabilities, set_scores
from allfour.pipeline.statistics.confusion import Confusion, as_decisions, decision_scores
from allfour.pipeline.statistics.correction import SMALLEST_DISCRIMINATION, decision_weights
from allfour.pipeline.statistics.identification import imbens_manski
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.paired import least_step, sign_flip_test
from allfour.pipeline.statistics.roots import root_between
from allfour.pipeline.statistics.unanimity import subset_unanimity

_CELLS = 4_000_000
MAX_DEALT = 3_000_000
"""Hands dealt for one test; with very many prompts there are fewer draws."""


@dataclass(frozen=True, eq=False)
class ReadImages:
    """What was read in one run's images of the prompts compared, in the order of the prompts.

    Raises
    ------
    ValueError
        The numbers are not whole, or the columns do not fit the confusion.
    """

    decisions: IntArray
    """Images per prompt and decision, shape (prompts, labels or more): the labels, then outcomes that an error model knows, such as
    ambiguous."""
    labels: int
    """How many of the columns are labels."""
    unread: IntArray | int = 0
    """Images per prompt that no column holds: no person, several, unreadable or missing. Shape (prompts,)."""
    confusion: Confusion | None = None
    """The calibration of this run's classifier; columns as in `decisions`."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        table = (
            as_counts(self.decisions, name="decisions")
            if self.confusion is None
            else as_decisions(self.decisions, self.confusion)
        )
        object.__setattr__(self, "decisions", table)
        object.__setattr__(self, "unread", as_whole_numbers(self.unread, name="unread", length=len(table)))

    @property
    def images(self) -> IntArray:
        """Shape (prompts,)."""
        images: IntArray = self.decisions.sum(axis=1) + self.unread
        return images

    def unanimity(self, set_size: int, *, favourable: bool = False) -> FloatArray:
        """Return per prompt how often a set of its images agrees, images without a label against it, or for it."""
        labelled = self.decisions[:, : self.labels]
        return subset_unanimity(
            labelled,
            set_size=set_size,
            unresolved=self.images - labelled.sum(axis=1),
            resolve="for" if favourable else "against",
        )

    def rows(self, chosen: npt.NDArray[np.bool_]) -> ReadImages:
        """Return the same for some of the prompts."""
        return ReadImages(self.decisions[chosen], self.labels, np.asarray(self.unread)[chosen], self.confusion)


@dataclass(frozen=True)
class Difference:
    """Second run less first, mean over prompts."""

    interval: Interval
    p_value: float
    """Two-sided, that there is no difference."""
    test: str
    """How it was found: `sign-flip`, `dealt`, or `confidence` for the confidence distribution behind the limits."""
    prompts: int
    first: float | None
    second: float | None
    """Mean of either run."""
    equivalent: float | None = None
    """p-value that the difference is as large as the stated margin, or larger; None where no margin was stated."""


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


def mean_difference(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    *,
    p_value: float,
    test: str,
    step: float | None = None,
    confidence: float = 0.95,
    margin: float | None = None,
) -> Difference:
    """Return a mean of paired differences with Student limits, given the p-value of its test.

    See `paired_difference` for the variance, which counts one unseen pair of differences of plus and minus `step`. The test of
    equivalence is that of two one-sided tests at the same standard error: Schuirmann, D. J. (1987). A comparison of the two one-sided
    tests procedure and the power approach for assessing the equivalence of average bioavailability. J. Pharmacokin. Biopharm. 15, 657-680.
    """
    one, two = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    prompts = len(one)
    if prompts < 2:
        old, new = (float(side[0]) if prompts else None for side in (one, two))
        value = None if old is None or new is None else new - old
        unknown = None if margin is None else 1.0
        return Difference(Interval(value, -1.0, 1.0, "paired"), 1.0, test, prompts, old, new, unknown)
    mean, error = mean_and_error(two - one, least_step(np.concatenate([one, two])) if step is None else step)
    half = float(special.stdtrit(prompts - 1, (1 + confidence) / 2)) * error
    equal = None
    if margin is not None:
        equal = float(
            max(
                special.stdtr(prompts - 1, -(mean + margin) / error),
                special.stdtr(prompts - 1, (mean - margin) / error),
            )
        )
    interval = Interval(mean, max(mean - half, -1.0), min(mean + half, 1.0), "paired")
    return Difference(interval, p_value, test, prompts, float(one.mean()), float(two.mean()), equal)


def _step(one: ReadImages, two: ReadImages, set_size: int) -> float:
    """Return the least difference that one image more can make; where the runs hold different numbers, as large as it is anywhere."""
    values = one.unanimity(set_size), two.unanimity(set_size)
    if np.array_equal(one.images, two.images):
        return least_step(np.concatenate(values))
    return 1.0 if min(one.images.min(), two.images.min()) == set_size else max(least_step(side) for side in values)


def share_step(one: IntArray, two: IntArray) -> float:
    """Return what one image more does to a share: of the median number of images, or at most where the runs hold different numbers."""
    if np.array_equal(one, two):
        return 1 / float(np.median(one)) if len(one) else 1.0
    return 1 / float(min(one.min(), two.min()))


def mean_and_error(difference: FloatArray, step: float) -> tuple[float, float]:
    """Return the mean of differences and its standard error, one unseen pair counted in."""
    prompts, mean = len(difference), float(difference.mean())
    variance = (float(((difference - mean) ** 2).sum()) + 2 * step**2) / (prompts + 1)
    return mean, float(np.sqrt(variance / prompts))


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
    step = _step(one, two, set_size) if len(before) else None
    return mean_difference(before, after, p_value=p, test=test, step=step, confidence=confidence, margin=margin)


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
    tables = [_with_rest(run) for run in (one, two)]
    values = [run.unanimity(set_size) for run in (one, two)]
    step = _step(one, two, set_size)
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


def _with_rest(run: ReadImages) -> IntArray:
    """Return images per prompt and label, and in one more column those without a label."""
    labelled = run.decisions[:, : run.labels]
    table: IntArray = np.column_stack([labelled, run.images - labelled.sum(axis=1)])
    return table


def _bounds(one: ReadImages, two: ReadImages, set_size: int, *, confidence: float) -> DifferenceBounds | None:
    """Limits for the difference whatever images without a label show; see `imbens_manski`."""
    prompts = len(one.decisions)
    if prompts < 2:
        return None
    against = [run.unanimity(set_size) for run in (one, two)]
    favour = [run.unanimity(set_size, favourable=True) for run in (one, two)]
    step = _step(one, two, set_size)
    ends = [mean_and_error(d, step) for d in (against[1] - favour[0], favour[1] - against[0])]
    (least, below), (most, above) = ends
    wide = imbens_manski(most - least, error=max(below, above), confidence=confidence)
    quantile = (1 + confidence) / 2
    wide *= float(special.stdtrit(prompts - 1, quantile) / special.ndtri(quantile))
    return DifferenceBounds(least, most, max(least - wide * below, -1.0), min(most + wide * above, 1.0))


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
    posterior the mean difference and its standard error over prompts give a t distribution; limits and p-values are those of the
    mixture. Images that no error rate covers (no person, unreadable, missing) may show anything: as much of a prompt as depends on them is
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
    step = _step(runs[0], runs[1], size) if label is None else share_step(runs[0].images, runs[1].images)
    drawn: list[FloatArray] = []
    block = max(1, _CELLS // max(prompts, 1))
    for start in range(0, draws, block):
        part = slice(start, start + block)
        difference = sides[1].values(rates[1][part]) - sides[0].values(rates[0][part])
        mean = difference.mean(axis=1)
        variance = (((difference - mean[:, np.newaxis]) ** 2).sum(axis=1) + 2 * step**2) / (prompts + 1)
        drawn.append(mean + quantiles[part] * np.sqrt(variance / prompts))
    found = np.concatenate(drawn)
    unsure = sum(float(1 - draws_within(run.decisions.sum(axis=1), run.images, size).mean()) for run in runs)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail]).tolist()
    value = min(max(float(points[1].mean() - points[0].mean()), -1.0), 1.0)
    low, high = max(min(low, value) - unsure, -1.0), min(max(high, value) + unsure, 1.0)
    beyond = [float((found - unsure <= 0).mean()), float((found + unsure >= 0).mean())]
    p_value, test = min(1.0, max(2 * min(beyond), 1 / draws)), "confidence"
    if shared_calibration and not unsure and np.array_equal(runs[0].images, runs[1].images):
        p_value, test = sign_flip_test(points[1] - points[0], draws=test_draws, seed=seed), "sign-flip"
    equal = None
    if margin is not None:
        equal = float(max((found - unsure <= -margin).mean(), (found + unsure >= margin).mean()))
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
    table = _with_rest(more)
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
        rows, self._place = np.unique(run.decisions, axis=0, return_inverse=True)
        self._probabilities = set_probabilities(rows, self._ways)
        self.point = self.values(self.confusion.rates[np.newaxis])[0]
        """Shape (prompts,), at the calibration's own rates."""

    def values(self, rates: FloatArray) -> FloatArray:
        """Return the estimates, shape (draws, prompts)."""
        scores = set_scores(decision_scores(rates, weights=self._weights)[:, self._chosen], self._ways)
        by_row: FloatArray = scores @ self._probabilities.T
        return by_row[:, self._place.ravel()]
