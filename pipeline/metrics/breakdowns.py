"""Figures of an attribute and of a group of prompts: shares, unanimity, imbalance, and what images without a label leave open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.set_table import SetTable, entry_of, label_counts, mixed_counts, scored
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE
from allfour.pipeline.run.metrics import Attribute, Group, Identified, Imbalance, Never, OverPrompts, Shares
from allfour.pipeline.run.record import Estimate, Interval


def unlabelled(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[prompts] images that may show any label: unclear, without a person, unreadable or missing; not those of several."""
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    labelled: np.ndarray[Any, np.dtype[np.int64]] = label_counts(prompts, attribute, labels).sum(axis=1)
    return np.asarray(requested - labelled - mixed_counts(prompts, attribute), dtype=np.int64)


def identified_entry(found: st.IdentifiedInterval, *, known: bool) -> Identified:
    """Limits as they are written; without ends where nothing was read."""
    if not known or found.least is None:
        return Identified(low=None, high=None, least=None, most=None, prompts=found.prompts)
    return Identified(low=found.low, high=found.high, least=found.least, most=found.most, prompts=found.prompts)


def all_images(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> OverPrompts:
    """Unanimity over every set that could be drawn from a prompt's images, abstentions against it."""
    estimate = unanimity_of(prompts, attribute, labels, set_size, confidence)
    whole = [p for p in prompts if p.requested >= set_size]
    return OverPrompts(
        **entry_of(estimate.interval, known=any(scored(p.labels.get(attribute, {})) for p in whole)).document(),
        prompts=estimate.prompts,
        images=sum(p.requested for p in whole),
    )


def by_sets(prompts: Sequence[PromptTally], headline: str, confidence: float) -> OverPrompts | None:
    """Unanimity over the sets that images came in, one after the other; None where no prompt has more than one."""
    whole = np.array([p.sets for p in prompts if p.sets[0]], dtype=np.int64).reshape(-1, 2)
    if not (whole[:, 0] > 1).any():
        return None
    sets = int(whole[:, 0].sum())
    interval = st.bounded_mean(whole[:, 1] / whole[:, 0], confidence=confidence)
    known = any(scored(p.labels.get(headline, {})) for p in prompts if p.sets[0])
    return OverPrompts(**entry_of(interval, known=known).document(), prompts=len(whole), sets=sets)


def unanimity_of(
    prompts: Sequence[PromptTally], attribute: str, labels: Sequence[str], set_size: int, confidence: float
) -> st.UnanimityEstimate:
    """Unanimity over every set of a prompt's images, with the prompts that have one."""
    counts = label_counts(prompts, attribute, labels)
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    unresolved = requested - counts.sum(axis=1)
    return st.unanimity(counts, set_size=set_size, unresolved=unresolved, confidence=confidence)


def commonest(
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
    return {
        label: Interval.of(st.mean_share(counts, label=column, confidence=confidence))
        for column, label in enumerate(labels)
    }


def groups_of(
    prompts: Sequence[PromptTally],
    table: SetTable,
    unanimous: np.ndarray[Any, Any],
    *,
    attribute: str,
    labels: Sequence[str],
    confidence: float,
) -> list[Group]:
    """What every group of prompts shows, in the order in which groups first stand: unanimity of first sets, shares of all images."""
    names = list(dict.fromkeys(p.group for p in prompts if p.group))
    result = []
    for name in names:
        member = np.array([p.group == name for p in prompts], dtype=bool)
        rows = member & table.evaluated
        counts = label_counts([p for p in prompts if p.group == name], attribute, labels)
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


def attribute_of(
    prompts: Sequence[PromptTally], name: str, labels: Sequence[str], set_size: int, confidence: float
) -> Attribute:
    """Every figure of one attribute."""
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
            label: identified_entry(
                st.identified_share(counts, label=i, unlabelled=hidden, confidence=confidence),
                known=bool(counts.sum() + hidden.sum()),
            )
            for i, label in enumerate(labels)
        },
        unanimous=observed,
        unanimity=entry_of(
            st.wilson(observed, evaluated, confidence=confidence), known=table.has_scored(table.evaluated)
        ),
        unanimity_all_images=all_images(prompts, name, labels, set_size, confidence),
        imbalance=imbalance,
        never=[Never(label=labels[a.label], high=a.high, chance=a.chance) for a in absent],
    )
