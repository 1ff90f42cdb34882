"""What the images can tell where some have no label: bounds, and an interval for whatever those without a label show.

An image without a label may show any. A prompt's unanimity then lies between two values that are known, and so does the mean over
prompts; how far apart the two are is no matter of sample size. The interval holds the truth, wherever it lies between them, with the
wanted confidence: that is narrower than an interval for the whole range, and becomes the plain one where every image has a label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from allfour.pipeline.statistics.arrays import (
    FloatArray,
    IntArray,
    as_counts,
    as_values,
    as_whole_numbers,
    check_confidence,
    check_set_size,
)
from allfour.pipeline.statistics.bounded_mean import bounded_mean
from allfour.pipeline.statistics.intervals import effective_size, wilson_limit
from allfour.pipeline.statistics.rates import rate_over_prompts
from allfour.pipeline.statistics.roots import root_between
from allfour.pipeline.statistics.unanimity import subset_unanimity


@dataclass(frozen=True)
class IdentifiedInterval:
    """Limits for a mean over prompts that the images only bound."""

    least: float | None
    """Estimate with every image without a label against; None without prompts."""
    most: float | None
    """Estimate with every one of them for."""
    low: float
    high: float
    """Limits for the truth between."""
    prompts: int


def imbens_manski(apart: float, *, error: float, confidence: float = 0.95) -> float:
    """Return how many standard errors beyond either bound the limits for the truth between them lie.

    c with Phi(c + apart / error) - Phi(-c) = confidence: 1.96 where the bounds meet, 1.645 where they are far apart, because the
    truth can then be missed on one side alone.

    Parameters
    ----------
    apart
        Distance of the two estimated bounds.
    error
        The larger standard error of the two.
    confidence
        Wanted coverage.

    References
    ----------
    Imbens, G. W., Manski, C. F. (2004). Confidence intervals for partially identified parameters. Econometrica 72, 1845-1857. That it
    holds uniformly needs bounds whose estimates are in order in every sample (Stoye, J. (2009). More on confidence intervals for
    partially identified parameters. Econometrica 77, 1299-1315, lemma 3), which those of every prompt are here.
    """
    check_confidence(confidence)
    two_sided = float(special.ndtri((1 + confidence) / 2))
    if apart <= 0:
        return two_sided
    if error <= 0:
        return float(special.ndtri(confidence))

    def short_of(c: float) -> float:
        return float(special.ndtr(c + apart / error) - special.ndtr(-c)) - confidence

    one_sided = float(special.ndtri(confidence))
    if short_of(one_sided) >= 0:
        return one_sided
    return root_between(short_of, one_sided, two_sided)


def identified_mean(
    least: npt.ArrayLike,
    most: npt.ArrayLike,
    *,
    independent: float | None = None,
    images: float = np.inf,
    lowest: float = 0.0,
    confidence: float = 0.95,
) -> IdentifiedInterval:
    """Return limits for a mean over prompts that is known to lie between two values per prompt.

    Wilson's limits with the effective number of observations (`mean_over_prompts`), below from the lower values and above from
    the upper ones, as many standard errors away as `imbens_manski` says.

    Parameters
    ----------
    least, most
        One value per prompt each, between `lowest` and 1; `least` nowhere above `most`.
    independent, lowest, confidence
        See `mean_over_prompts`.
    images
        Its `most`: the upper end of the effective number of observations.

    Raises
    ------
    ValueError
        If the values are of different lengths, or a lower one is above an upper one.
    """
    return _identified(least, most, independent=independent, images=images, lowest=lowest, confidence=confidence)[0]


def _identified(
    least: npt.ArrayLike,
    most: npt.ArrayLike,
    *,
    independent: float | None,
    images: float,
    lowest: float,
    confidence: float,
) -> tuple[IdentifiedInterval, float]:
    """Return what `identified_mean` does, and how many standard errors away its limits are."""
    check_confidence(confidence)
    ends = [as_values(least, name="least"), as_values(most, name="most")]
    if len(ends[0]) != len(ends[1]) or (ends[0] > ends[1] + 1e-9).any():
        raise ValueError("least and most must hold one value per prompt each, and least may nowhere be above most")
    prompts = len(ends[0])
    if not prompts:
        return IdentifiedInterval(None, None, 0.0, 1.0, 0), 0.0
    span = 1 - lowest
    flips = prompts if independent is None else independent
    means = [min(max((float(values.mean()) - lowest) / span, 0.0), 1.0) for values in ends]
    sizes = []
    for values, mean in zip(ends, means, strict=True):
        variance = float(values.var(ddof=1)) / span**2 if prompts > 1 else 0.0
        sizes.append(
            float(
                effective_size(mean, variance, prompts=prompts, independent=flips, most=images, confidence=confidence)
            )
        )
    # two of either kind added, so that a mean of 0 or 1 is no certainty (Agresti and Coull 1998)
    smooth = [(mean * size + 2) / (size + 4) for mean, size in zip(means, sizes, strict=True)]
    error = max(float(np.sqrt(m * (1 - m) / size)) for m, size in zip(smooth, sizes, strict=True))
    c = imbens_manski(means[1] - means[0], error=error, confidence=confidence)
    low = 0.0 if means[0] == 0 else float(wilson_limit(means[0], sizes[0], -c))
    high = 1.0 if means[1] == 1 else float(wilson_limit(means[1], sizes[1], c))
    at = [lowest + span * value for value in (*means, low, high)]
    return IdentifiedInterval(at[0], at[1], at[2], at[3], prompts), c


def identified_unanimity(
    counts: npt.ArrayLike,
    *,
    unlabelled: npt.ArrayLike,
    divided: npt.ArrayLike = 0,
    set_size: int = 4,
    confidence: float = 0.95,
) -> IdentifiedInterval:
    """Return limits for mean unanimity, whatever the images without a label show.

    With more images than a set has, the limits are those of `bounded_mean`, below from the lower values and above from the upper ones,
    each at the probability that as many standard errors have as `imbens_manski` says.

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    unlabelled
        Images that may show any label, shape (prompts,).
    divided
        Images that are known to show several, shape (prompts,): no set with one is unanimous.
    set_size
        Images per set; prompts with fewer images are left out.
    confidence
        Wanted coverage.

    Raises
    ------
    ValueError
        As `subset_unanimity`.
    """
    table = as_counts(counts)
    open_, closed = (
        as_whole_numbers(a, name=n, length=len(table)) for a, n in ((unlabelled, "unlabelled"), (divided, "divided"))
    )
    check_set_size(set_size)
    images = table.sum(axis=1) + open_ + closed
    known = images >= set_size
    table, open_, closed, images = table[known], open_[known], closed[known], images[known]
    if not len(table):
        return IdentifiedInterval(None, None, 0.0, 1.0, 0)
    least = subset_unanimity(table, set_size=set_size, unresolved=open_ + closed)
    for_it = table.copy()
    for_it[np.arange(len(table)), table.argmax(axis=1)] += open_
    most = subset_unanimity(for_it, set_size=set_size, unresolved=closed)
    if (images == set_size).all():
        return identified_mean(least, most, confidence=confidence)
    even = _even_split(int(images.min()), labels=table.shape[1], set_size=set_size)
    lowest = 0.0 if (open_ + closed).any() else even
    found, c = _identified(
        least,
        most,
        independent=float((images / set_size).sum()),
        images=float(images.sum()),
        lowest=lowest,
        confidence=confidence,
    )
    at = float(2 * special.ndtr(c) - 1)
    low = bounded_mean(least, lowest=lowest, confidence=at).low
    return replace(found, low=low, high=bounded_mean(most, lowest=lowest, confidence=at).high)


def identified_share(
    counts: npt.ArrayLike, *, label: int, unlabelled: npt.ArrayLike, confidence: float = 0.95
) -> IdentifiedInterval:
    """Return limits for a label's mean share over prompts, whatever the images without a label show.

    They reach at least as far as those of a share with all these images against the label, and with all for it (`rate_over_prompts`).

    Parameters
    ----------
    counts
        Labelled images, shape (prompts, labels).
    label
        Column of the label.
    unlabelled
        Images that may show any label, shape (prompts,).
    confidence
        Wanted coverage.
    """
    table = as_counts(counts)
    open_ = as_whole_numbers(unlabelled, name="unlabelled", length=len(table))
    images = table.sum(axis=1) + open_
    known = images > 0
    of_label: IntArray = table[known, label]
    total: FloatArray = images[known].astype(np.float64)
    found = identified_mean(
        of_label / total,
        (of_label + open_[known]) / total,
        independent=float(total.sum()) or None,
        confidence=confidence,
    )
    against, in_favour = (
        rate_over_prompts(of_label + more, trials=images[known], confidence=confidence) for more in (0, open_[known])
    )
    return replace(found, low=min(found.low, against.low), high=max(found.high, in_favour.high))


def _even_split(images: int, *, labels: int, set_size: int) -> float:
    """Return unanimity of images that are as evenly split over the labels as they can be: the least there is."""
    row = [images // labels + (label < images % labels) for label in range(labels)]
    return float(subset_unanimity([row], set_size=set_size)[0])
