"""How wrong the classifier is, per group: a labelled set through the very classifier of a config -> calibration.json.

A calibration is bound to the classifier's identity and to the margins and the presence threshold that its decisions were taken
with: for other weights, wording or margins the error rates are other ones, and it is refused. Published counts are bound to the
encoder's name and, like every other calibration, to the margins: their wording is the publication's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import ConfigError
from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.models.classifiers.base import Classifier
from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.labelled_images import LabelledSet, truth_mapping
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.folder import fingerprint, utc_now, write_json
from allfour.pipeline.run.identities import differing
from allfour.pipeline.run.labels import image_label
from allfour.pipeline.run.metrics import CalibrationNote
from allfour.pipeline.run.record import Note
from allfour.pipeline.scoring.parts import ShardTables

FORMAT = 1
OUTSIDE = (NO_PERSON, MIXED, UNREADABLE)
"""Decisions that no error model covers: counted and shown, and left out of the confusion."""
SMALLEST_GROUP = 20
"""Groups below this many images get no test of their own."""
_RELIABILITY_BINS = 10


@dataclass(frozen=True, slots=True)
class SureCells:
    """Images of a calibration by true label, decision and whether it was taken with a large lead."""

    edge: float
    """Lead, log(p1 / p2) of the two most probable labels, from which on a decision counts as sure: about the median."""
    counts: NDArray[np.int64]
    """[true labels, cells]: every decision below the edge, every decision above it, ambiguous."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration file, checked."""

    data: Mapping[str, Any]

    def confusion(self, attribute: str, labels: Sequence[str]) -> st.Confusion | None:
        """Confusion of an attribute with the columns labels + ambiguous; None where it was not calibrated for it."""
        entry = self.data["attributes"].get(attribute)
        if entry is None or list(entry["labels"]) != list(labels):
            return None
        rows = [[entry["confusion"][label].get(d, 0) for d in (*labels, AMBIGUOUS)] for label in labels]
        return st.Confusion(np.array(rows)) if all(sum(row) for row in rows) else None

    def sure_cells(self, attribute: str, labels: Sequence[str]) -> SureCells | None:
        """What was decided and how surely, by true label; None for a calibration that says nothing of it, such as an older one."""
        entry = self.data["attributes"].get(attribute)
        found = entry.get("leads") if entry is not None and list(entry["labels"]) == list(labels) else None
        if not found:
            return None
        middle = len(found["edges"]) // 2
        rows = []
        for label in labels:
            by_decision = {d: found["counts"][label].get(d, []) for d in labels}
            below = [sum(by_decision[d][: middle + 1]) for d in labels]
            above = [sum(by_decision[d][middle + 1 :]) for d in labels]
            rows.append([*below, *above, found["unclear"].get(label, 0)])
        return SureCells(float(found["edges"][middle]), np.array(rows, dtype=np.int64))

    def error_spread(self, attribute: str, labels: Sequence[str]) -> float | None:
        """How much the error of a label differs between groups, on the logit; the most over groupings and labels, None without groups."""
        found = []
        for members in self.data["attributes"].get(attribute, {}).get("groups", {}).values():
            for label in labels:
                rows = [g["confusion"].get(label, {}) for g in members.values() if "confusion" in g]
                decided = [sum(row.get(d, 0) for d in labels) for row in rows]
                large = [
                    (n - row.get(label, 0), n) for row, n in zip(rows, decided, strict=True) if n >= SMALLEST_GROUP
                ]
                if len(large) > 1:
                    found.append(st.spread_between_groups([e for e, _ in large], [n for _, n in large]))
        return max(found, default=None)

    def summary(self) -> CalibrationNote:
        """What metrics.json and the report say of it."""
        return CalibrationNote.model_validate(
            {
                "dataset": self.data["dataset"],
                "created": self.data["created"],
                "binding": self.data["binding"]["kind"],
                "confidence": self.data.get("confidence"),
                "attributes": {
                    name: {key: entry[key] for key in ("images", "accuracy", "groups", "disparities") if key in entry}
                    for name, entry in self.data["attributes"].items()
                },
            }
        )


def binding(classifier: Classifier) -> dict[str, Any]:
    """What a calibration is bound to: identity, and the margins and threshold of its decisions."""
    attributes = classifier.attributes
    return {
        "kind": "exact",
        "classifier": dict(classifier.identity()),
        "margins": {name: spec.margin for name, spec in attributes.attributes.items()},
        "presence_threshold": attributes.presence.threshold if attributes.presence else None,
    }


