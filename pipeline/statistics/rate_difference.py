"""How much more often images of one run show something than those of another, over the same prompts: a label, a refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_whole_numbers
from allfour.pipeline.statistics.difference import MAX_DEALT
from allfour.pipeline.statistics.intervals import Interval
from allfour.pipeline.statistics.paired import sign_flip_test
from allfour.pipeline.statistics.paired_means import Difference, mean_and_error, mean_difference, share_step
from allfour.pipeline.statistics.rates import rate_over_prompts


def rate_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    trials: tuple[npt.ArrayLike, npt.ArrayLike],
    confidence: float = 0.95,
    draws: int = 9_999,
    seed: int = 0,
) -> Difference:
    """Return the mean over prompts of second / its trials less first / its trials.

    Where both runs have as many images of every prompt, a prompt's difference is symmetric if nothing changed: signs are flipped. Where
    they have not, few images against many make differences that are mostly small and seldom large the other way: then images are dealt
    anew to the two runs, as in `dealt_test`.

    Two kinds of limits allow for kinds of prompts that were not drawn: those of `mean_difference`, which know that prompts are the same, and
    those that add what either run's own limits (`rate_over_prompts`) leave open, which know how far rates of prompts like these spread.
    On either side the narrower holds.

    Parameters
    ----------
    first, second
        Images with the event, shape (prompts,).
    trials
        Images of either run, shape (prompts,) each; prompts without any in one of them are left out.
    confidence
        Wanted coverage.
    draws, seed
        Of the test.

    Raises
    ------
    ValueError
        If counts are not whole, or not of one length.
    """
    asked = [as_whole_numbers(count, name="trials") for count in trials]
    events = [as_whole_numbers(side, name="events", length=len(asked[0])) for side in (first, second)]
    known = (asked[0] > 0) & (asked[1] > 0)
    one, two = (side[known] for side in events)
    images = (asked[0][known], asked[1][known])
    rates: list[FloatArray] = [side / of for side, of in zip((one, two), images, strict=True)]
    if np.array_equal(*images):
        p, test = sign_flip_test(rates[1] - rates[0], draws=draws, seed=seed), "sign-flip"
    else:
        p, test = _dealt(one, two, images, draws=draws, seed=seed), "dealt"
    single = bool(len(one)) and images[0].max() == images[1].max() == 1
    found = mean_difference(rates[0], rates[1], p_value=p, test=test, single=single, confidence=confidence)
    if single or len(one) < 2:
        return found
    own = [
        rate_over_prompts(side, trials=of, confidence=confidence) for side, of in zip((one, two), images, strict=True)
    ]
    return replace(found, interval=_no_wider(found.interval, *own))


def _no_wider(paired: Interval, first: Interval, second: Interval) -> Interval:
    """Return limits of a difference that are nowhere further than those of two runs that have nothing to do with each other.

    A limit of the difference is as far away as the two runs' own limits, squared and added: Newcombe, R. G. (1998). Interval estimation
    for the difference between independent proportions. Statistics in Medicine 17, 873-890.
    """
    if paired.value is None or first.value is None or second.value is None:
        return paired
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return replace(paired, low=max(paired.low, paired.value - below), high=min(paired.high, paired.value + above))


def _dealt(one: IntArray, two: IntArray, images: tuple[IntArray, IntArray], *, draws: int, seed: int) -> float:
    """The p-value of `dealt_test`, of rates."""
    prompts = len(one)
    if prompts < 2:
        return 1.0
    if (images[0] + images[1] - one - two).tolist() < (one + two).tolist():
        # the test of what did not happen is the same one, and of two labels each is the other's rest: both are dealt alike
        one, two = images[0] - one, images[1] - two
    step = share_step(*images)
    mean, error = mean_and_error(two / images[1] - one / images[0], step)
    random = np.random.default_rng(seed)
    times = int(max(199, min(draws, MAX_DEALT // prompts)))
    total, squares = np.zeros(times), np.zeros(times)
    for hits, ours, theirs in zip((one + two).tolist(), images[0].tolist(), images[1].tolist(), strict=True):
        hand = random.hypergeometric(hits, ours + theirs - hits, ours, size=times)
        difference = (hits - hand) / theirs - hand / ours
        total += difference
        squares += difference**2
    means = total / prompts
    spread = np.maximum(squares - prompts * means**2, 0.0)
    dealt = np.abs(means) / np.sqrt((spread + 2 * step**2) / (prompts + 1) / prompts)
    return (1 + int((dealt >= abs(mean / error) - 1e-9).sum())) / (times + 1)
