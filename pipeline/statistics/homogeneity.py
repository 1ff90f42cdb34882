"""Whether a rate differs between groups of prompts, with prompts as the units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_DRAWS = 9999
_CELLS = 20_000_000
"""Prompts times draws; more prompts get fewer draws."""
_FEWEST = 999


def group_homogeneity(
    events: npt.ArrayLike, trials: npt.ArrayLike, groups: npt.ArrayLike, *, seed: int = 0
) -> float | None:
    """p-value of the hypothesis that groups of prompts have the same rate of an event.

    A permutation test: prompts, with all their images, are dealt out to the groups at random, and the spread of the groups' rates is
    set beside the one that was seen. Images of one prompt are not independent (a policy decides by the prompt), which a
    chi-square test of images would take them to be. Sum over groups of events^2 / trials is the spread, as in Pearson's statistic.

    Parameters
    ----------
    events, trials
        [prompts] images with the event, and all images.
    groups
        [prompts] group of each, as whole numbers.
    seed
        Of the random draws.

    Returns
    -------
    The p-value, (1 + draws as extreme) / (1 + draws), which is 1 where all images are alike; None with fewer than two groups.

    Raises
    ------
    ValueError
        Events are more than trials, or lengths differ.

    Notes
    -----
    Phipson and Smyth 2010, "Permutation p-values should never be zero".
    """
    hits, images = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    member = np.asarray(groups)
    if not hits.shape == images.shape == member.shape or (hits > images).any() or (hits < 0).any():
        raise ValueError("events, trials and groups need one entry per prompt, and no more events than trials")
    kept = images > 0
    hits, images, member = hits[kept], images[kept], member[kept]
    names, codes = np.unique(member, return_inverse=True)
    if len(names) < 2:
        return None
    if not hits.any() or (hits == images).all():
        return 1.0
    columns = np.eye(len(names))[codes]
    seen = float(_spread(hits[None], images[None], columns)[0])
    random = np.random.default_rng(seed)
    draws = int(np.clip(_CELLS // len(hits), _FEWEST, _DRAWS))
    extreme = done = 0
    while done < draws:
        block = min(500, draws - done)
        order = np.argsort(random.random((block, len(hits))), axis=1)
        extreme += int((_spread(hits[order], images[order], columns) >= seen * (1 - 1e-9)).sum())
        done += block
    return (1 + extreme) / (1 + draws)


def _spread(
    hits: npt.NDArray[np.float64], images: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """[draws] sum over groups of events^2 / trials."""
    spread: npt.NDArray[np.float64] = ((hits @ columns) ** 2 / np.maximum(images @ columns, 1e-12)).sum(axis=1)
    return spread
