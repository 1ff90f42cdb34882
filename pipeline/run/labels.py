"""The label of an image, and of a set: each rule once, in the three forms that tables, arrays and single images need.

An image has one label per attribute. Where several persons were found in it, that is the label they share; `mixed` where they
differ; `ambiguous` where one of them is and the others do not differ already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE

AMBIGUOUS_CODE, NO_PERSON_CODE, MIXED_CODE = -1, -2, -3
"""Decisions that are no position in the labels."""

_NO_LABEL = f"('{AMBIGUOUS}', '{NO_PERSON}')"

IMAGE_LABEL_SQL = f"""
CASE
  WHEN bool_or(decision = '{UNREADABLE}') THEN '{UNREADABLE}'
  WHEN count(DISTINCT decision) FILTER (decision NOT IN {_NO_LABEL}) > 1 THEN '{MIXED}'
  WHEN bool_or(decision = '{AMBIGUOUS}') THEN '{AMBIGUOUS}'
  ELSE coalesce(min(decision) FILTER (decision NOT IN {_NO_LABEL}), '{NO_PERSON}')
END
"""
"""Over the persons of one image."""

NO_SET_LABEL = frozenset({AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE})
"""What an image may have in place of a label that a set could share."""


def image_label(decisions: Iterable[str]) -> str:
    """The label of an image from the decisions on its persons, at least one."""
    found = set(decisions)
    sure = found - {AMBIGUOUS, NO_PERSON}
    if UNREADABLE in found:
        return UNREADABLE
    if len(sure) > 1:
        return MIXED
    return AMBIGUOUS if AMBIGUOUS in found else next(iter(sure), NO_PERSON)


def image_codes(code: NDArray[np.int16], times: NDArray[np.int64]) -> NDArray[np.int16]:
    """The same for many images at once, in codes.

    Parameters
    ----------
    code
        [readings] position in the labels or one of the codes above, image after image.
    times
        [images] readings of each, at least one.
    """
    if len(code) == len(times):
        return code
    starts = np.cumsum(times) - times
    labelled = code >= 0
    most = np.maximum.reduceat(np.where(labelled, code, -1), starts)
    least = np.minimum.reduceat(np.where(labelled, code, np.iinfo(np.int16).max), starts)
    unclear = np.logical_or.reduceat(code == AMBIGUOUS_CODE, starts)
    result = np.select(
        [(most >= 0) & (most != least), unclear, most >= 0], [MIXED_CODE, AMBIGUOUS_CODE, most], NO_PERSON_CODE
    )
    return result.astype(np.int16)


def sets_of_one_label(code: NDArray[np.signedinteger[Any]], size: int) -> int:
    """How many whole sets show one label in every image.

    Parameters
    ----------
    code
        [images] position in the labels, or a negative number where an image has none of them (see `NO_SET_LABEL`); a set is `size`
        images, one after the other, and what is left at the end is none.
    size
        At least one.
    """
    sets = code[: len(code) // size * size].reshape(-1, size)
    return int(np.count_nonzero((sets[:, 0] >= 0) & (sets == sets[:, :1]).all(axis=1)))
