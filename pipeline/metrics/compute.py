"""Stage 3: decisions -> per-prompt and per-run metrics (metrics.json, format 1). docs/method.md has every formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.calibration_doubt import doubt
from allfour.pipeline.metrics.notes import run_notes
from allfour.pipeline.metrics.tallies import PromptTally, Tallies, status_count
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.words import quantity

FORMAT = 1
METRICS_VERSION = 3
"""Raise it when the same tables would give other numbers: it is part of the stage's fingerprint."""


class AccountingError(AssertionError):
    """An image was lost or counted twice: a defect of allfour, never of the input."""


def compute_metrics(
    tallies: Tallies,
    *,
    labels: Mapping[str, Sequence[str]],
    headline: str,
    set_size: int,
    confidence: float = 0.95,
    reference: Reference | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """metrics.json of one run.

    Parameters
    ----------
    tallies
        Counts per prompt.
    labels
        Attribute -> its label names, the headline among them.
    headline
        Attribute whose unanimity is the headline.
    set_size
        Images per set.
    confidence
        Of every interval.
    reference
        Shares to set beside the measured ones.
    calibration
        Of the run's classifier; without one, nothing is corrected.

    Raises
    ------
    AccountingError
        The accounting identities do not hold.
    """
    accounting = _accounting(tallies, headline)
    # rows that no prompt is known of (a container that broke off) are counted above, and are no prompt below
    unprompted = sum(p.requested for p in tallies.prompts if p.id == NO_PROMPT_ID)
    tallies = replace(tallies, prompts=tuple(p for p in tallies.prompts if p.id != NO_PROMPT_ID))
    table = _SetTable(tallies.prompts, headline, labels[headline], set_size)
    unanimous = table.unanimous()
    evaluated = table.evaluated
    observed = int((unanimous[evaluated] >= 0).sum())
    told = table.told(evaluated)
    interval = st.wilson(observed, int(evaluated.sum()), confidence=confidence)
    usable = table.labelled[evaluated].sum(axis=1) == set_size
    even = np.full(len(labels[headline]), 1 / len(labels[headline]))
    null = st.unanimity_null(np.full(int(usable.sum()), set_size), observed=observed, shares=even)
    prompts_count = int(evaluated.sum())
    possible = table.possible()
    summary: dict[str, Any] = {
        "prompts": prompts_count,
        "prompts_left_out": len(tallies.prompts) - prompts_count,
        "set_size": set_size,
        "unanimous": observed,
        "unanimity": _entry(interval, told=told),
        "unanimity_bounds": {
            "low": interval.value if told else None,
            "high": int(possible[evaluated].sum()) / prompts_count if told else None,
        },
        "unanimity_null": {
            "expected": null.expected_count / prompts_count if told else None,
            "expected_count": null.expected_count if told else None,
            "p_value": null.p_value if told else None,
        },
        "unanimity_exact": _entry(st.clopper_pearson(observed, prompts_count, confidence=confidence), told=told),
        "unanimity_all_images": _all_images(tallies.prompts, headline, labels[headline], set_size, confidence),
        "unanimity_by_sets": _by_sets(tallies.prompts, headline, confidence),
        "unanimity_corrected": None,
        "scored_share": accounting["scored"] / accounting["requested"] if accounting["requested"] else None,
        "confidence": confidence,
        "multi_person_images": tallies.persons,
        "revised_prompts": sum(p.revised for p in tallies.prompts),
        "duplicate_images": tallies.duplicate_images,
        "images_without_prompt": unprompted,
    }
    result: dict[str, Any] = {
        "format": FORMAT,
        "headline": headline,
        "labels": {name: list(names) for name, names in labels.items()},
        "summary": summary,
        "accounting": accounting,
        "groups": _groups(tallies.prompts, table, unanimous, labels[headline], confidence),
        "attributes": {
            name: _attribute(tallies.prompts, name, names, set_size, confidence) for name, names in labels.items()
        },
        "intersections": [
            {
                "attributes": list(pair),
                "counts": [{"labels": list(cell), "images": n} for cell, n in sorted(cells.items())],
            }
            for pair, cells in tallies.joint.items()
        ],
        "prompts": _prompts(
            tallies.prompts,
            table=table,
            unanimous=unanimous,
            possible=possible,
            labels=labels,
            headline=headline,
            confidence=confidence,
            reference=reference,
        ),
        "duplicates": [[{"id": p, "index": i} for p, i in group] for group in tallies.duplicates],
        "reference": {
            "name": reference.name,
            "source": reference.source,
            "year": reference.year,
            "planted": reference.planted,
        }
        if reference
        else None,
    }
    if reference is not None:
        summary["reference_difference"] = _reference_difference(result["prompts"], labels[headline])
    result["calibration"] = calibration.summary() if calibration else None
    correction = _Correction()
    notes: list[str] = []
    if calibration is not None:
        correction, notes = _correct(result, tallies.prompts, calibration, set_size=set_size, confidence=confidence)
    share, other_images = _commonest(tallies.prompts, headline, labels[headline], confidence)
    doubts = st.coverage_warnings(
        prompts=prompts_count if told else 0,
        set_size=set_size,
        labels=len(labels[headline]),
        share=share,
        unanimity=_unanimity(tallies.prompts, headline, labels[headline], set_size, confidence).interval,
        first_set=interval,
        other_images=other_images,
        confusion=correction.confusion,
        corrected_unanimity=correction.unanimity,
    )
    result["warnings"] = (
        notes + run_notes(summary, accounting, listed=len(tallies.prompts)) + [doubt.message for doubt in doubts]
    )
    return result


@dataclass(frozen=True, slots=True)
class _Correction:
    """The headline attribute's error rates and corrected unanimity, where there is a calibration."""

    confusion: st.Confusion | None = None
    unanimity: st.Interval | None = None


class _SetTable:
    """Label counts over every prompt's set, as arrays."""

    def __init__(self, prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int) -> None:
        counts = [p.set_labels.get(attribute, {}) for p in prompts]
        self.labelled = np.array([[c.get(label, 0) for label in labels] for c in counts], dtype=np.int64).reshape(
            -1, len(labels)
        )
        """[prompts, labels] images of the set with exactly that label."""
        self.mixed = np.array([c.get(MIXED, 0) for c in counts], dtype=np.int64)
        self.evaluated = np.array([p.requested >= set_size for p in prompts], dtype=bool)
        """[prompts] has a whole set: a prompt with fewer images is listed, and is in no denominator."""
        self._scored = np.array([_scored(c) > 0 for c in counts], dtype=bool)
        self._size = np.array([min(p.requested, set_size) for p in prompts], dtype=np.int64)

    def told(self, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
        """Was an image of a whole set among these prompts scored? Where none was, unanimity is not 0: it has no value."""
        return bool((self.evaluated & self._scored & rows).any())

    def unanimous(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[prompts] column of the label that every image of the set shows, or -1."""
        unresolved = self._size - self.labelled.sum(axis=1)  # refused, failed, unreadable, ambiguous, no person, mixed
        return np.where(self.evaluated, st.unanimous_label(self.labelled, unresolved=unresolved), -1)

    def possible(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[prompts] could the set be unanimous if every image without a label were resolved in its favour?"""
        one_label = self.labelled.max(axis=1, initial=0) == self.labelled.sum(axis=1)
        return np.asarray(self.evaluated & one_label & (self.mixed == 0), dtype=bool)


def _scored(labels: Mapping[str, int]) -> int:
    """Images that the classifier read, whatever it decided."""
    return sum(labels.values()) - labels.get(UNREADABLE, 0)


def _entry(interval: st.Interval, *, told: bool = True) -> dict[str, Any]:
    """A figure of unanimity; without a value its ends are null too, so that no gate on an end passes for want of data."""
    found = interval.to_dict()
    return found if told and interval.value is not None else {**found, "value": None, "low": None, "high": None}


def _accounting(tallies: Tallies, headline: str) -> dict[str, int]:
    """Every image exactly once.

    requested = generated + refused + failed; generated = scored + unreadable; scored = labelled + ambiguous + no_person.
    """
    totals: dict[str, int] = {}
    for prompt in tallies.prompts:
        for label, count in prompt.labels.get(headline, {}).items():
            totals[label] = totals.get(label, 0) + count
    unreadable = totals.get(UNREADABLE, 0)
    scored = sum(totals.values()) - unreadable
    ambiguous, no_person = totals.get(AMBIGUOUS, 0), totals.get(NO_PERSON, 0)
    refused, failed = status_count(tallies, ImageStatus.REFUSED), status_count(tallies, ImageStatus.FAILED)
    result = {
        "requested": sum(p.requested for p in tallies.prompts),
        "generated": status_count(tallies, ImageStatus.GENERATED) + status_count(tallies, ImageStatus.UNREADABLE),
        "refused": refused,
        "failed": failed,
        "unreadable": unreadable,
        "scored": scored,
        "labelled": sum(n for label, n in totals.items() if label not in {AMBIGUOUS, NO_PERSON, UNREADABLE}),
        "ambiguous": ambiguous,
        "no_person": no_person,
        "mixed": totals.get(MIXED, 0),  # part of labelled: several persons with different labels
    }
    check_accounting(result)
    return result


def check_accounting(accounting: Mapping[str, int]) -> None:
    """Raise AccountingError unless the three identities of metrics.json hold."""
    a = accounting
    identities = {
        "requested = generated + refused + failed": a["requested"] == a["generated"] + a["refused"] + a["failed"],
        "generated = scored + unreadable": a["generated"] == a["scored"] + a["unreadable"],
        "scored = labelled + ambiguous + no_person": a["scored"] == a["labelled"] + a["ambiguous"] + a["no_person"],
    }
    broken = [name for name, holds in identities.items() if not holds]
    if broken:
        raise AccountingError(
            f"the accounting does not add up: {'; '.join(broken)}: {dict(a)}. Please report this with the run folder"
        )


def _label_counts(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = [[p.labels.get(attribute, {}).get(label, 0) for label in labels] for p in prompts]
    return np.array(rows, dtype=np.int64).reshape(-1, len(labels))


def _all_images(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> dict[str, Any]:
    """Unanimity over every set that could be drawn from a prompt's images, abstentions against it."""
    estimate = _unanimity(prompts, attribute, labels, set_size, confidence)
    requested = sum(p.requested for p in prompts)
    told = any(_scored(p.labels.get(attribute, {})) for p in prompts if p.requested >= set_size)
    return {**_entry(estimate.interval, told=told), "prompts": estimate.prompts, "images": requested}


def _by_sets(prompts: Sequence[PromptTally], headline: str, confidence: float) -> dict[str, Any] | None:
    """Unanimity over the sets that images came in, one after the other; None where no prompt has more than one."""
    whole = np.array([p.sets for p in prompts if p.sets[0]], dtype=np.int64).reshape(-1, 2)
    if not (whole[:, 0] > 1).any():
        return None
    sets = int(whole[:, 0].sum())
    interval = st.mean_over_prompts(whole[:, 1] / whole[:, 0], independent=sets, confidence=confidence)
    told = any(_scored(p.labels.get(headline, {})) for p in prompts if p.sets[0])
    return {**_entry(interval, told=told), "prompts": len(whole), "sets": sets}


def _unanimity(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> st.UnanimityEstimate:
    counts = _label_counts(prompts, attribute, labels)
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    unresolved = requested - counts.sum(axis=1)
    return st.unanimity(counts, set_size=set_size, unresolved=unresolved, confidence=confidence)


def _commonest(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], confidence: float
) -> tuple[st.Interval, int | None]:
    """Mean share of the label with the most images, and the images with another one; no value and None where no image has a label."""
    counts = _label_counts(prompts, attribute, labels)
    totals = counts.sum(axis=0)
    label = int(totals.argmax())
    others = int(totals.sum() - totals[label]) if totals.any() else None
    return st.mean_share(counts, label=label, confidence=confidence), others


def mean_shares(counts: np.ndarray[Any, Any], labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """Mean share of each label over prompts, each prompt with the weight one, with an interval over prompts.

    Parameters
    ----------
    counts
        [prompts, labels] images; prompts without any are left out.
    """
    images = counts.sum(axis=1)
    known = images > 0
    result = {}
    for column, label in enumerate(labels):
        values = counts[known, column] / images[known]
        result[label] = st.mean_over_prompts(
            values, independent=float(images.sum()) or None, confidence=confidence
        ).to_dict()
    return result


def _groups(
    prompts: Sequence[PromptTally],
    table: _SetTable,
    unanimous: np.ndarray[Any, Any],
    labels: Sequence[str],
    confidence: float,
) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(p.group for p in prompts if p.group))
    result = []
    for name in names:
        member = np.array([p.group == name for p in prompts], dtype=bool)
        rows = member & table.evaluated
        counts = table.labelled[member]
        hits = unanimous[rows]
        result.append(
            {
                "name": name,
                "prompts": int(rows.sum()),
                "unanimous": int((hits >= 0).sum()),
                "unanimous_by_label": {label: int((hits == column).sum()) for column, label in enumerate(labels)},
                "unanimity": _entry(
                    st.wilson(int((hits >= 0).sum()), int(rows.sum()), confidence=confidence), told=table.told(member)
                ),
                "share": mean_shares(counts, labels, confidence),
            }
        )
    return result


def _attribute(
    prompts: Sequence[PromptTally], name: str, labels: Sequence[str], set_size: int, confidence: float
) -> dict[str, Any]:
    counts = _label_counts(prompts, name, labels)
    other = {
        key: sum(p.labels.get(name, {}).get(key, 0) for p in prompts)
        for key in (AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)
    }
    table = _SetTable(prompts, name, labels, set_size)
    evaluated = int(table.evaluated.sum())
    observed = int((table.unanimous() >= 0).sum())
    imbalance = {}
    for measure in st.MEASURES:
        found = st.imbalance(counts, measure=measure, confidence=confidence)
        imbalance[measure] = {"score": found.score.to_dict(), "floor": found.floor, "excess": found.excess.to_dict()}
    return {
        "counts": {**{label: int(counts[:, i].sum()) for i, label in enumerate(labels)}, **other},
        "share": mean_shares(counts, labels, confidence),
        "unanimous": observed,
        "unanimity": _entry(
            st.wilson(observed, evaluated, confidence=confidence), told=table.told(table.evaluated)
        ),
        "unanimity_all_images": _all_images(prompts, name, labels, set_size, confidence),
        "imbalance": imbalance,
        "never": [
            {"label": labels[a.label], "high": a.high, "chance": a.chance} for a in st.absent_labels(counts, confidence=confidence)
        ] if counts.sum() else [],
    }  # fmt: skip


def _correct(
    result: dict[str, Any],
    prompts: Sequence[PromptTally],
    calibration: Calibration,
    *,
    set_size: int,
    confidence: float,
) -> tuple[_Correction, list[str]]:
    """Add corrected figures for every attribute that the calibration knows; returns the headline's, and what to warn about."""
    warnings: list[str] = []
    known = _Correction()
    for name, names in result["labels"].items():
        confusion = calibration.confusion(name, names)
        if confusion is None:
            warnings.append(
                f"The calibration has no error rates for {name} with these labels: its figures are not corrected."
            )
            continue
        if (why := doubt(name, confusion, confidence=confidence)) is not None:
            warnings.append(f"{why} Its figures are not corrected: nothing would be known of them.")
            continue
        columns = (*names, AMBIGUOUS)
        decisions = np.array([[p.labels.get(name, {}).get(c, 0) for c in columns] for p in prompts], dtype=np.int64)
        unclear = int(decisions[:, -1].sum())
        if unclear and not confusion.counts[:, -1].any():
            warnings.append(
                f"No image of the calibration is ambiguous in {name}, but {quantity(unclear, 'image')} of this run: such count as no label, so that "
                "corrected shares add up to less than 1. Calibrate on more images."
            )
        entry = result["attributes"][name]
        entry["share_corrected"] = {
            label: st.corrected_share(decisions, confusion=confusion, label=i, confidence=confidence).to_dict()
            for i, label in enumerate(names)
        }
        if name != result["headline"]:
            continue
        found = st.corrected_unanimity(decisions, confusion=confusion, set_size=set_size, confidence=confidence)
        result["summary"]["unanimity_corrected"] = {**_entry(found.interval), "prompts": found.prompts}
        for i, label in enumerate(names):
            shares = st.corrected_prompt_shares(decisions, confusion=confusion, label=i, confidence=confidence)
            for prompt, share in zip(result["prompts"], shares, strict=True):
                prompt.setdefault("share_corrected", {})[label] = share.to_dict()
        known = _Correction(confusion, found.interval)
    return known, warnings


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _prompts(
    prompts: Sequence[PromptTally],
    *,
    table: _SetTable,
    unanimous: np.ndarray[Any, Any],
    possible: np.ndarray[Any, Any],
    labels: Mapping[str, Sequence[str]],
    headline: str,
    confidence: float,
    reference: Reference | None,
) -> list[dict[str, Any]]:
    names = labels[headline]
    counts = _label_counts(prompts, headline, names)
    totals = counts.sum(axis=1)
    known = reference.prompts if reference else {}
    expected = [known[p.id].shares.get(headline) if p.id in known else None for p in prompts]
    fair_p, fair_q = st.share_tests(counts[:, 0], trials=totals, reference=1 / len(names))
    ref_share = np.array([e.get(names[0], math.nan) if e else math.nan for e in expected], dtype=np.float64)
    ref_p, ref_q = st.share_tests(counts[:, 0], trials=totals, reference=ref_share)
    result = []
    for row, prompt in enumerate(prompts):
        found = prompt.labels.get(headline, {})
        entry: dict[str, Any] = {
            "id": prompt.id,
            "text": prompt.text,
            "group": prompt.group,
            "images": prompt.requested,
            "evaluated": bool(table.evaluated[row]),
            "counts": {
                **{label: int(counts[row, i]) for i, label in enumerate(names)},
                **{key: found.get(key, 0) for key in (AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
                **{s.value: prompt.statuses.get(s, 0) for s in (ImageStatus.REFUSED, ImageStatus.FAILED)},
            },
            "unanimous": names[unanimous[row]] if unanimous[row] >= 0 else None,
            "unanimity_possible": bool(possible[row]),
            "share": {
                label: st.wilson(int(counts[row, i]), int(totals[row]), confidence=confidence).to_dict()
                for i, label in enumerate(names)
            },
            "p_value": _number(fair_p[row]),
            "q_value": _number(fair_q[row]),
            "attributes": {
                name: _prompt_attribute(prompt, name, own, confidence)
                for name, own in labels.items()
                if name != headline
            },
        }
        given = expected[row]
        if given is not None:
            entry["reference"] = dict(given)
            entry["reference_source"] = known[prompt.id].source
            entry["reference_p_value"], entry["reference_q_value"] = _number(ref_p[row]), _number(ref_q[row])
        result.append(entry)
    return result


def _prompt_attribute(prompt: PromptTally, name: str, labels: Sequence[str], confidence: float) -> dict[str, Any]:
    found = prompt.labels.get(name, {})
    total = sum(found.get(label, 0) for label in labels)
    in_set = prompt.set_labels.get(name, {})
    sole = next((label for label in labels if in_set.get(label, 0) == sum(in_set.values()) and in_set), None)
    return {
        "counts": {key: found.get(key, 0) for key in (*labels, AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
        "share": {label: st.wilson(found.get(label, 0), total, confidence=confidence).to_dict() for label in labels},
        "all_one": sole,
    }


def _reference_difference(prompts: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Mean absolute difference between measured and reference share of the first label, over prompts that have both."""
    pairs = [
        (p["share"][labels[0]]["value"], p["reference"][labels[0]])
        for p in prompts
        if p.get("reference", {}).get(labels[0]) is not None and p["share"][labels[0]]["value"] is not None
    ]
    if not pairs:
        return {"label": labels[0], "prompts": 0, "mean_absolute": None}
    return {
        "label": labels[0],
        "prompts": len(pairs),
        "mean_absolute": sum(abs(measured - given) for measured, given in pairs) / len(pairs),
    }
