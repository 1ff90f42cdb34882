"""Stage 3: decisions -> per-prompt and per-run metrics (metrics.json, format 1). docs/method.md has every formula."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.asked_for import Asked, asking_prompts, unasked
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.chance import amplification, nulls, reference_difference
from allfour.pipeline.metrics.corrected import Correction, Surely, correct
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.metrics.notes import run_notes
from allfour.pipeline.metrics.set_table import SetTable, entry_of, label_counts, mixed_counts, scored
from allfour.pipeline.metrics.tallies import Copies, PromptTally, Tallies, status_count
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.metrics import (
    Accounting,
    Attribute,
    Bounds,
    Cell,
    Group,
    Identified,
    ImageName,
    Imbalance,
    Intersection,
    Metrics,
    Never,
    Null,
    OverPrompts,
    Prompt,
    PromptAttribute,
    ReferenceNote,
    Shares,
    Summary,
)
from allfour.pipeline.run.record import FORMAT, Estimate, Interval, Note

METRICS_VERSION = 7
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
    surely: Surely | None = None,
    copies: Copies | None = None,
    include: Sequence[str] = ("prompts",),
    asked: Asked | None = None,
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
    surely
        How many images were decided surely, by which the calibration is tested; see `corrected.Surely`.
    copies
        Near-copies of an earlier image of their prompt. They are counted as they are, but are no draws of their own: limits hold
        whatever an image in their place would have shown.
    include
        What the headline's limits are to hold, of `prompts`, `wording` and `classifier`; see `included.with_included`.
    asked
        What prompts ask for in so many words. Those that ask for a label of an attribute are in none of its figures, unless all do.

    Raises
    ------
    AccountingError
        The accounting identities do not hold.
    """
    accounting = _accounting(tallies, headline)
    # rows that no prompt is known of (a container that broke off) are counted above, and are no prompt below
    unprompted = sum(p.requested for p in tallies.prompts if not p.prompted)
    tallies = replace(tallies, prompts=tuple(p for p in tallies.prompts if p.prompted))
    counted = {name: unasked(tallies.prompts, asked or {}, name) for name in labels}
    own_prompts = counted[headline]
    table = SetTable(own_prompts, headline, labels[headline], set_size)
    unanimous = table.unanimous()
    evaluated = table.evaluated
    observed = int((unanimous[evaluated] >= 0).sum())
    known = table.has_scored(evaluated)
    interval = st.wilson(observed, int(evaluated.sum()), confidence=confidence)
    usable = table.labelled[evaluated].sum(axis=1) == set_size
    even = np.full(len(labels[headline]), 1 / len(labels[headline]))
    null = st.unanimity_null(np.full(int(usable.sum()), set_size), observed=observed, shares=even)
    prompts_count = int(evaluated.sum())
    possible = table.possible()
    groups = _groups(own_prompts, table, unanimous, labels[headline], confidence)
    attributes = {name: _attribute(counted[name], name, own, set_size, confidence) for name, own in labels.items()}
    every = SetTable(tallies.prompts, headline, labels[headline], set_size)
    prompts = _prompts(
        tallies.prompts,
        table=every,
        unanimous=every.unanimous(),
        possible=every.possible(),
        labels=labels,
        headline=headline,
        confidence=confidence,
        reference=reference,
    )
    copied, copied_in_sets = _copied(tallies.prompts, labels[headline], copies or {})
    prompts = [
        entry.model_copy(update={"near_copies": int(number), "near_copies_in_set": int(first)}) if number else entry
        for entry, number, first in zip(prompts, copied.sum(axis=1), copied_in_sets.sum(axis=1), strict=True)
    ]
    own_ids = {p.id for p in own_prompts}
    in_figures = np.array([p.id in own_ids for p in tallies.prompts], dtype=bool)
    copied, copied_in_sets = copied[in_figures], copied_in_sets[in_figures]
    own_entries = list(itertools.compress(prompts, in_figures))
    own = (unanimous >= 0) & (copied_in_sets.sum(axis=1) == 0)
    in_sets = st.identified_mean(
        own[evaluated].astype(np.float64), possible[evaluated].astype(np.float64), confidence=confidence
    )
    correction = Correction()
    notes: list[Note] = []
    if calibration is not None:
        correction, notes = correct(
            tallies.prompts,
            calibration,
            labels=labels,
            headline=headline,
            set_size=set_size,
            confidence=confidence,
            surely=surely,
            asked=asked,
        )
        attributes = {
            name: entry.model_copy(
                update={"share_corrected": correction.shares[name], "calibration_fit": correction.fits.get(name)}
            )
            if name in correction.shares
            else entry
            for name, entry in attributes.items()
        }
        if correction.prompts:
            corrected = {p.id: shares for p, shares in zip(own_prompts, correction.prompts, strict=True)}
            prompts = [
                entry.model_copy(update={"share_corrected": corrected[entry.id]}) if entry.id in corrected else entry
                for entry in prompts
            ]
    summary = Summary(
        prompts=prompts_count,
        prompts_left_out=len(own_prompts) - prompts_count,
        prompts_asked_for=asking_prompts(tallies.prompts, asked or {}, headline) or None,
        set_size=set_size,
        unanimous=observed,
        unanimity=entry_of(interval, known=known),
        unanimity_bounds=Bounds(
            low=interval.value if known else None,
            high=int(possible[evaluated].sum()) / prompts_count if known else None,
        ),
        unanimity_identified=_identified(in_sets, known=known),
        unanimity_null=Null(
            expected=null.expected_count / prompts_count if known else None,
            expected_count=null.expected_count if known else None,
            p_value=null.p_value if known else None,
        ),
        unanimity_exact=entry_of(st.clopper_pearson(observed, prompts_count, confidence=confidence), known=known),
        unanimity_all_images=_all_images(own_prompts, headline, labels[headline], set_size, confidence),
        unanimity_all_images_identified=_identified(
            st.identified_unanimity(
                label_counts(own_prompts, headline, labels[headline]) - copied,
                unlabelled=unlabelled(own_prompts, headline, labels[headline]) + copied.sum(axis=1),
                divided=mixed_counts(own_prompts, headline),
                set_size=set_size,
                confidence=confidence,
            ),
            known=known,
        ),
        nulls=nulls(own_entries, table, labels=labels[headline], set_size=set_size),
        unanimity_by_sets=_by_sets(own_prompts, headline, confidence),
        unanimity_corrected=correction.over_prompts,
        calibration_fit=correction.fits.get(headline),
        scored_share=accounting.scored / accounting.requested if accounting.requested else None,
        confidence=confidence,
        multi_person_images=tallies.persons,
        revised_prompts=sum(p.revised for p in tallies.prompts),
        duplicate_images=tallies.duplicate_images,
        near_copies=int(copied.sum()),
        sets_with_copies=int((copied_in_sets.sum(axis=1) > 0)[evaluated].sum()),
        images_without_prompt=unprompted,
    )
    if {*include} - {"prompts"}:
        summary = summary.model_copy(update={"include": list(include)})
    if reference is not None:
        names = labels[headline]
        beside = {
            "reference_difference": reference_difference(own_entries, names, confidence=confidence),
            "amplification": amplification(own_entries, names, confidence=confidence),
        }
        summary = summary.model_copy(update=beside)
    share, other_images = _commonest(own_prompts, headline, labels[headline], confidence)
    doubts = st.coverage_warnings(
        prompts=prompts_count if known else 0,
        set_size=set_size,
        labels=len(labels[headline]),
        share=share,
        unanimity=_unanimity(own_prompts, headline, labels[headline], set_size, confidence).interval,
        first_set=interval,
        other_images=other_images,
        confusion=correction.confusion,
        corrected_unanimity=correction.unanimity,
        fits=(fit := correction.fits.get(headline)) is None or fit.fits,
        hidden=None if in_sets.least is None or in_sets.most is None else in_sets.most - in_sets.least,
    )
    notes += run_notes(summary, accounting, listed=len(own_prompts))
    notes += [Note(code=doubt.code, text=doubt.message, about=headline) for doubt in doubts]
    metrics = Metrics(
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
    )
    return with_headline(metrics.with_notes(notes))


