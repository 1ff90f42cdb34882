"""Every way in which a set of images can be composed of decisions, how likely each is, and what it scores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import special

from allfour.pipeline.statistics.arrays import FloatArray, IntArray

MOST_COMPOSITIONS = 20_000
"""Ways to divide a set over the decisions; above this the exact sum over them is refused."""


@lru_cache(maxsize=64)
def compositions(parts: int, total: int) -> IntArray:
    """Return every way to divide a set's images over the decisions.

    Parameters
    ----------
    parts
        Number of decisions.
    total
        Number of images in the set.

    Returns
    -------
    Images per decision, shape (ways, parts); every row sums to `total`.

    Raises
    ------
    ValueError
        If there are more than `MOST_COMPOSITIONS`.
    """
    ways = int(special.comb(parts + total - 1, total, exact=True))
    if ways > MOST_COMPOSITIONS:
        raise ValueError(
            f"sets of {total} images over {parts} decisions have {ways} outcomes, more than {MOST_COMPOSITIONS}; "
            "take a smaller set_size or merge labels"
        )
    rows = np.zeros((1, 0), dtype=np.int64)
    for part in range(parts):
        left = total - rows.sum(axis=1)
        if part == parts - 1:
            return np.column_stack([rows, left])
        rows = np.concatenate(
            [np.column_stack([rows[left >= n], np.full((left >= n).sum(), n)]) for n in range(total + 1)]
        )
    return rows


def set_probabilities(counts: IntArray, ways: IntArray) -> FloatArray:
    """Return how likely a random set of each row's images is composed in each way.

    Multivariate hypergeometric: product of C(count, part) over decisions, over C(images, set_size).

    Parameters
    ----------
    counts
        Images per prompt and decision, shape (rows, decisions); every row holds at least a set.
    ways
        See `compositions`, shape (ways, decisions).

    Returns
    -------
    Shape (rows, ways); every row sums to 1.
    """
    product = np.ones((len(counts), len(ways)))
    for decision in range(counts.shape[1]):
        product *= special.comb(counts[:, decision, np.newaxis], ways[np.newaxis, :, decision])
    total: FloatArray = special.comb(counts.sum(axis=1), int(ways[0].sum()))[:, np.newaxis]
    return product / total


def set_scores(scores: FloatArray, ways: IntArray) -> FloatArray:
    """Return the product of the scores in a set of each composition, summed over labels.

    Parameters
    ----------
    scores
        Shape (..., labels, decisions).
    ways
        Shape (ways, decisions).

    Returns
    -------
    Shape (..., ways).
    """
    product = np.ones((*scores.shape[:-1], len(ways)))
    for decision in range(ways.shape[1]):
        score = scores[..., decision]
        powers = [np.ones_like(score)]
        for _ in range(int(ways[:, decision].max())):
            powers.append(powers[-1] * score)
        product *= np.stack(powers, axis=-1)[..., ways[:, decision]]
    total: FloatArray = product.sum(axis=-2)
    return total


def apportion(shares: FloatArray, images: int) -> IntArray:
    """Return whole images that come closest to each row's shares and add up to `images` (largest remainder).

    Parameters
    ----------
    shares
        Shape (rows, decisions); every row sums to 1.
    images
        What every row of the result sums to.

    Returns
    -------
    Shape (rows, decisions).
    """
    exact = shares * images
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(np.argsort(-(exact - whole), axis=1, kind="stable"), axis=1)
    whole += order < (images - whole.sum(axis=1))[:, np.newaxis]
    return whole


def draws_within(inside: IntArray, images: IntArray, set_size: int) -> FloatArray:
    """Return the probability that a random set of a prompt's images holds none but those inside: C(inside, s) / C(images, s).

    Parameters
    ----------
    inside, images
        Shape (prompts,); every prompt has a set of images or more.
    """
    share = np.ones(len(images))
    for drawn in range(set_size):
        share *= np.maximum(inside - drawn, 0) / (images - drawn)
    return share
