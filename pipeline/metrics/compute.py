"""Stage 3: decisions -> per-prompt and per-run metrics (metrics.json, format 1). docs/method.md has every formula."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.accounting import accounting_of
from allfour.pipeline.metrics.asked_for import Asked, asking_prompts, unasked
from allfour.pipeline.metrics.breakdowns import (
    all_images,
    attribute_of,
    by_sets,
    commonest,
    groups_of,
    identified_entry,
    unanimity_of,
    unlabelled,
)
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.chance import amplification, nulls, reference_difference
from allfour.pipeline.metrics.corrected import Correction, Surely, correct
from allfour.pipeline.metrics.error_spread import Labelled
from allfour.pipeline.metrics.headline import with_headline
from allfour.pipeline.metrics.notes import run_notes
from allfour.pipeline.metrics.prompt_entries import prompt_entries
from allfour.pipeline.metrics.set_table import SetTable, entry_of, label_counts, mixed_counts
from allfour.pipeline.metrics.tallies import Copies, PromptTally, Tallies
from allfour.pipeline.run.metrics import (
    Attribute,
    Bounds,
    Cell,
    ImageName,
    Intersection,
    Metrics,
    Null,
    ReferenceNote,
    Summary,
)
from allfour.pipeline.run.record import FORMAT, Note

METRICS_VERSION = 9
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
    groups = groups_of(own_prompts, table, unanimous, labels[headline], confidence)
    attributes = {name: attribute_of(counted[name], name, own, set_size, confidence) for name, own in labels.items()}
    every = SetTable(tallies.prompts, headline, labels[headline], set_size)
    prompts = prompt_entries(
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
            labelled=labelled,
        )
        attributes = _with_corrected_shares(attributes, correction)
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
        unanimity_identified=identified_entry(in_sets, known=known),
        unanimity_null=Null(
            expected=null.expected_count / prompts_count if known else None,
            expected_count=null.expected_count if known else None,
            p_value=null.p_value if known else None,
        ),
        unanimity_exact=entry_of(st.clopper_pearson(observed, prompts_count, confidence=confidence), known=known),
        unanimity_all_images=all_images(own_prompts, headline, labels[headline], set_size, confidence),
        unanimity_all_images_identified=identified_entry(
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
        unanimity_by_sets=by_sets(own_prompts, headline, confidence),
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
    share, other_images = commonest(own_prompts, headline, labels[headline], confidence)
    doubts = st.coverage_warnings(
        prompts=prompts_count if known else 0,
        set_size=set_size,
        labels=len(labels[headline]),
        share=share,
        unanimity=unanimity_of(own_prompts, headline, labels[headline], set_size, confidence).interval,
        first_set=interval,
        other_images=other_images,
        confusion=correction.confusion,
        corrected_unanimity=correction.unanimity,
        corrected_prompts=None
        if correction.over_prompts is None or correction.over_prompts.value is None
        else correction.over_prompts.prompts,
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
