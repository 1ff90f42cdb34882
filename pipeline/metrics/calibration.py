"""A calibration of a run: read, and checked that it is one of this very classifier.

A calibration is bound to the classifier's identity and to the margins and the presence threshold that its decisions were taken
with: for other weights, wording or margins the error rates are other ones, and it is refused. Published counts are bound to the
encoder's name and, like every other calibration, to the margins: their wording is the publication's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour import resources
from allfour.border import read_json
from allfour.errors import InputError
from allfour.files import read_regular
from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.run.identities import deciding_alike, differing
from allfour.pipeline.run.metrics import CalibrationNote
from allfour.pipeline.run.record import Note
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import write_json

FORMAT = 1
SMALLEST_GROUP = 20
"""Groups below this many images get no test of their own."""


@dataclass(frozen=True, slots=True)
class SureCells:
    """Images of a calibration by true label, decision and how large a lead it was taken with."""

    edges: tuple[float, float]
    """Leads, log(p1 / p2) of the two most probable labels, from which on a decision is surer: about the third and the seventh tenth."""
    counts: NDArray[np.int64]
    """[true labels, cells]: every decision below both edges, every decision between them, every one above, ambiguous."""


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
        lower, upper = _edges(found["edges"])
        edges = float(found["edges"][lower]), float(found["edges"][upper])
        return SureCells(edges, _cells(found, labels, lower, upper))

    def group_cells(self, attribute: str, labels: Sequence[str]) -> dict[str, dict[str, NDArray[np.int64]]]:
        """The same cells by group, [true labels, cells] each; groupings of which every group has enough images of every label."""
        entry = self.data["attributes"].get(attribute)
        if entry is None or list(entry["labels"]) != list(labels) or not entry.get("leads"):
            return {}
        at = _edges(entry["leads"]["edges"])
        result = {}
        for by, members in entry.get("groups", {}).items():
            cells = {
                name: _cells(own["leads"], labels, *at) for name, own in members.items() if own.get("leads") is not None
            }
            if len(cells) == len(members) and all((c.sum(axis=1) >= SMALLEST_GROUP).all() for c in cells.values()):
                result[by] = cells
        return result

    def error_spread(self, attribute: str, labels: Sequence[str]) -> tuple[str, NDArray[np.float64]] | None:
        """How much the error of a label differs between groups, on the logit: a grouping and draws of the standard deviation.

        Of every grouping and label the one by which it differs most; None without groups.
        """
        found: list[tuple[float, str, NDArray[np.float64]]] = []
        for by, members in self.data["attributes"].get(attribute, {}).get("groups", {}).items():
            for label in labels:
                rows = [g["confusion"].get(label, {}) for g in members.values() if "confusion" in g]
                decided = [sum(row.get(d, 0) for d in labels) for row in rows]
                large = [
                    (n - row.get(label, 0), n) for row, n in zip(rows, decided, strict=True) if n >= SMALLEST_GROUP
                ]
                drawn = st.group_spread([e for e, _ in large], [n for _, n in large])
                if drawn is not None:
                    found.append((float(drawn.mean()), by, drawn))
        return max(found, key=lambda entry: entry[0])[1:] if found else None

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


def _edges(edges: Sequence[float]) -> tuple[int, int]:
    """Places of the edges about the third and the seventh tenth."""
    lower = (len(edges) - 1) // 3
    return lower, len(edges) - 1 - lower


def _cells(found: Mapping[str, Any], labels: Sequence[str], lower: int, upper: int) -> NDArray[np.int64]:
    """[true labels, cells] of stored leads: every decision below both edges, between them, above; ambiguous."""
    bands = (slice(0, lower + 1), slice(lower + 1, upper + 1), slice(upper + 1, None))
    rows = []
    for label in labels:
        by_decision = {d: found["counts"][label].get(d, []) for d in labels}
        banded = [sum(by_decision[d][band]) for band in bands for d in labels]
        rows.append([*banded, found["unclear"].get(label, 0)])
    return np.array(rows, dtype=np.int64)


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
    InputError
        No calibration, of another format, or of another classifier: the message names what differs.
    """
    data = read_calibration(path)
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
OTHER_PRECISION = "calibration_in_other_precision"
"""Code of the note that a calibration and the run were not encoded in the same precision, though with the same decisions."""
_OTHER_PRECISION = (
    "The calibration and this run were encoded in different precisions: one in float32, the other in bfloat16 with float32 wherever that could "
    "change a decision. Decisions are the same in both, so the error rates hold."
)
KEPT = "calibration.json"
"""Copy of the calibration that a run was given, in the run folder."""
_UNFIT = (
    "calibration.json in the run folder no longer belongs to this run's classifier and margins. It is ignored, and nothing is "
    "corrected. Calibrate again with this config, or remove the file."
)


