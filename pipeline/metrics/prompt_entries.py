"""What metrics.json says of every prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.config import Reference
from allfour.pipeline.metrics.set_table import SetTable, label_counts
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.metrics import Prompt, PromptAttribute
from allfour.pipeline.run.record import Interval


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def prompt_entries(
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
    """An entry per prompt, with tests of its share adjusted over all of them."""
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
