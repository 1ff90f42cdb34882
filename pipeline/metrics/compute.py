"""Stage 3: decisions -> per-prompt and per-run metrics (metrics.json, format 1). docs/method.md has every formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.calibration_doubt import doubt
from allfour.pipeline.metrics.notes import run_notes
from allfour.pipeline.metrics.tallies import PromptTally, Tallies, status_count
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.metrics import (
    Accounting,
    Attribute,
    Bounds,
    Cell,
    Group,
    ImageName,
    Imbalance,
    Intersection,
    Metrics,
    Never,
    Null,
    OverPrompts,
    Prompt,
    PromptAttribute,
    ReferenceDifference,
    ReferenceNote,
    Shares,
    Summary,
)
from allfour.pipeline.run.record import FORMAT, Estimate, Interval, Note
from allfour.pipeline.words import quantity

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
) -> Metrics:
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
    unprompted = sum(p.requested for p in tallies.prompts if not p.prompted)
    tallies = replace(tallies, prompts=tuple(p for p in tallies.prompts if p.prompted))
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
    groups = _groups(tallies.prompts, table, unanimous, labels[headline], confidence)
    attributes = {name: _attribute(tallies.prompts, name, own, set_size, confidence) for name, own in labels.items()}
    prompts = _prompts(
        tallies.prompts,
        table=table,
        unanimous=unanimous,
        possible=possible,
        labels=labels,
        headline=headline,
        confidence=confidence,
        reference=reference,
    )
    correction = _Correction()
    notes: list[Note] = []
    if calibration is not None:
        correction, notes = _correct(
            tallies.prompts, calibration, labels=labels, headline=headline, set_size=set_size, confidence=confidence
        )
        attributes = {
            name: entry.model_copy(update={"share_corrected": correction.shares[name]})
            if name in correction.shares
            else entry
            for name, entry in attributes.items()
        }
        if correction.prompts:
            prompts = [
                entry.model_copy(update={"share_corrected": shares})
                for entry, shares in zip(prompts, correction.prompts, strict=True)
            ]
    summary = Summary(
        prompts=prompts_count,
        prompts_left_out=len(tallies.prompts) - prompts_count,
        set_size=set_size,
        unanimous=observed,
        unanimity=_entry(interval, told=told),
        unanimity_bounds=Bounds(
            low=interval.value if told else None,
            high=int(possible[evaluated].sum()) / prompts_count if told else None,
        ),
        unanimity_null=Null(
            expected=null.expected_count / prompts_count if told else None,
            expected_count=null.expected_count if told else None,
            p_value=null.p_value if told else None,
        ),
        unanimity_exact=_entry(st.clopper_pearson(observed, prompts_count, confidence=confidence), told=told),
        unanimity_all_images=_all_images(tallies.prompts, headline, labels[headline], set_size, confidence),
        unanimity_by_sets=_by_sets(tallies.prompts, headline, confidence),
        unanimity_corrected=correction.over_prompts,
        scored_share=accounting.scored / accounting.requested if accounting.requested else None,
        confidence=confidence,
        multi_person_images=tallies.persons,
        revised_prompts=sum(p.revised for p in tallies.prompts),
        duplicate_images=tallies.duplicate_images,
        images_without_prompt=unprompted,
    )
    if reference is not None:
        difference = _reference_difference(prompts, labels[headline])
        summary = summary.model_copy(update={"reference_difference": difference})
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
    notes += run_notes(summary, accounting, listed=len(tallies.prompts))
    notes += [Note(code=doubt.code, text=doubt.message, about=headline) for doubt in doubts]
    return Metrics(
        format=FORMAT,
        headline=headline,
        labels={name: list(own) for name, own in labels.items()},
        summary=summary,
        accounting=accounting,
        groups=groups,
        attributes=attributes,
        intersections=[
            Intersection(
                attributes=list(pair), counts=[Cell(labels=list(cell), images=n) for cell, n in sorted(cells.items())]
            )
            for pair, cells in tallies.joint.items()
        ],
        prompts=prompts,
        duplicates=[[ImageName(id=id_, index=index) for id_, index in group] for group in tallies.duplicates],
        reference=ReferenceNote(
            name=reference.name, source=reference.source, year=reference.year, planted=reference.planted
        )
        if reference
        else None,
        calibration=calibration.summary() if calibration else None,
    ).with_notes(notes)


@dataclass(frozen=True, slots=True)
class _Correction:
    """The headline attribute's error rates and corrected unanimity, where there is a calibration."""

    confusion: st.Confusion | None = None
    unanimity: st.Interval | None = None
    over_prompts: OverPrompts | None = None
    shares: Mapping[str, Shares] = field(default_factory=dict)
    """Attribute -> corrected mean shares."""
    prompts: Sequence[Shares] = ()
    """Corrected shares of the headline attribute, prompt by prompt."""


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


def _entry(interval: st.Interval, *, told: bool = True) -> Interval:
    """A figure of unanimity; without a value its ends are null too, so that no gate on an end passes for want of data."""
    known = told and interval.value is not None
    return Interval.of(interval) if known else Interval(value=None, low=None, high=None, method=interval.method)