def run_calibration_of(
    folder: Path, given: Path | None, classifier: Mapping[str, Any], attributes: AttributeSet
) -> tuple[Calibration | None, Note | None]:
    """The calibration of a run: the one that is given, which is then kept in the run folder, else the one kept there.

    Returns
    -------
    The calibration, and a note where one is kept that does not fit the run any more, or where it was made in another precision.

    Raises
    ------
    InputError
        The one that is given does not fit, or the one that is kept is damaged.
    """
    kept = folder / KEPT
    if given is not None:
        found = load_calibration(given, classifier, attributes)
        write_json(kept, sealed(found.data))
        return found, _precision_note(found, classifier)
    if not kept.exists():
        return None, None
    read_calibration(kept)  # damage is an error, and not one that does not fit
    try:
        found = load_calibration(kept, classifier, attributes)
    except InputError:
        return None, Note(code=UNFIT, text=_UNFIT, about="calibration")
    return found, _precision_note(found, classifier)


def _precision_note(found: Calibration, classifier: Mapping[str, Any]) -> Note | None:
    if not deciding_alike(found.data["binding"].get("classifier", {}), classifier):
        return None
    return Note(code=OTHER_PRECISION, text=_OTHER_PRECISION, about="calibration")


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
    InputError
        No calibration, of another format, or its decisions were taken with another margin or presence threshold.
    """
    if path is None:
        return
    data = read_calibration(path)
    if data["binding"]["kind"] == "published":
        _check_published_margins(path, data, attributes)
    else:
        _refuse(path, _decided_otherwise(data["binding"], attributes))


def read_calibration(path: Path) -> dict[str, Any]:
    """A calibration file as it stands, here or among the packaged ones, with its format checked. Raises InputError."""
    try:
        data = unsealed(read_json(read_regular(resources.locate(path) or path), parse_constant=_not_a_number))
        bound = data["binding"]
        needed = ("architecture", "pretrained") if bound["kind"] == "published" else ("classifier", "margins")
        if data["format"] != FORMAT or "attributes" not in data or any(key not in bound for key in needed):
            raise KeyError("format")
    except FileNotFoundError:
        raise InputError(f"--calibration {path}: no such file. Make one with `allfour calibrate`") from None
    except OSError as error:
        raise InputError(f"--calibration {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error.args[0]!r}, or another one" if isinstance(error, KeyError) else str(error)
        raise InputError(
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
    raise InputError(
        f"--calibration {path}: published counts of {bound['architecture']} / {bound['pretrained']}, zero-shot; this run's classifier "
        f"{found}. Score with classifier.backend=clip, classifier.model={bound['architecture']} and "
        f"classifier.pretrained={bound['pretrained']}, or make a calibration of this classifier with `allfour calibrate`"
    )


def _check_published_margins(path: Path, data: Mapping[str, Any], attributes: AttributeSet) -> None:
    """Rates taken at one margin say nothing of images that another margin leaves without a label."""
    margins = data["binding"].get("margins", {})
    for name, entry in data["attributes"].items():
        spec, margin = attributes.attributes.get(name), margins.get(name, 0.0)
        if spec is None or list(spec.labels) != list(entry["labels"]):
            continue
        if spec.margin_logit is not None:
            raise InputError(
                f"--calibration {path}: its rates for {name} were taken with the margin {margin:g} on probabilities; this run's is "
                f"margin_logit {spec.margin_logit:g}. Write `margin: {margin:g}` in place of it"
            )
        if spec.margin == margin:
            continue
        taken = "the most probable label always" if margin == 0 else "an image is ambiguous below it"
        raise InputError(
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
    for name, spec in attributes.attributes.items():
        if name in bound["margins"] and spec.stability != bool(bound.get("stability", {}).get(name)):
            found.append(f"stability of {name} ({'not asked for' if spec.stability else 'asked for'} there)")
    for key, words in (("margin_logit", "margin on the logit"), ("temperature", "temperature")):
        there = bound.get(key, {})
        for name, spec in attributes.attributes.items():
            one, other = there.get(name), getattr(spec, key)
            if one != other and name in bound["margins"]:
                found.append(f"{words} of {name} ({_or_none(one)} there, {_or_none(other)} here)")
    here = attributes.presence.threshold if attributes.presence else None
    there = bound.get("presence_threshold", here)
    return found if there == here else [*found, f"presence threshold ({there} there, {here} here)"]


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _refuse(path: Path, differences: Sequence[str]) -> None:
    if differences:
        raise InputError(
            f"--calibration {path}: made with another classifier or other margins, so its error rates do not hold for this run. Different: "
            f"{'; '.join(differences)}. Run `allfour calibrate` with this config"
        )


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    found = sorted(differing(there, here), key=lambda difference: difference[0])
    return [f"{key} ({str(old)[:16]} there, {str(new)[:16]} here)" for key, old, new in found]
