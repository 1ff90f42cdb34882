"""Ranks that are honest: which places an item may have, given which pairs of items can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The places that an item may have, 1 for the lowest value."""

    rank: int
    """By its estimate; equal estimates share the better place."""
    low: int
    high: int


def rank_intervals(values: Sequence[float], different: npt.ArrayLike) -> list[RankInterval]:
    """Return for every item the ranks that it may have.

    An item that is told to be above k others has at least the rank k + 1, and one told to be below k others at most the rank m - k.
    Where the claims over all pairs hold at once with 95%, so do all these intervals together: items that are equal share a rank.

    Parameters
    ----------
    values
        Estimates, by which told differences get their direction.
    different
        Shape (items, items), symmetric: whether a pair is told apart, all pairs tested together (see `holm`).

    References
    ----------
    Mogstad, M., Romano, J. P., Shaikh, A. M., Wilhelm, D. (2024). Inference for ranks with applications to mobility across
    neighbourhoods and academic achievement across countries. Rev. Econ. Stud. 91, 476-518. On differences tested in pairs: Klein, M.,
    Wright, T., Wieczorek, J. (2020). A joint confidence region for an overall ranking of populations. Appl. Statist. 69, 589-606.

    >>> rank_intervals([0.2, 0.5, 0.9], [[0, 0, 1], [0, 0, 1], [1, 1, 0]])[2]
    RankInterval(rank=3, low=3, high=3)
    """
    estimates = np.asarray(values, dtype=np.float64)
    distinct = np.asarray(different, dtype=bool)
    if distinct.shape != (len(estimates), len(estimates)) or (distinct != distinct.T).any():
        raise ValueError("`different` must be symmetric, with a row and a column per value")
    above = distinct & (estimates[:, None] > estimates[None, :])
    return [
        RankInterval(
            rank=1 + int((estimates < estimates[i] - 1e-12).sum()),
            low=1 + int(above[i].sum()),
            high=len(estimates) - int(above[:, i].sum()),
        )
        for i in range(len(estimates))
    ]


def alike_groups(values: Sequence[float], different: npt.ArrayLike) -> list[list[int]]:
    """Return the largest groups of items no two of which are told apart, from the lowest value; an item may be in several.

    Parameters
    ----------
    values, different
        As in `rank_intervals`.

    References
    ----------
    Piepho, H.-P. (2004). An algorithm for a letter-based representation of all-pairwise comparisons. J. Comput. Graph. Stat. 13,
    456-466 (insert and absorb).

    >>> alike_groups([0.2, 0.5, 0.9], [[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    [[0, 1], [1, 2]]
    """
    distinct = np.asarray(different, dtype=bool)
    groups: list[frozenset[int]] = [frozenset(range(len(values)))] if len(values) else []
    for i, j in zip(*np.nonzero(np.triu(distinct)), strict=True):
        split = [g for g in groups if not {i, j} <= g]
        for group in groups:
            if {i, j} <= group:
                split += [group - {i}, group - {j}]
        unique = list(dict.fromkeys(split))
        groups = [g for g in unique if not any(g < other for other in unique)]
    order = sorted(range(len(values)), key=lambda k: (values[k], k))
    place = {item: k for k, item in enumerate(order)}
    ordered = [sorted((int(k) for k in group), key=lambda k: place[k]) for group in groups]
    return sorted(ordered, key=lambda group: [place[k] for k in group])
