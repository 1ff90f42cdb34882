"""Labels of several attributes at once, such as perceived gender and race: an intersection has the figures of a single attribute.

An image counts where every one of the attributes has a label; its joint label is the combination. What single attributes hide shows
here: shares of women and of each group may be even while no image shows a woman of one of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.asked_for import unasked
from allfour.pipeline.metrics.set_table import entry_of
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Cell, Imbalance, Intersection, Metrics, NeverTogether, Null, OverPrompts
from allfour.pipeline.run.record import Estimate, Interval
from allfour.pipeline.run.tables import connect, count_together, scalar
from allfour.pipeline.statistics.arrays import IntArray
from allfour.pipeline.statistics.coverage import least_unanimity

DEFAULT = ("gender", "race")
"""What is crossed where a config names nothing and both are asked about."""
MOST_CELLS = 500
"""Combinations of labels above which an intersection is refused."""

Joint = Mapping[str, tuple[Mapping[tuple[str, ...], int], Mapping[tuple[str, ...], int]]]
"""Prompt id -> images by combination of labels: those of the first set, and all of them."""


def chosen(named: Sequence[Sequence[str]] | None, attributes: AttributeSet) -> list[tuple[str, ...]]:
    """The intersections of a run: those that its config names, else gender x race where both are asked about.

    Raises
    ------
    ConfigError
        One names what is not an attribute, or has too many combinations of labels.
    """
    if named is None:
        return [DEFAULT] if all(name in attributes.attributes for name in DEFAULT) else []
    for names in named:
        for name in names:
            if name not in attributes.attributes:
                known = ", ".join(attributes.attributes)
                raise ConfigError(f"intersections: {name!r} is no attribute. Name some of: {known}")
        cells = int(np.prod([len(attributes.labels(name)) for name in names]))
        if cells > MOST_CELLS:
            raise ConfigError(
                f"intersections: {' x '.join(names)} has {cells:,} combinations of labels, more than {MOST_CELLS}. Cross fewer attributes, or "
                "ones with fewer labels"
            )
    return list(dict.fromkeys(tuple(names) for names in named))


def with_intersections(
    metrics: Metrics, run: RunFolder, prompts: Sequence[PromptTally], crossed: Sequence[tuple[str, ...]]
) -> Metrics:
    """The same metrics with the figures of these intersections; joint counts of other pairs stay.

    A prompt that asks for a label of one of the attributes is in none of its intersections, by the rule of `unasked`.
    """
    size, confidence = metrics.summary.set_size, metrics.summary.confidence
    known = tuple(p for p in prompts if p.prompted)
    found = [
        crossed_figures(
            joint_counts(run, names, set_size=size),
            functools.reduce(lambda left, name: unasked(left, run.header().asked or {}, name), names, known),
            labels={name: metrics.labels[name] for name in names},
            set_size=size,
            confidence=confidence,
        )
        for names in crossed
    ]
    places = {frozenset(names) for names in crossed}
    others = [entry for entry in metrics.intersections if frozenset(entry.attributes) not in places]
    return metrics.model_copy(update={"intersections": [*found, *others]}) if found else metrics


def joint_counts(run: RunFolder, names: Sequence[str], *, set_size: int) -> Joint:
    """Count images per prompt by their labels of several attributes."""
    labels = ", ".join(f"label{place}" for place in range(len(names)))
    found: dict[str, tuple[dict[tuple[str, ...], int], dict[tuple[str, ...], int]]] = {}
    with connect(run) as connection:
        rows = count_together(connection, names, f"prompt_id, {labels}, count(*)")
        for prompt_id, *cell, count in rows:
            found.setdefault(prompt_id, ({}, {}))[1][tuple(cell)] = count
        # no more rows are joined than may be of a first set
        last = scalar(connection, "SELECT coalesce(max(last), -1) FROM first_sets(?)", [set_size])
        rows = count_together(
            connection,
            names,
            f"together.prompt_id, {labels}, count(*)",
            join='JOIN first_sets(?) s ON together.prompt_id = s.prompt_id WHERE together."index" <= ? AND together."index" <= s.last',
            parameters=[set_size, last],
        )
        for prompt_id, *cell, count in rows:
            found[prompt_id][0][tuple(cell)] = count
    return found


def crossed_figures(
    joint: Joint,
    prompts: Sequence[PromptTally],
    *,
    labels: Mapping[str, Sequence[str]],
    set_size: int,
    confidence: float,
) -> Intersection:
    """Shares with intervals over prompts, unanimity with its floor, imbalance with its floor, and combinations that no image shows.

    Parameters
    ----------
    joint
        See `joint_counts`; combinations that hold an unclear reading are no label here.
    prompts
        Prompts with their numbers of images.
    labels
        Attribute -> its labels, in the order of the combinations.
    set_size, confidence
        As everywhere.
    """
    cells = list(product(*labels.values()))
    first, every = (_table(joint, prompts, cells, place=place) for place in (0, 1))
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    images = every.sum(axis=1)
    shares = _shares(every, confidence)
    whole = requested >= set_size
    unanimous = st.unanimous_label(first, unresolved=np.minimum(requested, set_size) - first.sum(axis=1))
    observed, evaluated = int((unanimous[whole] >= 0).sum()), int(whole.sum())
    seen = bool(first[whole].sum())
    complete = int((first[whole].sum(axis=1) == set_size).sum())
    null = st.unanimity_null(np.full(complete, set_size), observed=observed, shares=np.full(len(cells), 1 / len(cells)))
    over_sets = st.unanimity(every, set_size=set_size, unresolved=requested - images, confidence=confidence)
    none = Interval(value=None, low=None, high=None)
    return Intersection(
        attributes=list(labels),
        name=" x ".join(labels),
        counts=[
            Cell(labels=list(cell), name=" x ".join(cell), images=int(every[:, place].sum()), share=shares[place])
            for place, cell in enumerate(cells)
        ],
        images=int(images.sum()),
        prompts=int((images > 0).sum()),
        without_label=int((requested - images).sum()),
        evaluated=evaluated,
        unanimous=observed,
        unanimity=Interval.of(st.wilson(observed, evaluated, confidence=confidence)) if seen else none,
        unanimity_floor=least_unanimity(set_size, len(cells)),
        unanimity_null=Null(
            expected=null.expected_share, expected_count=null.expected_count, p_value=null.p_value if complete else None
        ),
        unanimity_all_images=OverPrompts(
            **entry_of(over_sets.interval, known=bool(images[whole].sum())).document(),
            prompts=over_sets.prompts,
            images=int(requested[whole].sum()),
        ),
        imbalance=_imbalance(every, confidence),
        never=[
            NeverTogether(labels=list(cells[a.label]), high=a.high, chance=a.chance)
            for a in (st.absent_labels(every, confidence=confidence) if images.sum() else ())
        ],
    )


def _table(joint: Joint, prompts: Sequence[PromptTally], cells: Sequence[tuple[str, ...]], *, place: int) -> IntArray:
    rows = [[joint[p.id][place].get(cell, 0) if p.id in joint else 0 for cell in cells] for p in prompts]
    return np.array(rows, dtype=np.int64).reshape(-1, len(cells))


def _shares(every: IntArray, confidence: float) -> list[Interval]:
    """Mean share of each combination over prompts that have an image with one."""
    return [Interval.of(st.mean_share(every, label=place, confidence=confidence)) for place in range(every.shape[1])]


def _imbalance(every: IntArray, confidence: float) -> dict[str, Imbalance]:
    found = {measure: st.imbalance(every, measure=measure, confidence=confidence) for measure in st.MEASURES}
    return {
        measure: Imbalance(score=Estimate.of(one.score), floor=one.floor, excess=Estimate.of(one.excess))
        for measure, one in found.items()
    }
