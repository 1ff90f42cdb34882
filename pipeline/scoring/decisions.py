"""Probabilities -> decisions. The one place where margins and the presence gate act, for every classifier.

Decisions are taken as codes, a position in the labels or one of the codes below, and named at the end: over millions of images,
names are what costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from allfour.errors import ClassifierError
from allfour.models.attributes import AMBIGUOUS, NO_PERSON, PERSON, PRESENCE, AttributeSet
from allfour.models.classifiers.views import steadiness
from allfour.pipeline.run.labels import AMBIGUOUS_CODE, NO_PERSON_CODE


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions on one question for N images or persons."""

    labels: tuple[str, ...]
    code: NDArray[np.int16]
    """[N] position in `labels`, AMBIGUOUS_CODE or NO_PERSON_CODE."""
    probability: NDArray[np.float32]
    """[N] of the most probable label."""
    margin: NDArray[np.float32]
    """[N] most probable minus second."""

    @property
    def decision(self) -> NDArray[np.str_]:
        """[N] label name, `ambiguous` or `no_person`."""
        return np.asarray([*self.labels, NO_PERSON, AMBIGUOUS])[self.code]  # the codes count from the end


def tempered(probabilities: NDArray[np.float32], temperature: float | None) -> NDArray[np.float32]:
    """[N, labels] p^(1/temperature), rows summing to 1: softmax(log p / T) of Guo et al. 2017, On calibration of modern neural networks.

    The order of labels stays; above 1 the probabilities are nearer to each other, below 1 further apart.
    """
    if temperature is None or temperature == 1.0:
        return probabilities
    logits = np.log(np.clip(probabilities, 1e-12, 1.0).astype(np.float64)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def decide(
    probabilities: NDArray[np.float32], labels: tuple[str, ...], *, margin: float, lead: float | None = None
) -> Decisions:
    """The most probable label, or `ambiguous` where the second is closer than `margin`.

    Parameters
    ----------
    probabilities
        [N, labels].
    margin
        0 takes the most probable label always; an exact tie is `ambiguous` even then, for no order of labels may decide.
    lead
        The least log(p1 / p2) of the two most probable labels; None asks for none.

    Raises
    ------
    ClassifierError
        A probability is not a number: compared with others it is never the larger one, and the first label would win.
    """
    columns = np.ascontiguousarray(probabilities.T, dtype=np.float32)
    # label after label over all images: a sort per image would cost ten times as much
    best, second = columns[0].copy(), np.full(len(probabilities), -np.inf, dtype=np.float32)
    code = np.zeros(len(probabilities), dtype=np.int16)
    for position, column in enumerate(columns[1:], start=1):
        higher = column > best
        np.maximum(second, np.minimum(best, column), out=second)
        np.maximum(best, column, out=best)
        code[higher] = position
    gap = best - second
    if (lost := int(np.isnan(gap).sum())) > 0:
        raise ClassifierError(
            f"the classifier gave no numbers for {lost:,} of {len(gap):,} readings ({', '.join(labels[:3])}), as half precision that "
            "overflows does. Of a CLIP, try --set classifier.dtype=float32"
        )
    code[(gap < np.float32(margin)) | (gap == 0)] = AMBIGUOUS_CODE
    if lead is not None:
        code[best < second * np.float32(np.exp(lead))] = AMBIGUOUS_CODE
    return Decisions(labels=labels, code=code, probability=best, margin=gap)


def decide_all(probabilities: dict[str, NDArray[np.float32]], attributes: AttributeSet) -> dict[str, Decisions]:
    """Decisions on every question, with the presence gate applied to the attributes.

    Parameters
    ----------
    probabilities
        Question -> [N, labels], as an `EmbeddingClassifier` gives them, and `steadiness(attribute)` -> [N, 1] where the attribute asks for
        it: temperatures are not in them yet.
    """
    result: dict[str, Decisions] = {}
    absent: NDArray[np.bool_] | None = None
    if attributes.presence is not None:
        table, labels = probabilities[PRESENCE], attributes.labels(PRESENCE)
        absent = table[:, labels.index(PERSON)] < np.float32(attributes.presence.threshold)
        code = np.where(absent, NO_PERSON_CODE, labels.index(PERSON)).astype(np.int16)
        result[PRESENCE] = replace(decide(table, labels, margin=0.0), code=code)
    for name, spec in attributes.attributes.items():
        table = tempered(probabilities[name], spec.temperature)
        decided = decide(table, tuple(spec.labels), margin=spec.margin, lead=spec.margin_logit)
        steady = probabilities.get(steadiness(name)) if spec.stability else None
        if steady is not None:
            decided.code[steady[:, 0] < 1] = AMBIGUOUS_CODE
        if absent is not None:
            decided.code[absent] = NO_PERSON_CODE
        result[name] = decided
    return result
