"""What metrics.json says of every prompt."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.headline_sets import copied_labels
from allfour.pipeline.metrics.set_table import SetTable, label_counts
from allfour.pipeline.metrics.tallies import Copies, PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.metrics import Prompt, PromptAttribute
from allfour.pipeline.run.record import Interval


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def prompt_entries(
    prompts: Sequence[PromptTally],
    *,
    labels: Mapping[str, Sequence[str]],
    headline: str,
    set_size: int,
    confidence: float,
    reference: Reference | None,
    copies: Copies,
) -> list[Prompt]:
    """An entry per prompt, with tests of its share adjusted over all of them."""
    names = labels[headline]
    table = SetTable(prompts, headline, names, set_size)
    unanimous, possible = table.unanimous(), table.possible()
    counts = label_counts(prompts, headline, names)
    totals = counts.sum(axis=1)
    even_p, even_q = st.share_tests(counts[:, 0], trials=totals, reference=1 / len(names))
    beside = _beside_reference(prompts, counts, labels=names, headline=headline, reference=reference)
    copied, copied_in_sets = copied_labels(prompts, names, copies)

    @functools.cache  # prompts of few images have few different counts, and records are frozen
    def share(successes: int, trials: int) -> Interval:
        return Interval.of(st.wilson(successes, trials, confidence=confidence))

    return [
        Prompt(
            id=prompt.id,
            text=prompt.text,
            group=prompt.group,
            images=prompt.requested,
            evaluated=bool(table.evaluated[row]),
            counts=_counts(prompt, headline, names),
            unanimous=names[unanimous[row]] if unanimous[row] >= 0 else None,
            unanimity_possible=bool(possible[row]),
            share={label: share(int(counts[row, i]), int(totals[row])) for i, label in enumerate(names)},
            p_value=_number(even_p[row]),
            q_value=_number(even_q[row]),
            attributes={
                name: _prompt_attribute(prompt, name, own, set_size=set_size, share=share)
                for name, own in labels.items()
                if name != headline
            },
            **beside[row],
            **_near_copies(int(copied[row].sum()), in_set=int(copied_in_sets[row].sum())),
        )
        for row, prompt in enumerate(prompts)
    ]


def _beside_reference(
    prompts: Sequence[PromptTally],
    counts: np.ndarray[Any, Any],
    *,
    labels: Sequence[str],
    headline: str,
    reference: Reference | None,
) -> list[dict[str, Any]]:
    """Fields of every prompt of which the reference knows shares; none of the others."""
    known = reference.prompts if reference else {}
    given = [known[p.id].shares.get(headline) if p.id in known else None for p in prompts]
    share = np.array([g.get(labels[0], math.nan) if g else math.nan for g in given], dtype=np.float64)
    p_value, q_value = st.share_tests(counts[:, 0], trials=counts.sum(axis=1), reference=share)
    return [
        {}
        if shares is None
        else {
            "reference": dict(shares),
            "reference_source": known[prompt.id].source,
            "reference_p_value": _number(p_value[row]),
            "reference_q_value": _number(q_value[row]),
        }
        for row, (prompt, shares) in enumerate(zip(prompts, given, strict=True))
    ]


def _counts(prompt: PromptTally, headline: str, labels: Sequence[str]) -> dict[str, int]:
    found = prompt.labels.get(headline, {})
    return {
        **{key: found.get(key, 0) for key in (*labels, AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
        **{s.value: prompt.statuses.get(s, 0) for s in (ImageStatus.REFUSED, ImageStatus.FAILED)},
    }


def _near_copies(number: int, *, in_set: int) -> dict[str, int]:
    return {"near_copies": number, "near_copies_in_set": in_set} if number else {}


def _prompt_attribute(
    prompt: PromptTally, name: str, labels: Sequence[str], *, set_size: int, share: Callable[[int, int], Interval]
) -> PromptAttribute:
    found = prompt.labels.get(name, {})
    total = sum(found.get(label, 0) for label in labels)
    in_set = prompt.set_labels.get(name, {})
    sole = next((label for label in labels if in_set.get(label, 0) == set_size), None)  # None where the set lacks one
    return PromptAttribute(
        counts={key: found.get(key, 0) for key in (*labels, AMBIGUOUS, NO_PERSON, MIXED, UNREADABLE)},
        share={label: share(found.get(label, 0), total) for label in labels},
        all_one=sole,
    )