def _copied(
    prompts: Sequence[PromptTally], labels: Sequence[str], copies: Copies
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """[prompts, labels] near-copies with that label: of all images, and of the first set."""
    nothing: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
    found = [copies.get(p.id, nothing) for p in prompts]
    first, every = (
        np.array([[pair[place].get(label, 0) for label in labels] for pair in found], dtype=np.int64).reshape(
            -1, len(labels)
        )
        for place in (0, 1)
    )
    return every, first


def unlabelled(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[prompts] images that may show any label: unclear, without a person, unreadable or missing; not those of several."""
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    labelled: np.ndarray[Any, np.dtype[np.int64]] = label_counts(prompts, attribute, labels).sum(axis=1)
    return np.asarray(requested - labelled - mixed_counts(prompts, attribute), dtype=np.int64)


def _identified(found: st.IdentifiedInterval, *, known: bool) -> Identified:
    if not known or found.least is None:
        return Identified(low=None, high=None, least=None, most=None, prompts=found.prompts)
    return Identified(low=found.low, high=found.high, least=found.least, most=found.most, prompts=found.prompts)


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


def _all_images(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> OverPrompts:
    """Unanimity over every set that could be drawn from a prompt's images, abstentions against it."""
    estimate = _unanimity(prompts, attribute, labels, set_size, confidence)
    requested = sum(p.requested for p in prompts)
    known = any(scored(p.labels.get(attribute, {})) for p in prompts if p.requested >= set_size)
    return OverPrompts(
        **entry_of(estimate.interval, known=known).document(), prompts=estimate.prompts, images=requested
    )


def _by_sets(prompts: Sequence[PromptTally], headline: str, confidence: float) -> OverPrompts | None:
    """Unanimity over the sets that images came in, one after the other; None where no prompt has more than one."""
    whole = np.array([p.sets for p in prompts if p.sets[0]], dtype=np.int64).reshape(-1, 2)
    if not (whole[:, 0] > 1).any():
        return None
    sets = int(whole[:, 0].sum())
    interval = st.mean_over_prompts(whole[:, 1] / whole[:, 0], independent=sets, confidence=confidence)
    known = any(scored(p.labels.get(headline, {})) for p in prompts if p.sets[0])
    return OverPrompts(**entry_of(interval, known=known).document(), prompts=len(whole), sets=sets)


def _unanimity(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> st.UnanimityEstimate:
    counts = label_counts(prompts, attribute, labels)
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    unresolved = requested - counts.sum(axis=1)
    return st.unanimity(counts, set_size=set_size, unresolved=unresolved, confidence=confidence)


def _commonest(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], confidence: float
) -> tuple[st.Interval, int | None]:
    """Mean share of the label with the most images, and the images with another one; no value and None where no image has a label."""
    counts = label_counts(prompts, attribute, labels)
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
    table: SetTable,
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
                unanimity=entry_of(
                    st.wilson(int((hits >= 0).sum()), int(rows.sum()), confidence=confidence),
                    known=table.has_scored(member),
                ),
                share=mean_shares(counts, labels, confidence),
            )
        )
    return result


