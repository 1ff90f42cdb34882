"""Measuring how wrong a classifier is, per group: a labelled set read by the classifier of a config -> calibration.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import InputError
from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.models.classifiers.base import Classifier
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.labelled_images import LabelledSet, truth_mapping, whole_number
from allfour.pipeline.metrics.calibration import FORMAT, SMALLEST_GROUP
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.folder import fingerprint, utc_now
from allfour.pipeline.run.labels import image_label
from allfour.pipeline.scoring.parts import ShardTables

OUTSIDE = (NO_PERSON, MIXED, UNREADABLE)
"""Decisions that no error model covers: counted and shown, and left out of the confusion."""
_RELIABILITY_BINS = 10


def binding(classifier: Classifier) -> dict[str, Any]:
    """What a calibration is bound to: identity, and the margins and threshold of its decisions."""
    attributes = classifier.attributes
    return {
        "kind": "exact",
        "classifier": dict(classifier.identity()),
        "margins": {name: spec.margin for name, spec in attributes.attributes.items()},
        **_bound_besides(attributes),
        "presence_threshold": attributes.presence.threshold if attributes.presence else None,
    }


def _bound_besides(attributes: AttributeSet) -> dict[str, Any]:
    """Margins on the logit, and temperatures, where there are any."""
    found: dict[str, Any] = {}
    if attributes.steady:
        found["stability"] = dict.fromkeys(attributes.steady, True)
    for key in ("margin_logit", "temperature", "max_error"):
        known = {name: getattr(spec, key) for name, spec in attributes.attributes.items()}
        if own := {name: value for name, value in known.items() if value is not None}:
            found[key] = own
    return found


@dataclass(frozen=True, slots=True)
class Judged:
    """Decisions and probabilities on one attribute, beside the truth; rows are images with a usable truth."""

    truth: list[str]
    decision: list[str]
    probabilities: NDArray[np.float64]
    """[N, labels]; a row of nan where the image got none."""
    rows: list[int]
    """Positions in the data set."""


def calibrate(
    dataset: LabelledSet, tables: ShardTables, classifier: Classifier, *, confidence: float = 0.95
) -> dict[str, Any]:
    """calibration.json of a scored labelled set.

    Parameters
    ----------
    dataset
        The images and their labels.
    tables
        What `score_shard` gave for `dataset.items()`.
    classifier
        The one that scored them.

    Raises
    ------
    InputError
        No attribute of the classifier has labels in the data set.
    """
    attributes = classifier.attributes
    result: dict[str, Any] = {}
    skipped: dict[str, dict[str, int]] = {}
    bound = binding(classifier)
    for name, spec in attributes.attributes.items():
        judged, unknown = _judge(dataset, tables, attributes, name)
        if unknown:
            skipped[name] = unknown
        known = bool(judged.truth) and all(label in judged.truth for label in attributes.labels(name))
        chosen = None
        if spec.max_error is not None:
            chosen = _chosen_margin(judged, attributes.labels(name) if known else (), name, spec.max_error, confidence)
            judged = _with_margin(judged, attributes.labels(name), chosen.margin)
            bound["margins"][name] = chosen.margin
        if known:
            result[name] = attribute_entry(judged, dataset, attributes, name, confidence)
        if chosen is not None:
            error = {"margin": chosen.margin, "labelled": chosen.labelled, "images": chosen.images}
            result[name]["max_error"] = {"wanted": spec.max_error, **error, "error": chosen.error.to_dict()}
    if not result:
        words = {
            c: sorted({i.truth[c] for i in dataset.images if c in i.truth})[:8]
            for i in dataset.images[:1]
            for c in i.truth
        }
        raise InputError(
            f"{dataset.location}: no attribute could be calibrated, because not every label of any of them occurs. The data set says "
            f"{words}; the attributes ask for { {n: list(attributes.labels(n)) for n in attributes.attributes} }"
        )
    statuses = Counter(tables.images["status"].to_pylist())
    return {
        "format": FORMAT,
        "created": utc_now(),
        "binding": bound,
        "dataset": {
            "location": dataset.location,
            "layout": dataset.layout,
            "images": len(dataset.images),
            "unreadable": statuses.get("unreadable", 0),
            "sha256": fingerprint([str(h) for h in tables.images["sha256"].to_pylist()]),
            "words_without_label": skipped,
        },
        "confidence": confidence,
        "attributes": result,
    }


def _judge(
    dataset: LabelledSet, tables: ShardTables, attributes: AttributeSet, name: str
) -> tuple[Judged, dict[str, int]]:
    label_of = truth_mapping(name, attributes)
    labels = attributes.labels(name)
    people: dict[int, list[dict[str, Any]]] = {}
    for row in tables.scores.to_pylist():
        if row["attribute"] == name and row["attribute"] != PRESENCE:
            people.setdefault(row["index"], []).append(row)
    truth, decision, rows, probabilities = [], [], [], []
    unknown: Counter[str] = Counter()
    for index, image in enumerate(dataset.images):
        word = image.truth.get(name)
        label = label_of(word) if word is not None else None
        if label is None:
            if word is not None:
                unknown[word] += 1
            continue
        found = people[index]
        decided = image_label(row["decision"] for row in found)
        given = dict(found[0]["probabilities"] or {}) if len(found) == 1 else {}
        truth.append(label)
        decision.append(decided)
        rows.append(index)
        probabilities.append([given.get(n, np.nan) for n in labels])
    table = np.asarray(probabilities, dtype=np.float64).reshape(-1, len(labels))
    return Judged(truth, decision, table, rows), dict(unknown)


def _chosen_margin(
    judged: Judged, labels: Sequence[str], name: str, wanted: float, confidence: float
) -> st.MarginChoice:
    """The margin for a wanted error. Raises InputError where this set cannot give one."""
    usable = np.flatnonzero([d in labels or d == AMBIGUOUS for d in judged.decision])
    usable = usable[~np.isnan(judged.probabilities[usable]).any(axis=1)]
    table = judged.probabilities[usable]
    if not labels or not len(usable) or np.isin(table, (0.0, 1.0)).all():
        raise InputError(
            f"attributes: max_error {wanted:g} of {name}: not every one of its labels occurs among those of the labelled images, or the "
            "classifier gives no probabilities. Write a `margin` in place of it"
        )
    order = np.sort(table.astype(np.float32), axis=1)
    wrong = np.array([labels[best] for best in table.argmax(axis=1)]) != np.array(judged.truth)[usable]
    found = st.margin_for_error(order[:, -1] - order[:, -2], wrong, max_error=wanted, confidence=confidence)
    if found is None:
        raise InputError(
            f"attributes: max_error {wanted:g} of {name} is not shown at any margin: of {len(usable):,} labelled images {int(wrong.sum()):,} are "
            f"read wrongly, and even among the surest the upper {confidence * 100:.6g}% limit of the error stays above it. Label more "
            "images, ask for a larger error, or take a better classifier"
        )
    return found


def _with_margin(judged: Judged, labels: Sequence[str], margin: float) -> Judged:
    """The same images with the decisions that the margin leaves."""
    order = np.sort(judged.probabilities.astype(np.float32), axis=1)
    close = (order[:, -1] - order[:, -2]) < np.float32(margin)
    decision = [AMBIGUOUS if near and d in labels else d for d, near in zip(judged.decision, close, strict=True)]
    return replace(judged, decision=decision)


def attribute_entry(
    judged: Judged, dataset: LabelledSet, attributes: AttributeSet, name: str, confidence: float
) -> dict[str, Any]:
    """One attribute's part of calibration.json: confusion and accuracy overall and per group, disparities, reliability."""
    labels = attributes.labels(name)
    everything = list(range(len(judged.truth)))
    groups = _groups(judged, dataset, attributes)
    result = {
        "labels": list(labels),
        "images": len(judged.truth),
        "confusion": _confusion(judged, everything, labels),
        **_rates(judged, everything, confidence),
        "groups": {
            by: {
                value: {"images": len(r), "confusion": _confusion(judged, r, labels), **_rates(judged, r, confidence)}
                for value, r in members.items()
            }
            for by, members in groups.items()
        },
        "disparities": {by: _disparity(judged, members) for by, members in groups.items()},
    }
    usable: NDArray[np.bool_] = np.asarray(~np.isnan(judged.probabilities).any(axis=1))
    if usable.sum() >= SMALLEST_GROUP and not np.isin(judged.probabilities[usable], (0.0, 1.0)).all():
        result |= _probability_quality(judged, usable, labels)
        # probabilities are those after the attribute's own temperature, and the best one is in place of it
        result["temperature"]["value"] *= attributes.attributes[name].temperature or 1.0
    if "leads" in result:
        for by, members in groups.items():
            for value, rows in members.items():
                own = [row for row in rows if usable[row]]
                result["groups"][by][value]["leads"] = _by_lead(judged, own, labels, result["leads"]["edges"])
    return result


