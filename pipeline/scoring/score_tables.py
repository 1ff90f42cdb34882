"""Probabilities of many images -> rows of scores.parquet, without a Python object per row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from allfour.models.attributes import AttributeSet
from allfour.pipeline.run.columns import AMBIGUOUS, NO_PERSON, SCORES_SCHEMA, UNREADABLE, ImageStatus
from allfour.pipeline.run.labels import AMBIGUOUS_CODE, NO_PERSON_CODE
from allfour.pipeline.scoring.decisions import decide_all, tempered

_CODES = pa.int32()
_NAME = pa.dictionary(_CODES, pa.string())
CODED_SCHEMA = pa.schema(
    [
        field.with_type(_NAME) if pa.types.is_string(field.type)
        else field.with_type(pa.map_(pa.field("key", _NAME, nullable=False), pa.float32())) if pa.types.is_map(field.type)
        else field
        for field in SCORES_SCHEMA
    ]
)  # fmt: skip
"""SCORES_SCHEMA with every name as a code. Parquet files of the two are the same; writing this one takes half the time."""


def readable_rows(images: pa.Table) -> NDArray[np.bool_]:
    """[N] whether a part's image was read: those have probabilities, in their order, and the others none."""
    return np.asarray(
        pc.equal(images["status"], ImageStatus.GENERATED.value).to_numpy(zero_copy_only=False), dtype=bool
    )


def coded_scores(
    images: pa.Table, probabilities: Mapping[str, NDArray[np.float32]], attributes: AttributeSet
) -> pa.Table:
    """CODED_SCHEMA rows: image after image, question after question within an image.

    Parameters
    ----------
    images
        [N] rows with prompt_id, index and status; unreadable ones get rows without probabilities.
    probabilities
        Question -> [readable images, labels].
    """
    readable = readable_rows(images)
    total, count = images.num_rows, int(readable.sum())
    questions = attributes.questions
    labels = [label for question in questions for label in attributes.labels(question)]
    names = list(dict.fromkeys([*labels, AMBIGUOUS, NO_PERSON, UNREADABLE]))
    number = {name: code for code, name in enumerate(names)}
    decided = decide_all(dict(probabilities), attributes)
    shape = (total, len(questions))
    decision = np.full(shape, number[UNREADABLE], dtype=np.int32)
    probability, margin = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    lengths = np.zeros(shape, dtype=np.int64)
    for column, question in enumerate(questions):
        found = decided[question]
        # codes count from the end: see Decisions.decision
        table = np.empty(len(found.labels) + 2, dtype=np.int32)
        table[: len(found.labels)] = [number[label] for label in found.labels]
        table[AMBIGUOUS_CODE], table[NO_PERSON_CODE] = number[AMBIGUOUS], number[NO_PERSON]
        decision[readable, column] = table[found.code]
        probability[readable, column], margin[readable, column] = found.probability, found.margin
        lengths[readable, column] = len(found.labels)
    missing = np.repeat(~readable, len(questions))
    ends = np.zeros(total * len(questions) + 1, dtype=np.int32)
    np.cumsum(lengths.ravel(), out=ends[1:])
    values = np.concatenate([_decided_by(probabilities, q, attributes) for q in questions], axis=1, dtype=np.float32)
    keys = np.tile(np.asarray([number[label] for label in labels], dtype=np.int32), count)
    prompt_ids = images["prompt_id"].combine_chunks().dictionary_encode()
    return pa.table(
        {
            "prompt_id": pa.DictionaryArray.from_arrays(
                pa.array(np.repeat(prompt_ids.indices.to_numpy(), len(questions)), _CODES), prompt_ids.dictionary
            ),
            "index": np.repeat(images["index"].to_numpy(), len(questions)),
            "person": np.zeros(total * len(questions), dtype=np.int32),
            "attribute": _coded(np.tile(np.arange(len(questions), dtype=np.int32), total), list(questions)),
            "decision": _coded(decision.ravel(), names),
            "probability": pa.array(probability.ravel(), mask=missing),
            "margin": pa.array(margin.ravel(), mask=missing),
            "probabilities": pa.MapArray.from_arrays(
                pa.array(ends, mask=np.append(missing, False)), _coded(keys, names), pa.array(values.ravel()),
                type=CODED_SCHEMA.field("probabilities").type,
            ),
            "box": pa.nulls(total * len(questions), pa.list_(pa.int32())),
        },
        schema=CODED_SCHEMA,
    )  # fmt: skip


def _decided_by(
    probabilities: Mapping[str, NDArray[np.float32]], question: str, attributes: AttributeSet
) -> NDArray[np.float32]:
    """What the table says of a question: the probabilities that were decided by."""
    spec = attributes.attributes.get(question)
    return tempered(probabilities[question], spec.temperature if spec is not None else None)


def _coded(codes: NDArray[np.int32], names: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))