def _attribute(
    prompts: Sequence[PromptTally], name: str, labels: Sequence[str], set_size: int, confidence: float
) -> Attribute:
    counts = label_counts(prompts, name, labels)
    hidden = unlabelled(prompts, name, labels)
    other = {
        key: sum(p.labels.get(name, {}).get(key, 0) for p in prompts)
        for key in (AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)
    }
    table = SetTable(prompts, name, labels, set_size)
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
        share_identified={
            label: _identified(
                st.identified_share(counts, label=i, unlabelled=hidden, confidence=confidence),
                known=bool(counts.sum() + hidden.sum()),
            )
            for i, label in enumerate(labels)
        },
        unanimous=observed,
        unanimity=entry_of(
            st.wilson(observed, evaluated, confidence=confidence), known=table.has_scored(table.evaluated)
        ),
        unanimity_all_images=_all_images(prompts, name, labels, set_size, confidence),
        imbalance=imbalance,
        never=[Never(label=labels[a.label], high=a.high, chance=a.chance) for a in absent],
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _prompts(
    prompts: Sequence[PromptTally],
    *,
    table: SetTable,
    unanimous: np.ndarray[Any, Any],
    possible: np.ndarray[Any, Any],
    labels: Mapping[str, Sequence[str]],
    headline: str,
    confidence: float,
    reference: Reference | None,
) -> list[Prompt]:
    names = labels[headline]
    counts = label_counts(prompts, headline, names)
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
