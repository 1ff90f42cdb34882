"""Which decisions would survive an error of the probabilities that is known in size: the counterpart of `decisions`, rule by rule.

Errors are told as bands on leads: the lead of label a over label b is log(p_a / p_b), which for a CLIP is a difference of two logits, and
an image's true lead lies within the band of the pair. A decision is sure where no leads within their bands give another one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from allfour.models.attributes import NO_PERSON, PERSON, PRESENCE, AttributeSet, AttributeSpec
from allfour.models.classifiers.base import FloatArray

_LEAST = np.float32(1e-37)
_MOST_LEAD = 80.0


def leads(probabilities: FloatArray) -> FloatArray:
    """[N, labels] -> [N, labels, labels] log(p_a / p_b)."""
    logs = np.log(np.maximum(probabilities, _LEAST))
    return np.asarray(logs[:, :, None] - logs[:, None, :], dtype=np.float32)


def in_doubt(
    probabilities: Mapping[str, FloatArray], attributes: AttributeSet, bands: Mapping[str, FloatArray]
) -> NDArray[np.bool_]:
    """[N] whether any decision on an image could be another one.

    Parameters
    ----------
    probabilities
        Question -> [N, labels], as they are handed to `decide_all`.
    bands
        Question -> [labels, labels] how far a lead may be off; a question without one is answered by something that has no such error.
    """
    count = len(next(iter(probabilities.values())))
    doubtful, absent = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if attributes.presence is not None:
        doubtful, absent = _presence(probabilities[PRESENCE], attributes, bands[PRESENCE])
    asked = np.flatnonzero(~absent & ~doubtful)
    for name in bands:
        if name != PRESENCE:
            doubtful[asked] |= _attribute(probabilities[name][asked], attributes.attributes[name], bands[name])
    return doubtful


def _presence(
    table: FloatArray, attributes: AttributeSet, band: FloatArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the gate is in doubt, and whether it surely lets an image not pass."""
    assert attributes.presence is not None
    labels = attributes.labels(PRESENCE)
    person, nobody = labels.index(PERSON), labels.index(NO_PERSON)
    threshold = attributes.presence.threshold
    lead = leads(table)[:, person, nobody]
    if threshold <= 0:
        return np.zeros(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
    threshold = min(
        threshold, float(np.nextafter(np.float32(1), np.float32(0)))
    )  # 1 is what float32 rounds to from there
    wanted = np.log(threshold / (1 - threshold))
    return np.abs(lead - wanted) <= band[person, nobody], lead - wanted < -band[person, nobody]


def _attribute(table: FloatArray, spec: AttributeSpec, band: FloatArray) -> NDArray[np.bool_]:
    heat = spec.temperature or 1.0
    lead = leads(table) / heat
    most, least = lead + band / heat, lead - band / heat
    wanted = spec.margin_logit or 0.0
    if spec.margin:
        most, least, wanted = _gaps(most), _gaps(least), spec.margin
    own = np.eye(table.shape[1], dtype=bool)
    most, least = (np.where(own, np.inf, values).min(axis=2) for values in (most, least))
    # label a is given where its least lead over another label reaches what is wanted
    return np.asarray(~((least > wanted).any(axis=1) | (most < wanted).all(axis=1)), dtype=bool)


def _gaps(lead: FloatArray) -> FloatArray:
    """[N, a, b] p_a - p_b = (1 - exp(-lead of a over b)) / (sum over c of exp(-lead of a over c)); it grows with every lead of a."""
    falls = np.exp(-np.clip(lead, -_MOST_LEAD, _MOST_LEAD))
    own = np.eye(lead.shape[1], dtype=bool)
    total = 1 + np.where(own, 0, falls).sum(axis=2, keepdims=True)
    return np.asarray((1 - falls) / total, dtype=np.float32)