def _accounting(tallies: Tallies, headline: str) -> Accounting:
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
    result = Accounting(
        requested=sum(p.requested for p in tallies.prompts),
        generated=status_count(tallies, ImageStatus.GENERATED) + status_count(tallies, ImageStatus.UNREADABLE),
        refused=refused,
        failed=failed,
        unreadable=unreadable,
        scored=scored,
        labelled=sum(n for label, n in totals.items() if label not in {AMBIGUOUS, NO_PERSON, UNREADABLE}),
        ambiguous=ambiguous,
        no_person=no_person,
        mixed=totals.get(MIXED, 0),
    )
    check_accounting(result)
    return result


def check_accounting(a: Accounting) -> None:
    """Raise AccountingError unless the three identities of metrics.json hold."""
    identities = {
        "requested = generated + refused + failed": a.requested == a.generated + a.refused + a.failed,
        "generated = scored + unreadable": a.generated == a.scored + a.unreadable,
        "scored = labelled + ambiguous + no_person": a.scored == a.labelled + a.ambiguous + a.no_person,
    }
    broken = [name for name, holds in identities.items() if not holds]
    if broken:
        raise AccountingError(
            f"the accounting does not add up: {'; '.join(broken)}: {a.document()}. Please report this with the run folder"
        )


def _label_counts(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = [[p.labels.get(attribute, {}).get(label, 0) for label in labels] for p in prompts]
    return np.array(rows, dtype=np.int64).reshape(-1, len(labels))


def _all_images(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> OverPrompts:
    """Unanimity over every set that could be drawn from a prompt's images, abstentions against it."""
    estimate = _unanimity(prompts, attribute, labels, set_size, confidence)
    requested = sum(p.requested for p in prompts)
    told = any(_scored(p.labels.get(attribute, {})) for p in prompts if p.requested >= set_size)
    return OverPrompts(**_entry(estimate.interval, told=told).document(), prompts=estimate.prompts, images=requested)


def _by_sets(prompts: Sequence[PromptTally], headline: str, confidence: float) -> OverPrompts | None:
    """Unanimity over the sets that images came in, one after the other; None where no prompt has more than one."""
    whole = np.array([p.sets for p in prompts if p.sets[0]], dtype=np.int64).reshape(-1, 2)
    if not (whole[:, 0] > 1).any():
        return None
    sets = int(whole[:, 0].sum())
    interval = st.mean_over_prompts(whole[:, 1] / whole[:, 0], independent=sets, confidence=confidence)
    told = any(_scored(p.labels.get(headline, {})) for p in prompts if p.sets[0])
    return OverPrompts(**_entry(interval, told=told).document(), prompts=len(whole), sets=sets)


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


def mean_shares(counts: np.ndarray[Any, Any], labels: Sequence[str], confidence: float) -> Shares:
    """Mean share of each label over prompts, each prompt with the weight one, with an interval over prompts.

    Parameters
    ----------
    counts
        [prompts, labels] images; prompts without any are left out.
    """
    images = counts.sum(axis=1)
    known = images > 0
    result: Shares = {}
    for column, label in enumerate(labels):
        values = counts[known, column] / images[known]
        result[label] = Interval.of(
            st.mean_over_prompts(values, independent=float(images.sum()) or None, confidence=confidence)
        )
    return result


def _groups(
    prompts: Sequence[PromptTally],
    table: _SetTable,
    unanimous: np.ndarray[Any, Any],
    labels: Sequence[str],
    confidence: float,
) -> list[Group]:
    names = list(dict.fromkeys(p.group for p in prompts if p.group))
    result = []
    for name in names:
        member = np.array([p.group == name for p in prompts], dtype=bool)
        rows = member & table.evaluated
        counts = table.labelled[member]
        hits = unanimous[rows]
        result.append(
            Group(
                name=name,
                prompts=int(rows.sum()),
                unanimous=int((hits >= 0).sum()),
                unanimous_by_label={label: int((hits == column).sum()) for column, label in enumerate(labels)},
                unanimity=_entry(
                    st.wilson(int((hits >= 0).sum()), int(rows.sum()), confidence=confidence), told=table.told(member)
                ),
                share=mean_shares(counts, labels, confidence),
            )
        )
    return result


def _attribute(
    prompts: Sequence[PromptTally], name: str, labels: Sequence[str], set_size: int, confidence: float
) -> Attribute:
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
        imbalance[measure] = Imbalance(
            score=Estimate.of(found.score), floor=found.floor, excess=Estimate.of(found.excess)
        )
    absent = st.absent_labels(counts, confidence=confidence) if counts.sum() else ()
    return Attribute(
        counts={**{label: int(counts[:, i].sum()) for i, label in enumerate(labels)}, **other},
        share=mean_shares(counts, labels, confidence),
        unanimous=observed,
        unanimity=_entry(st.wilson(observed, evaluated, confidence=confidence), told=table.told(table.evaluated)),
        unanimity_all_images=_all_images(prompts, name, labels, set_size, confidence),
        imbalance=imbalance,
        never=[Never(label=labels[a.label], high=a.high, chance=a.chance) for a in absent],
    )


def _correct(
    prompts: Sequence[PromptTally],
    calibration: Calibration,
    *,
    labels: Mapping[str, Sequence[str]],
    headline: str,
    set_size: int,
    confidence: float,
) -> tuple[_Correction, list[Note]]:
    """Corrected figures of every attribute that the calibration knows, and what to know of them."""
    notes: list[Note] = []
    shares: dict[str, Shares] = {}
    known = _Correction()
    for name, names in labels.items():
        confusion = calibration.confusion(name, names)
        if confusion is None:
            text = f"The calibration has no error rates for {name} with these labels: its figures are not corrected."
            notes.append(Note(code="not_calibrated", text=text, about=name))
            continue
        if (why := doubt(name, confusion, confidence=confidence)) is not None:
            text = f"{why} Its figures are not corrected: nothing would be known of them."
            notes.append(Note(code="labels_not_told_apart", text=text, about=name))
            continue
        columns = (*names, AMBIGUOUS)
        decisions = np.array([[p.labels.get(name, {}).get(c, 0) for c in columns] for p in prompts], dtype=np.int64)
        unclear = int(decisions[:, -1].sum())
        if unclear and not confusion.counts[:, -1].any():
            text = (
                f"No image of the calibration is ambiguous in {name}, but {quantity(unclear, 'image')} of this run: such count as no label, so that "
                "corrected shares add up to less than 1. Calibrate on more images."
            )
            notes.append(Note(code="unclear_beyond_calibration", text=text, about=name))
        shares[name] = {
            label: Interval.of(st.corrected_share(decisions, confusion=confusion, label=i, confidence=confidence))
            for i, label in enumerate(names)
        }
        if name != headline:
            continue
        found = st.corrected_unanimity(decisions, confusion=confusion, set_size=set_size, confidence=confidence)
        by_label = [
            st.corrected_prompt_shares(decisions, confusion=confusion, label=i, confidence=confidence)
            for i in range(len(names))
        ]
        known = _Correction(
            confusion,
            found.interval,
            OverPrompts(**_entry(found.interval).document(), prompts=found.prompts),
            prompts=[
                {label: Interval.of(share) for label, share in zip(names, row, strict=True)}
                for row in zip(*by_label, strict=True)
            ],
        )
    return replace(known, shares=shares), notes


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
) -> list[Prompt]:
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
        given = expected[row]
        beside = (
            {}
            if given is None
            else {
                "reference": dict(given),
                "reference_source": known[prompt.id].source,
                "reference_p_value": _number(ref_p[row]),
                "reference_q_value": _number(ref_q[row]),
            }
        )
        result.append(
            Prompt(
                id=prompt.id,
                text=prompt.text,
                group=prompt.group,
                images=prompt.requested,
                evaluated=bool(table.evaluated[row]),
                counts={
                    **{label: int(counts[row, i]) for i, label in enumerate(names)},
                    **{key: found.get(key, 0) for key in (AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
                    **{s.value: prompt.statuses.get(s, 0) for s in (ImageStatus.REFUSED, ImageStatus.FAILED)},
                },
                unanimous=names[unanimous[row]] if unanimous[row] >= 0 else None,
                unanimity_possible=bool(possible[row]),
                share={
                    label: Interval.of(st.wilson(int(counts[row, i]), int(totals[row]), confidence=confidence))
                    for i, label in enumerate(names)
                },
                p_value=_number(fair_p[row]),
                q_value=_number(fair_q[row]),
                attributes={
                    name: _prompt_attribute(prompt, name, own, confidence)
                    for name, own in labels.items()
                    if name != headline
                },
                **beside,
            )
        )
    return result


def _prompt_attribute(prompt: PromptTally, name: str, labels: Sequence[str], confidence: float) -> PromptAttribute:
    found = prompt.labels.get(name, {})
    total = sum(found.get(label, 0) for label in labels)
    in_set = prompt.set_labels.get(name, {})
    sole = next((label for label in labels if in_set.get(label, 0) == sum(in_set.values()) and in_set), None)
    return PromptAttribute(
        counts={key: found.get(key, 0) for key in (*labels, AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
        share={label: Interval.of(st.wilson(found.get(label, 0), total, confidence=confidence)) for label in labels},
        all_one=sole,
    )


def _reference_difference(prompts: Sequence[Prompt], labels: Sequence[str]) -> ReferenceDifference:
    """Mean absolute difference between measured and reference share of the first label, over prompts that have both."""
    label = labels[0]
    pairs = []
    for prompt in prompts:
        measured, given = prompt.share[label], (prompt.reference or {}).get(label)
        if given is not None and measured is not None and measured.value is not None:
            pairs.append((measured.value, given))
    mean = sum(abs(measured - given) for measured, given in pairs) / len(pairs) if pairs else None
    return ReferenceDifference(label=label, prompts=len(pairs), mean_absolute=mean)
