"""What is paired between runs: prompts by id, or everything that a run has of one subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.tables import label_counts
from allfour.pipeline.metrics.tallies import Copies
from allfour.pipeline.run.metrics import Metrics, Prompt


@dataclass(frozen=True, slots=True)
class MeasuredUnit:
    """One subject, or one prompt, of one run: means over its prompts."""

    key: str
    text: str
    """Of its first prompt."""
    group: str | None
    unanimous: float
    """Share of all sets of its prompts that show one label, unclear images against it; nan where no prompt has a set."""
    share: float
    """Of the first label; nan where no image has a label."""
    label: str | None
    """What the first set of every prompt shows throughout."""
    images: int
    sets: int
    """Disjoint sets of its prompts."""
    counts: tuple[int, ...]
    """Images of each label, of all its prompts."""
    unlabelled: int
    prompts: int
    sizes: tuple[int, ...] = ()
    """Images of each prompt, labelled or not, in rising order."""
    copies: int = 0
    """Near-copies of an earlier image of their prompt: in no other figure of the unit."""
    unanimous_at_most: float = math.nan
    """`unanimous` if every image without a label matches the rest of its prompt's."""


def measured_units(
    metrics: Metrics, *, by: str, labels: Sequence[str] | None = None, copies: Copies | None = None
) -> dict[str, MeasuredUnit]:
    """Key -> unit, in the order of the run's prompts.

    Parameters
    ----------
    by
        `subject` or `id`.
    labels
        Those of the headline in the order in which they are wanted; default: the run's own.
    copies
        Near-copies by the label of the headline, which are no draws of their own and are left out.
    """
    order = metrics.headline_labels if labels is None else labels
    members: dict[str, list[Prompt]] = {}
    for prompt in metrics.prompts:
        members.setdefault(prompt.pairing(by), []).append(prompt)
    return {key: _unit(key, prompts, metrics, order, copies or {}) for key, prompts in members.items()}


def _unit(key: str, prompts: Sequence[Prompt], metrics: Metrics, labels: Sequence[str], copies: Copies) -> MeasuredUnit:
    headline, size = metrics.headline, metrics.summary.set_size
    found: list[Mapping[str, int]] = [copies[prompt.id][1] if prompt.id in copies else {} for prompt in prompts]
    copied = np.array([sum(own.values()) for own in found], dtype=np.int64)
    of_labels = np.array([[own.get(label, 0) for label in labels] for own in found], dtype=np.int64)
    counts = np.maximum(label_counts(prompts, headline, labels, headline) - of_labels, 0)
    images = np.array([prompt.images for prompt in prompts], dtype=np.int64) - copied
    labelled = counts.sum(axis=1)
    unlabelled = np.maximum(images - labelled, 0)
    unanimous = st.subset_unanimity(counts, set_size=size, unresolved=unlabelled)
    matching = counts.copy()
    matching[np.arange(len(counts)), counts.argmax(axis=1)] += unlabelled
    with np.errstate(invalid="ignore"):
        shares = counts[:, 0] / labelled
    shown = {prompt.unanimous for prompt in prompts}
    return MeasuredUnit(
        key=key,
        text=prompts[0].text,
        group=prompts[0].group,
        unanimous=_mean(unanimous),
        share=_mean(shares),
        label=shown.pop() if len(shown) == 1 else None,
        images=int(labelled.sum()),
        sets=int((images // size).sum()),
        counts=tuple(int(n) for n in counts.sum(axis=0)),
        unlabelled=int(np.maximum(images - labelled, 0).sum()),
        prompts=len(prompts),
        sizes=tuple(sorted(images.tolist())),
        copies=int(copied.sum()),
        unanimous_at_most=_mean(st.subset_unanimity(matching, set_size=size)),
    )


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
