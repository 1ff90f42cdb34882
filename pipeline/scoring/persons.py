"""Persons that a classifier describes itself -> rows of scores.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from allfour.models.attributes import AMBIGUOUS, NO_PERSON, PERSON, PRESENCE, AttributeSet, AttributeSpec
from allfour.models.classifiers.base import PersonScores
from allfour.pipeline.archives.base import ArchivedImage
from allfour.pipeline.scoring.decisions import decide, tempered

Row = dict[str, Any]


def plain_row(image: ArchivedImage, question: str, decision: str, *, person: int = 0) -> Row:
    """A row without probabilities."""
    return {
        "prompt_id": image.prompt_id,
        "index": image.index,
        "person": person,
        "attribute": question,
        "decision": decision,
    }


def person_rows(image: ArchivedImage, people: Sequence[PersonScores], attributes: AttributeSet) -> list[Row]:
    """SCORES_SCHEMA rows of an image that was read, person after person, question after question.

    The presence gate acts on a person who has probabilities of `presence`; another is there because it was found.
    """
    if not people:
        return [plain_row(image, name, NO_PERSON) for name in attributes.attributes]
    rows: list[Row] = []
    for number, person in enumerate(people):
        box = {"box": list(person.box) if person.box else None}
        gate = person.probabilities.get(PRESENCE) if attributes.presence is not None else None
        absent = False
        if gate is not None and attributes.presence is not None:
            decided = _decided(gate, attributes.labels(PRESENCE), margin=0.0)
            absent = bool(np.float32(gate[PERSON]) < np.float32(attributes.presence.threshold))
            decision = NO_PERSON if absent else PERSON
            rows.append({**plain_row(image, PRESENCE, decision, person=number), **decided, "decision": decision, **box})
        for name, spec in attributes.attributes.items():
            given = person.probabilities.get(name)
            if given is None:
                rows.append(plain_row(image, name, NO_PERSON if absent else AMBIGUOUS, person=number))
                continue
            decided = _decided(given, tuple(spec.labels), margin=spec.margin, spec=spec)
            rows.append(
                {
                    **plain_row(image, name, NO_PERSON, person=number),
                    **decided,
                    **({"decision": NO_PERSON} if absent else {}),
                    **box,
                }
            )
    return rows


def _decided(
    given: Mapping[str, float], labels: tuple[str, ...], *, margin: float, spec: AttributeSpec | None = None
) -> Row:
    table = np.asarray([[given[label] for label in labels]], dtype=np.float32)
    if spec is not None:
        table = tempered(table, spec.temperature)
    decided = decide(table, labels, margin=margin, lead=spec.margin_logit if spec is not None else None)
    return {
        "decision": str(decided.decision[0]),
        "probability": float(decided.probability[0]),
        "margin": float(decided.margin[0]),
        "probabilities": [(label, float(p)) for label, p in zip(labels, table[0], strict=True)],
    }
