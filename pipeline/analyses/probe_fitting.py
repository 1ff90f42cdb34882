"""Fit a linear probe on the embeddings of a labelled set, and say by cross-validation what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import InputError
from allfour.models.classifiers.base import EmbeddingClassifier
from allfour.models.classifiers.linear_probe import Probe
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.labelled_images import LabelledSet, truth_mapping
from allfour.pipeline.scoring.parts import ShardTables

_STRENGTHS = np.logspace(-1, 3, 5)
"""Inverse regularisation strengths tried; unit embeddings want weak regularisation."""


@dataclass(frozen=True, slots=True)
class FittedProbe:
    """A probe with its cross-validated worth."""

    probe: Probe
    report: dict[str, Any]
    """Attribute -> images, folds, accuracy of the probe and of the zero-shot head on the same images."""


def fit_probe(
    dataset: LabelledSet,
    tables: ShardTables,
    classifier: EmbeddingClassifier,
    *,
    folds: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
) -> FittedProbe:
    """Multinomial logistic regression per attribute, on frozen embeddings.

    The regularisation is chosen by inner cross-validation on each training fold, so that the reported accuracy is of images
    that had no part in any choice. Images of one identity, where the data set names it, stay in one fold.

    Raises
    ------
    InputError
        No attribute has two labels with enough images.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    if tables.embeddings is None:
        raise InputError("--fit-probe needs a classifier with embeddings (classifier.backend=clip)")
    position = {index: row for row, index in enumerate(tables.embeddings["index"].to_pylist())}
    flat = tables.embeddings["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float64).reshape(len(position), -1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    attributes = classifier.attributes
    labels_of: dict[str, tuple[str, ...]] = {}
    weights: dict[str, NDArray[np.float32]] = {}
    biases: dict[str, NDArray[np.float32]] = {}
    report: dict[str, Any] = {}
    for name in attributes.attributes:
        label_of = truth_mapping(name, attributes)
        rows, truth, identity = [], [], []
        for index, image in enumerate(dataset.images):
            label = label_of(image.truth[name]) if name in image.truth else None
            if label is not None and index in position:
                rows.append(position[index])
                truth.append(label)
                identity.append(image.identity or f"image {index}")
        labels = attributes.labels(name)
        if any(truth.count(label) < 2 * folds for label in labels):
            continue
        x, y, groups = vectors[rows], np.array(truth), np.array(identity)

        def model() -> Any:
            return LogisticRegressionCV(
                Cs=_STRENGTHS,
                cv=3,
                max_iter=500,
                scoring="neg_log_loss",
                l1_ratios=(0.0,),
                use_legacy_attributes=False,
            )

        decided = np.empty(len(y), dtype=object)
        # small matrices: more than one BLAS thread only waits for the others
        with threadpool_limits(1):
            for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(x, y, groups):
                decided[test] = model().fit(x[train], y[train]).predict(x[test])
            fitted = model().fit(x, y)
        table = classifier.probabilities(x.astype(np.float32))[name]
        zero_shot = np.array(labels)[table.argmax(axis=1)]
        report[name] = {
            "images": len(y),
            "folds": folds,
            "probe": st.wilson(int((decided == y).sum()), len(y), confidence=confidence).to_dict(),
            "zero_shot": st.wilson(int((zero_shot == y).sum()), len(y), confidence=confidence).to_dict(),
        }
        labels_of[name] = tuple(str(c) for c in fitted.classes_)
        coefficients, intercept = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
        if (
            len(labels_of[name]) == 2
        ):  # scikit-learn keeps one row for two classes; softmax of (-s/2, s/2) is its logistic
            coefficients, intercept = (
                np.vstack([-coefficients, coefficients]) / 2,
                np.array([-intercept[0], intercept[0]]) / 2,
            )
        weights[name], biases[name] = coefficients.astype(np.float32), intercept.astype(np.float32)
    if not labels_of:
        raise InputError(
            f"{dataset.location}: no attribute has at least {2 * folds} images of every label, which a probe needs"
        )
    probe = Probe(labels=labels_of, weights=weights, biases=biases, encoder=dict(classifier.encoder_identity()))
    return FittedProbe(probe=probe, report=report)
