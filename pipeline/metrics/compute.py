"""Stage 3: decisions -> per-prompt and per-run metrics (metrics.json, format 1). docs/method.md has every formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.accounting import accounting_of
from allfour.pipeline.metrics.asked_for import Asked, asking_prompts, unasked
from allfour.pipeline.metrics.breakdowns import attribute_of, commonest, groups_of
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.chance import amplification, nulls, reference_difference
from allfour.pipeline.metrics.corrected import Correction, Surely, correct
from allfour.pipeline.metrics.error_spread import Labelled
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.metrics.headline_sets import HeadlineSets
from allfour.pipeline.metrics.notes import run_notes
from allfour.pipeline.metrics.prompt_entries import prompt_entries
from allfour.pipeline.metrics.tallies import Copies, Tallies
from allfour.pipeline.run.metrics import (
    Attribute,
    Cell,
    ImageName,
    Intersection,
    Metrics,
    Prompt,
    ReferenceNote,
    Summary,
)
from allfour.pipeline.run.record import FORMAT, Note

METRICS_VERSION = 19
"""Raise it when the same tables would give other numbers: it is part of the stage's fingerprint."""


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
    nearly_shared: int = 0,
    include: Sequence[str] = ("prompts",),
    asked: Asked | None = None,
    labelled: Labelled | None = None,
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
    nearly_shared
        Images that are nearly the same as ones of several other prompts; see `near_copies`.
    include
        What the headline's limits are to hold, of `prompts`, `wording` and `classifier`; see `included.with_included`.
    asked
        What prompts ask for in so many words. Those that ask for a label of an attribute are in none of its figures, unless all do.
    labelled
        Images that people labelled, by prompt: with a calibration they tell how much its errors differ from prompt to prompt.

    Raises
    ------
    AccountingError
        The accounting identities do not hold.
    """
    accounting = accounting_of(tallies, headline)
    # rows that no prompt is known of (a container that broke off) are counted above, and are no prompt below
    unprompted = sum(p.requested for p in tallies.prompts if not p.prompted)
    tallies = replace(tallies, prompts=tuple(p for p in tallies.prompts if p.prompted))
    asked, copies, names = asked or {}, copies or {}, labels[headline]
    counted = {name: unasked(tallies.prompts, asked, name) for name in labels}
    sets = HeadlineSets(
        counted[headline], attribute=headline, labels=names, set_size=set_size, confidence=confidence, copies=copies
    )
    attributes = {name: attribute_of(counted[name], name, own, set_size, confidence) for name, own in labels.items()}
    prompts = prompt_entries(
        tallies.prompts,
        labels=labels,
        headline=headline,
        set_size=set_size,
        confidence=confidence,
        reference=reference,
        copies=copies,
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
            labelled=labelled,
        )
        attributes = _with_corrected_shares(attributes, correction)
        prompts = _with_corrected_prompts(prompts, [p.id for p in sets.prompts], correction)
    own = {p.id for p in sets.prompts}
    own_entries = [entry for entry in prompts if entry.id in own]
    summary = Summary(
        **sets.figures(),
        prompts_asked_for=asking_prompts(tallies.prompts, asked, headline) or None,
        nulls=nulls(own_entries, sets.table, labels=names, set_size=set_size),
        unanimity_corrected=correction.over_prompts,
        calibration_fit=correction.fits.get(headline),
        scored_share=accounting.scored / accounting.requested if accounting.requested else None,
        multi_person_images=tallies.persons,
        revised_prompts=sum(p.revised for p in tallies.prompts),
        duplicate_images=tallies.duplicate_images,
        shared_images=tallies.shared_images,
        nearly_shared_images=nearly_shared,
        images_without_prompt=unprompted,
        **_beside_reference(own_entries, names, confidence=confidence) if reference is not None else {},
        **{"include": list(include)} if {*include} - {"prompts"} else {},
    )
    notes += run_notes(summary, accounting, listed=len(sets.prompts))
    notes += [Note(code=doubt.code, text=doubt.message, about=headline) for doubt in _doubts(sets, correction)]
    metrics = Metrics(
        format=FORMAT,
        headline=headline,
        labels={name: list(own) for name, own in labels.items()},
        summary=summary,
        accounting=accounting,
        groups=groups_of(
            sets.prompts, sets.table, sets.unanimous, attribute=headline, labels=names, confidence=confidence
        ),
        attributes=attributes,
        intersections=_intersections(tallies),
        prompts=prompts,
        duplicates=[[ImageName(id=id_, index=index) for id_, index in group] for group in tallies.duplicates],
        reference=None if reference is None else _reference_note(reference),
        calibration=calibration.summary() if calibration else None,
    )
    return with_headline(metrics.with_notes(notes))


def _doubts(sets: HeadlineSets, correction: Correction) -> list[st.CoverageWarning]:
    """Where the intervals of the headline may cover less often than stated."""
    share, other_images = commonest(sets.prompts, sets.attribute, sets.labels, sets.confidence)
    corrected, fit = correction.over_prompts, correction.fits.get(sets.attribute)
    return st.coverage_warnings(
        prompts=sets.count if sets.known else 0,
        set_size=sets.set_size,
        labels=len(sets.labels),
        share=share,
        unanimity=sets.estimate.seen,
        first_set=sets.interval,
        other_images=other_images,
        confusion=correction.confusion,
        corrected_unanimity=correction.unanimity,
        corrected_prompts=None if corrected is None or corrected.value is None else corrected.prompts,
        fits=fit is None or fit.fits,
        hidden=sets.hidden,
    )


def _beside_reference(prompts: Sequence[Prompt], labels: Sequence[str], *, confidence: float) -> dict[str, Any]:
    return {
        "reference_difference": reference_difference(prompts, labels, confidence=confidence),
        "amplification": amplification(prompts, labels, confidence=confidence),
    }


def _reference_note(reference: Reference) -> ReferenceNote:
    return ReferenceNote(name=reference.name, source=reference.source, year=reference.year, planted=reference.planted)


def _intersections(tallies: Tallies) -> list[Intersection]:
    return [
        Intersection(
            attributes=list(attributes),
            counts=[Cell(labels=list(cell), images=n) for cell, n in sorted(cells.items())],
        )
        for attributes, cells in tallies.joint.items()
    ]


def _with_corrected_shares(attributes: Mapping[str, Attribute], correction: Correction) -> dict[str, Attribute]:
    """The same attributes, with corrected shares where there are any."""
    return {
        name: entry.model_copy(
            update={"share_corrected": correction.shares[name], "calibration_fit": correction.fits.get(name)}
        )
        if name in correction.shares
        else entry
        for name, entry in attributes.items()
    }


def _with_corrected_prompts(prompts: Sequence[Prompt], ids: Sequence[str], correction: Correction) -> list[Prompt]:
    """The same prompts, with corrected shares of those whose `ids` stand in the order of the correction."""
    corrected = dict(zip(ids, correction.prompts, strict=True)) if correction.prompts else {}
    return [
        entry.model_copy(update={"share_corrected": corrected[entry.id]}) if entry.id in corrected else entry
        for entry in prompts
    ]
