"""How much more often images of one run show something than those of another, over the same prompts: a label, a refusal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from allfour.pipeline.statistics.arrays import FloatArray, IntArray, as_whole_numbers
from allfour.pipeline.statistics.difference import MAX_DEALT
from allfour.pipeline.statistics.paired import sign_flip_test
from allfour.pipeline.statistics.paired_means import Difference, mean_and_error, mean_difference, share_step


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

    Where both runs have as many images of every prompt, a prompt's difference is symmetric if nothing changed: signs are flipped, and the
    unseen pair of differences that the limits count is one image of the median number. Where they have not, few images against many make
    differences that are mostly small and seldom large the other way: then images are dealt anew to the two runs, as in `dealt_test`, and
    the unseen pair is as large as the largest effect of one image.

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
    step = share_step(*images)
    if np.array_equal(*images):
        p, test = sign_flip_test(rates[1] - rates[0], draws=draws, seed=seed), "sign-flip"
    else:
        p, test = _dealt(one, two, images, step=step, draws=draws, seed=seed), "dealt"
    return mean_difference(rates[0], rates[1], p_value=p, test=test, step=step, confidence=confidence)


def _dealt(
    one: IntArray, two: IntArray, images: tuple[IntArray, IntArray], *, step: float, draws: int, seed: int
) -> float:
    """The p-value of `dealt_test`, of rates."""
    prompts = len(one)
    if prompts < 2:
        return 1.0
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