def load_calibration(path: Path, classifier: Mapping[str, Any], attributes: AttributeSet) -> Calibration:
    """Read a calibration and check that it is one of this classifier.

    Parameters
    ----------
    classifier
        `identity()` of the run's classifier.
    attributes
        The run's attribute set, for its margins and its presence threshold.

    Raises
    ------
    ConfigError
        No calibration, of another format, or of another classifier: the message names what differs.
    """
    data = _read(path)
    bound = data["binding"]
    if bound["kind"] == "published":
        _check_published(path, data, classifier)
        _check_published_margins(path, data, attributes)
        return Calibration(data)
    differences = _differences(bound["classifier"], json.loads(json.dumps(dict(classifier), default=str)))
    _refuse(path, differences + _decided_otherwise(bound, attributes))
    return Calibration(data)


UNFIT = "calibration_does_not_fit"
"""Code of the note that a kept calibration is not of this run's classifier any more."""
KEPT = "calibration.json"
"""Copy of the calibration that a run was given, in the run folder."""
_UNFIT = (
    "calibration.json in the run folder is not one of this run's classifier and margins any more, and is left out: nothing is "
    "corrected. Calibrate anew with this config, or remove the file."
)


def run_calibration_of(
    folder: Path, given: Path | None, classifier: Mapping[str, Any], attributes: AttributeSet
) -> tuple[Calibration | None, Note | None]:
    """The calibration of a run: the one that is given, which is then kept in the run folder, else the one kept there.

    Returns
    -------
    The calibration, and a note where one is kept that does not fit the run any more.

    Raises
    ------
    ConfigError
        The one that is given does not fit.
    """
    kept = folder / KEPT
    if given is not None:
        found = load_calibration(given, classifier, attributes)
        write_json(kept, found.data)
        return found, None
    if not kept.exists():
        return None, None
    try:
        return load_calibration(kept, classifier, attributes), None
    except ConfigError:
        return None, Note(code=UNFIT, text=_UNFIT, about="calibration")


def check_calibration(path: Path | None, attributes: AttributeSet) -> None:
    """Check what can be checked before a classifier is loaded, so that a long run does not end in an error.

    Parameters
    ----------
    path
        None for a run without a calibration, which is always right.
    attributes
        The run's attribute set, for its margins and its presence threshold.

    Raises
    ------
    ConfigError
        No calibration, of another format, or its decisions were taken with another margin or presence threshold.
    """
    if path is None:
        return
    data = _read(path)
    if data["binding"]["kind"] == "published":
        _check_published_margins(path, data, attributes)
    else:
        _refuse(path, _decided_otherwise(data["binding"], attributes))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_not_a_number)
        bound = data["binding"]
        needed = ("architecture", "pretrained") if bound["kind"] == "published" else ("classifier", "margins")
        if data["format"] != FORMAT or "attributes" not in data or any(key not in bound for key in needed):
            raise KeyError("format")
    except FileNotFoundError:
        raise ConfigError(f"--calibration {path}: no such file. Make one with `allfour calibrate`") from None
    except OSError as error:
        raise ConfigError(f"--calibration {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        reason = f"no {error.args[0]!r}, or another one" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"--calibration {path}: not a calibration of format {FORMAT} ({reason}). Make one with `allfour calibrate`"
        ) from None
    return dict(data)


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check_published(path: Path, data: Mapping[str, Any], classifier: Mapping[str, Any]) -> None:
    """Published counts are those of an encoder that is known by name, read zero-shot."""
    bound, encoder = data["binding"], classifier.get("encoder") or {}
    named = (encoder.get("architecture"), encoder.get("pretrained")) == (bound["architecture"], bound["pretrained"])
    if named and classifier.get("backend") == "clip":
        return
    architecture, tag = encoder.get("architecture"), encoder.get("pretrained")
    if not encoder:
        found = f"has the backend {classifier.get('backend')!r}, which is no zero-shot CLIP"
    elif tag is None:
        found = f"took its weights from the folder or file {architecture!r}, so nothing says that they are the published ones"
    else:
        found = f"is {architecture} / {tag} with the backend {classifier.get('backend')!r}"
    raise ConfigError(
        f"--calibration {path}: published counts of {bound['architecture']} / {bound['pretrained']}, zero-shot; this run's classifier "
        f"{found}. Score with classifier.backend=clip, classifier.model={bound['architecture']} and "
        f"classifier.pretrained={bound['pretrained']}, or make a calibration of this classifier with `allfour calibrate`"
    )


