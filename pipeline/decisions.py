"""Probabilities -> decisions. The one place where margins and the presence gate act, for every classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.attributes import AMBIGUOUS, NO_PERSON, PERSON, PRESENCE, AttributeSet


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions on one question for N images or persons."""

    decision: NDArray[np.str_]
    """[N] label name, `ambiguous` or `no_person`."""
    probability: NDArray[np.float32]
    """[N] of the most probable label."""
    margin: NDArray[np.float32]
    """[N] most probable minus second."""


def decide(probabilities: NDArray[np.float32], labels: tuple[str, ...], *, margin: float) -> Decisions:
    """The most probable label, or `ambiguous` where the second is closer than `margin`.

    Parameters
    ----------
    probabilities
        [N, labels].
    margin
        0 takes the most probable label always; an exact tie is `ambiguous` even then, for no order of labels may decide.
    """
    order = np.sort(probabilities, axis=1)
    gap = order[:, -1] - order[:, -2]
    names = np.asarray(labels)[probabilities.argmax(axis=1)]
    unsure = (gap < np.float32(margin)) | (gap == 0)
    return Decisions(
        decision=np.where(unsure, AMBIGUOUS, names),
        probability=order[:, -1].astype(np.float32),
        margin=gap.astype(np.float32),
    )


def decide_all(probabilities: dict[str, NDArray[np.float32]], attributes: AttributeSet) -> dict[str, Decisions]:
    """Decisions on every question, with the presence gate applied to the attributes.

    Parameters
    ----------
    probabilities
        Question -> [N, labels], as an `EmbeddingClassifier` gives them.
    """
    result: dict[str, Decisions] = {}
    absent: NDArray[np.bool_] | None = None
    if attributes.presence is not None:
        table = probabilities[PRESENCE]
        person = table[:, attributes.labels(PRESENCE).index(PERSON)]
        absent = person < np.float32(attributes.presence.threshold)
        gate = decide(table, attributes.labels(PRESENCE), margin=0.0)
        result[PRESENCE] = Decisions(
            decision=np.where(absent, NO_PERSON, PERSON), probability=gate.probability, margin=gate.margin
        )
    for name, spec in attributes.attributes.items():
        decided = decide(probabilities[name], tuple(spec.labels), margin=spec.margin)
        if absent is not None:
            decided = Decisions(
                decision=np.where(absent, NO_PERSON, decided.decision),
                probability=decided.probability,
                margin=decided.margin,
            )
        result[name] = decided
    return result
