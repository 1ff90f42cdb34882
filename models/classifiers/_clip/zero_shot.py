"""Zero-shot probabilities: embeddings of images against those of labels."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch

from allfour.models.classifiers.base import FloatArray, HalfArray

Question = TypeVar("Question", bound=Hashable)

_BLOCK = 512
"""Embeddings at a time: their float32 form stays in a core's cache."""


def zero_shot_probabilities(
    embeddings: FloatArray | HalfArray,
    text_matrix: Mapping[Question, FloatArray],
    *,
    logit_scale: float,
    logit_bias: float | None = None,
    gates: Collection[Question] = (),
) -> dict[Question, FloatArray]:
    """Softmax over each question's labels of logit_scale x cosine, in fp32.

    Parameters
    ----------
    embeddings
        [N, D] float32 or float16, rows of unit length.
    text_matrix
        Question -> [labels, D], rows of unit length.
    logit_scale
        The model's own (exp of the learnt temperature).
    logit_bias
        The model's own, where it was trained with a sigmoid.
    gates
        Questions whose labels are weighed by their sigmoids, each divided by their sum, where there is a bias: two that both fit are
        even, whichever fits better.
    """
    if not text_matrix:  # nothing is asked in words
        return {}
    texts = torch.from_numpy(np.concatenate(list(text_matrix.values())))
    # [labels, N]: every label's row is contiguous, so that what follows runs at the speed of memory
    cosines = torch.empty((len(texts), len(embeddings)), dtype=torch.float32)
    for start in range(0, len(embeddings), _BLOCK):
        block = torch.tensor(
            embeddings[start : start + _BLOCK]
        )  # torch converts half precision ten times as fast as numpy
        cosines[:, start : start + _BLOCK] = texts @ block.float().T
    table = cosines.numpy()
    result: dict[Question, FloatArray] = {}
    first = 0
    for question, matrix in text_matrix.items():
        logits = np.float32(logit_scale) * table[first : first + len(matrix)]
        first += len(matrix)
        if logit_bias is not None and question in gates:
            logits = -np.logaddexp(np.float32(0), -(logits + np.float32(logit_bias)))  # log of the sigmoid
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=0)
        result[question] = logits.T
    return result