def _groups(judged: Judged, dataset: LabelledSet, attributes: AttributeSet) -> dict[str, dict[str, list[int]]]:
    """Rows by each thing the data set says: its own words, ages as the attribute's bins where there are any."""
    result: dict[str, dict[str, list[int]]] = {}
    for by in dict.fromkeys(key for image in dataset.images for key in image.truth):
        label_of = truth_mapping(by, attributes) if by in attributes.attributes else None
        members: dict[str, list[int]] = {}
        for row, index in enumerate(judged.rows):
            word = dataset.images[index].truth.get(by)
            if word is not None:
                members.setdefault((label_of(word) if label_of else None) or _decade(word), []).append(row)
        if 2 <= len(members) <= 50:  # a column of file numbers is no grouping
            result[by] = dict(sorted(members.items()))
    return result


def _decade(word: str) -> str:
    number = whole_number(word)
    return word if number is None else f"{number // 10 * 10}s"


def _confusion(judged: Judged, rows: Sequence[int], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    counted = Counter((judged.truth[r], judged.decision[r]) for r in rows)
    decisions = (*labels, AMBIGUOUS, *OUTSIDE)
    return {label: {d: counted[label, d] for d in decisions if d in labels or counted[label, d]} for label in labels}


def _rates(judged: Judged, rows: Sequence[int], confidence: float) -> dict[str, Any]:
    """Accuracy among images that got a label, and how many did."""
    decided = [r for r in rows if judged.decision[r] not in (AMBIGUOUS, *OUTSIDE)]
    right = sum(judged.decision[r] == judged.truth[r] for r in decided)
    return {
        "accuracy": st.wilson(right, len(decided), confidence=confidence).to_dict(),
        "labelled": st.wilson(len(decided), len(rows), confidence=confidence).to_dict(),
    }


def _disparity(judged: Judged, members: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """Does accuracy differ between groups? Chi-square test of homogeneity, over groups large enough to tell."""
    from scipy import stats

    table = {}
    for value, rows in members.items():
        decided = [r for r in rows if judged.decision[r] not in (AMBIGUOUS, *OUTSIDE)]
        if len(decided) >= SMALLEST_GROUP:
            right = sum(judged.decision[r] == judged.truth[r] for r in decided)
            table[value] = (right, len(decided) - right)
    if len(table) < 2:
        return None
    rates = {value: right / (right + wrong) for value, (right, wrong) in table.items()}
    best, worst = max(rates, key=lambda v: rates[v]), min(rates, key=lambda v: rates[v])
    counts = np.array(list(table.values()))
    p = 1.0 if (counts.sum(axis=0) == 0).any() else float(stats.chi2_contingency(counts, correction=False).pvalue)
    return {"best": best, "worst": worst, "difference": rates[best] - rates[worst], "p_value": p, "groups": len(table)}


def _probability_quality(judged: Judged, usable: NDArray[np.bool_], labels: Sequence[str]) -> dict[str, Any]:
    """Reliability diagram, expected calibration error, the temperature that fits best, and margins for wanted errors.

    Expected calibration error: Naeini et al. 2015, ten bins of equal width. Temperature: Guo et al. 2017, the T that minimises the
    log loss of softmax(log p / T).
    """
    from scipy import optimize, special
    from sklearn.metrics import log_loss

    table = judged.probabilities[usable]
    truth = np.array([labels.index(judged.truth[r]) for r in np.flatnonzero(usable)])
    confidence, right = table.max(axis=1), table.argmax(axis=1) == truth
    bins = np.minimum((confidence * _RELIABILITY_BINS).astype(int), _RELIABILITY_BINS - 1)
    reliability = [
        {"low": b / _RELIABILITY_BINS, "high": (b + 1) / _RELIABILITY_BINS, "images": int((bins == b).sum()),
         "confidence": float(confidence[bins == b].mean()), "accuracy": float(right[bins == b].mean())}
        for b in range(_RELIABILITY_BINS)
        if (bins == b).any()
    ]  # fmt: skip
    error = sum(b["images"] * abs(b["confidence"] - b["accuracy"]) for b in reliability) / len(truth)
    logs = np.log(np.clip(table, 1e-12, 1.0))

    def loss(log_temperature: float) -> float:
        scaled = special.softmax(logs / np.exp(log_temperature), axis=1)
        return float(log_loss(truth, scaled, labels=range(len(labels))))

    fitted = optimize.minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded")
    return {
        "reliability": reliability,
        "expected_calibration_error": error,
        "temperature": {"value": float(np.exp(fitted.x)), "log_loss": float(fitted.fun), "log_loss_at_1": loss(0.0)},
        **lead_counts(judged, usable, labels),
        "margins": [_margin_for(table, truth, wanted) for wanted in (0.01, 0.02, 0.05, 0.1)],
    }


def lead_counts(judged: Judged, usable: NDArray[np.bool_], labels: Sequence[str]) -> dict[str, Any]:
    """How surely images of every label were decided, in tenths of the whole set: by this a run can be told to be another kind.

    The lead is log(p1 / p2) of the two most probable labels, whose scale is that of the model's logits.
    """
    rows = np.flatnonzero(usable)
    labelled = [row for row in rows.tolist() if judged.decision[row] in labels]
    edges = np.unique(np.quantile(_leads(judged, labelled), np.arange(1, 10) / 10)) if labelled else np.array([])
    if len(edges) < 3:  # all alike: nothing can be told from it
        return {}
    known = [float(edge) for edge in edges]
    return {"leads": {"edges": known, **_by_lead(judged, rows.tolist(), labels, known)}}


def _leads(judged: Judged, rows: Sequence[int]) -> NDArray[np.float64]:
    order = np.sort(np.clip(judged.probabilities[list(rows)], 1e-12, 1.0), axis=1)
    found: NDArray[np.float64] = np.log(order[:, -1]) - np.log(order[:, -2])
    return found


def _by_lead(judged: Judged, rows: Sequence[int], labels: Sequence[str], edges: Sequence[float]) -> dict[str, Any]:
    """Images by label, decision and which of the edges their lead reaches, and those that were unclear."""
    place = np.searchsorted(edges, _leads(judged, rows), side="right") if rows else np.array([], dtype=np.int64)
    decision = np.array([judged.decision[r] for r in rows])
    truth = np.array([judged.truth[r] for r in rows])

    def row(label: str, decided: str) -> list[int]:
        chosen = (truth == label) & (decision == decided)
        return [int(n) for n in np.bincount(place[chosen], minlength=len(edges) + 1)]

    return {
        "counts": {label: {decided: row(label, decided) for decided in labels} for label in labels},
        "unclear": {label: int(((truth == label) & (decision == AMBIGUOUS)).sum()) for label in labels},
    }


def _margin_for(table: NDArray[np.float64], truth: NDArray[np.int64], wanted: float) -> dict[str, Any]:
    """The smallest abstention margin at which the error among labelled images is at most `wanted`."""
    order = np.sort(table, axis=1)
    gap = order[:, -1] - order[:, -2]
    wrong = table.argmax(axis=1) != truth
    rank = np.argsort(-gap, kind="stable")
    errors = np.cumsum(wrong[rank]) / np.arange(1, len(rank) + 1)
    last_of_tie = np.append(np.diff(gap[rank]) != 0, True)
    good = np.flatnonzero((errors <= wanted) & last_of_tie)
    if not len(good):
        return {"error": wanted, "margin": None, "labelled": 0.0}
    keep = int(good[-1])
    # just below the gap of the last image that is kept
    margin = 0.0 if keep == len(rank) - 1 else float(np.nextafter(np.float32(gap[rank[keep]]), np.float32(0)))
    return {"error": wanted, "margin": margin, "labelled": (keep + 1) / len(rank), "error_then": float(errors[keep])}