def _check_published_margins(path: Path, data: Mapping[str, Any], attributes: AttributeSet) -> None:
    """Rates taken at one margin say nothing of images that another margin leaves without a label."""
    margins = data["binding"].get("margins", {})
    for name, entry in data["attributes"].items():
        spec, margin = attributes.attributes.get(name), margins.get(name, 0.0)
        if spec is None or spec.margin == margin or list(spec.labels) != list(entry["labels"]):
            continue
        taken = "the most probable label always" if margin == 0 else "an image is ambiguous below it"
        raise ConfigError(
            f"--calibration {path}: its rates for {name} were taken with the margin {margin:g} ({taken}); this run's margin is "
            f"{spec.margin:g}, and how often that one leaves an image ambiguous is not in them. Write `margin: {margin:g}` for {name} into "
            f"a copy of the attributes file: a new run takes it with `--set attributes.file=COPY`, and a run that stands with "
            f"`allfour relabel RUN --attributes COPY --calibration {path}`, which reads no image again"
        )


def _decided_otherwise(bound: Mapping[str, Any], attributes: AttributeSet) -> list[str]:
    """Margins and presence threshold that are others in the calibration than in the run."""
    found = []
    for name, margin in bound["margins"].items():
        spec = attributes.attributes.get(name)
        if spec is not None and spec.margin != margin:
            found.append(f"margin of {name} ({margin} there, {spec.margin} here)")
    here = attributes.presence.threshold if attributes.presence else None
    there = bound.get("presence_threshold", here)
    return found if there == here else [*found, f"presence threshold ({there} there, {here} here)"]


def _refuse(path: Path, differences: Sequence[str]) -> None:
    if differences:
        raise ConfigError(
            f"--calibration {path}: made with another classifier or other margins, so its error rates are not those of this run. Different: "
            f"{'; '.join(differences)}. Run `allfour calibrate` with this config"
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    found = sorted(differing(there, here), key=lambda difference: difference[0])
    return [f"{key} ({str(old)[:16]} there, {str(new)[:16]} here)" for key, old, new in found]


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
    ConfigError
        No attribute of the classifier has labels in the data set.
    """
    attributes = classifier.attributes
    result: dict[str, Any] = {}
    skipped: dict[str, dict[str, int]] = {}
    for name in attributes.attributes:
        judged, unknown = _judge(dataset, tables, attributes, name)
        if unknown:
            skipped[name] = unknown
        if judged.truth and all(label in judged.truth for label in attributes.labels(name)):
            result[name] = attribute_entry(judged, dataset, attributes, name, confidence)
    if not result:
        words = {
            c: sorted({i.truth[c] for i in dataset.images if c in i.truth})[:8]
            for i in dataset.images[:1]
            for c in i.truth
        }
        raise ConfigError(
            f"{dataset.location}: no attribute could be calibrated, because not every label of any of them occurs. The data set says "
            f"{words}; the attributes ask for { {n: list(attributes.labels(n)) for n in attributes.attributes} }"
        )
    statuses = Counter(tables.images["status"].to_pylist())
    return {
        "format": FORMAT,
        "created": utc_now(),
        "binding": binding(classifier),
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
    return f"{int(word) // 10 * 10}s" if word.isdigit() else word


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
        **_leads(judged, usable, labels),
        "margins": [_margin_for(table, truth, wanted) for wanted in (0.01, 0.02, 0.05, 0.1)],
    }


def _leads(judged: Judged, usable: NDArray[np.bool_], labels: Sequence[str]) -> dict[str, Any]:
    """How surely images of every label were decided, in tenths of the whole set: by this a run can be told to be another kind.

    The lead is log(p1 / p2) of the two most probable labels, whose scale is that of the model's logits.
    """
    rows = np.flatnonzero(usable)
    order = np.sort(np.clip(judged.probabilities[rows], 1e-12, 1.0), axis=1)
    lead = np.log(order[:, -1]) - np.log(order[:, -2])
    decision = np.array([judged.decision[r] for r in rows])
    truth = np.array([judged.truth[r] for r in rows])
    labelled = np.isin(decision, labels)
    edges = np.unique(np.quantile(lead[labelled], np.arange(1, 10) / 10)) if labelled.any() else np.array([])
    if len(edges) < 3:  # all alike: nothing can be told from it
        return {}
    place = np.searchsorted(edges, lead, side="right")

    def row(label: str, decided: str) -> list[int]:
        chosen = (truth == label) & (decision == decided)
        return [int(n) for n in np.bincount(place[chosen], minlength=len(edges) + 1)]

    return {
        "leads": {
            "edges": [float(edge) for edge in edges],
            "counts": {label: {decided: row(label, decided) for decided in labels} for label in labels},
            "unclear": {label: int(((truth == label) & (decision == AMBIGUOUS)).sum()) for label in labels},
        }
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
