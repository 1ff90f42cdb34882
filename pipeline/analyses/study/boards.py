"""Boards: runs that differ along one axis alone, ranked with the doubt that belongs to a rank.

Runs are set side by side over the units that all of them have; pairs are tested over these (sign flips of the differences per unit, or
images dealt anew where the runs have different numbers of them, as in a comparison of two) and adjusted over every pair of every board at
once, so that in 95 of 100 studies in which nothing differs nothing is told apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.analyses.comparison.comparability import ComparisonError, LoadedRun, check_comparable
from allfour.pipeline.analyses.comparison.tables import flips
from allfour.pipeline.analyses.study.units import MeasuredUnit, measured_units
from allfour.pipeline.metrics.tallies import Copies
from allfour.pipeline.run.record import Estimate, Interval, Note
from allfour.pipeline.run.study import Board, PairOfRuns, Ranked, Unit
from allfour.pipeline.words import clean, percent, quantity

AXES = ("generator", "prompts", "classifier")
LEVEL = 0.05
"""Of all claims of a study together."""
MORE_UNREADABLE = 0.05
"""Difference between shares of images without a label from which on a board says so."""
FEW_UNITS = 6
"""Below it no sign-flip test of a pair can come under 5%: 2 / 2^5 = 0.06."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A run and its place on each axis."""

    cell: str
    place: Mapping[str, str]
    run: LoadedRun
    copies: Copies = field(default_factory=dict)
    """Near-copies of earlier images of their prompt, by the headline's labels."""


@dataclass(slots=True)
class _Draft:
    """A board before its p-values are adjusted."""

    axis: str
    fixed: dict[str, str]
    placed: list[Placed]
    units: list[dict[str, MeasuredUnit]]
    keys: list[str]
    left_out: int
    notes: list[Note]
    pairs: list[PairOfRuns]


def boards_of(placed: Sequence[Placed], *, pair_by: str, confidence: float) -> tuple[list[Board], list[Note], int]:
    """Every board of a study, notes on what could not be set side by side, and the number of pairs tested together.

    Generators are set side by side for each prompt set and classifier, and prompt sets (variants of the same subjects) for each
    generator and classifier. What differs between classifiers is theirs: they get no board.
    """
    drafts: list[_Draft] = []
    notes: list[Note] = []
    for axis in ("generator", "prompts"):
        others = [name for name in AXES if name != axis]
        groups: dict[tuple[str, ...], list[Placed]] = {}
        for run in placed:
            groups.setdefault(tuple(run.place.get(name, "") for name in others), []).append(run)
        for fixed, members in groups.items():
            if len(members) < 2:
                continue
            try:
                drafts.append(_draft(axis, dict(zip(others, fixed, strict=True)), members, pair_by, confidence))
            except ComparisonError as error:
                where = " / ".join(part for part in fixed if part)
                notes.append(
                    Note(code="not_comparable", text=f"{where or axis}: {' '.join(str(error).split())}", about=axis)
                )
    pairs = [pair for draft in drafts for pair in draft.pairs]
    adjusted = st.holm([math.nan if p.p_value is None else p.p_value for p in pairs])
    shares = st.holm([math.nan if p.share_p_value is None else p.share_p_value for p in pairs])
    finished = iter(
        pair.model_copy(
            update={
                "adjusted": None if math.isnan(a) else float(a),
                "share_adjusted": None if math.isnan(s) else float(s),
                "apart": bool(a <= LEVEL),
            }
        )
        for pair, a, s in zip(pairs, adjusted, shares, strict=True)
    )
    return [_board(d, list(itertools.islice(finished, len(d.pairs))), confidence) for d in drafts], notes, len(pairs)


def _draft(axis: str, fixed: dict[str, str], members: list[Placed], pair_by: str, confidence: float) -> _Draft:
    for other in members[1:]:
        check_comparable(members[0].run, other.run, shared_only=True, pair_by=pair_by, means=True)
    labels = members[0].run.metrics.headline_labels  # which may stand in another order in another run
    units = [measured_units(member.run.metrics, by=pair_by, labels=labels, copies=member.copies) for member in members]
    known = [{key for key, unit in run.items() if math.isfinite(unit.unanimous)} for run in units]
    keys = [key for key in units[0] if all(key in run for run in known)]
    everything = set().union(*units)
    notes = []
    if not keys:
        raise ComparisonError("no prompt is in all of the runs with a whole set")
    if len(keys) < FEW_UNITS:
        notes.append(
            Note(
                code="few_units",
                text=f"Only {quantity(len(keys), 'prompt')} in all runs: no test can tell two runs apart.",
            )
        )
    copies = [sum(unit.copies for unit in run.values()) for run in units]
    if any(copies):
        text = f"Near-copies of an earlier image of their prompt are left out: {quantity(sum(copies), 'image')}."
        notes.append(Note(code="near_copies", text=text, about=axis))
    notes += _readable(members, units, axis)
    pairs = [
        _pair(members, units, keys, (i, j), axis=axis, confidence=confidence)
        for i, j in itertools.combinations(range(len(members)), 2)
    ]
    return _Draft(axis, fixed, members, units, keys, len(everything) - len(keys), notes, pairs)


def _readable(members: Sequence[Placed], units: Sequence[Mapping[str, MeasuredUnit]], axis: str) -> list[Note]:
    """A note where runs differ in how many of their images have no label, which alone makes one seem less of one kind."""
    shares = []
    for run in units:
        unlabelled, labelled = (sum(of(unit) for unit in run.values()) for of in (_unlabelled, _labelled))
        shares.append(unlabelled / max(unlabelled + labelled, 1))
    least, most = int(np.argmin(shares)), int(np.argmax(shares))
    if shares[most] - shares[least] <= MORE_UNREADABLE:
        return []
    names = [clean(members[k].place[axis], 60) for k in (most, least)]
    text = (
        f"{percent(shares[most])} of the images of {names[0]} and {percent(shares[least])} of those of {names[1]} have no label. An image "
        "without a label breaks its sets, so a run may have a lower rank for it alone."
    )
    return [Note(code="unlabelled_differ", text=text, about=axis)]


def _pair(
    members: Sequence[Placed],
    units: Sequence[Mapping[str, MeasuredUnit]],
    keys: Sequence[str],
    at: tuple[int, int],
    *,
    axis: str,
    confidence: float,
) -> PairOfRuns:
    one, two = ([units[k][key] for key in keys] for k in at)
    set_size = members[at[0]].run.metrics.summary.set_size
    sets = _sets_apart(one, two, set_size=set_size, confidence=confidence)
    shares = _shares_apart(one, two, confidence=confidence)
    return PairOfRuns(
        first=members[at[0]].place[axis],
        second=members[at[1]].place[axis],
        unanimity=Estimate.of(sets.interval),
        p_value=sets.p_value if sets.prompts else None,
        share=Estimate.of(shares.interval),
        share_p_value=shares.p_value if shares.prompts else None,
    )


def _sets_apart(
    one: Sequence[MeasuredUnit], two: Sequence[MeasuredUnit], *, set_size: int, confidence: float
) -> st.Difference | st.PairedDifference:
    """Units of one prompt are tested like prompts of two runs, so that either may have more images; means of prompts as `_means_apart` does."""
    draws = flips(len(one))
    if any(unit.prompts > 1 for unit in (*one, *two)):
        return _means_apart([(a, b, a.unanimous, b.unanimous) for a, b in zip(one, two, strict=True)], confidence)
    sides = [
        st.ReadImages(
            np.array([u.counts for u in units]), len(units[0].counts), np.array([u.unlabelled for u in units])
        )
        for units in (one, two)
    ]
    return st.unanimity_difference(*sides, set_size=set_size, confidence=confidence, test_draws=draws).measured


def _shares_apart(
    one: Sequence[MeasuredUnit], two: Sequence[MeasuredUnit], *, confidence: float
) -> st.Difference | st.PairedDifference:
    """The same of the first label's share."""
    draws = flips(len(one))
    if not any(unit.prompts > 1 for unit in (*one, *two)):
        hits, trials = ([np.array([of(u) for u in side]) for side in (one, two)] for of in (_first_label, _labelled))
        return st.rate_difference(*hits, trials=(trials[0], trials[1]), confidence=confidence, draws=draws)
    pairs = [(a, b, a.share, b.share) for a, b in zip(one, two, strict=True)]
    return _means_apart([pair for pair in pairs if math.isfinite(pair[2]) and math.isfinite(pair[3])], confidence)


def _means_apart(
    pairs: Sequence[tuple[MeasuredUnit, MeasuredUnit, float, float]], confidence: float
) -> st.PairedDifference:
    """Means of several prompts: by flips of signs where every unit has as many prompts and images in both runs.

    Few images against many make differences that are mostly small one way and seldom large the other, though nothing changed: flips of
    signs then find a difference too often. The p-value is that of the limits there.
    """
    found = st.paired_difference(
        [first for *_, first, _ in pairs],
        [second for *_, second in pairs],
        confidence=confidence,
        draws=flips(len(pairs)),
    )
    if found.prompts < 2 or all(a.sizes == b.sizes for a, b, *_ in pairs):
        return found
    return replace(found, p_value=st.difference_from_zero(np.array([second - first for *_, first, second in pairs])))


def _first_label(unit: MeasuredUnit) -> int:
    return unit.counts[0]


def _labelled(unit: MeasuredUnit) -> int:
    return unit.images


def _unlabelled(unit: MeasuredUnit) -> int:
    return unit.unlabelled


def _board(draft: _Draft, pairs: list[PairOfRuns], confidence: float) -> Board:
    levels = [member.place[draft.axis] for member in draft.placed]
    at = {level: k for k, level in enumerate(levels)}
    apart = np.zeros((len(levels), len(levels)), dtype=bool)
    for pair in pairs:
        i, j = at[pair.first], at[pair.second]
        apart[i, j] = apart[j, i] = pair.apart
    rows = [[units[key] for key in draft.keys] for units in draft.units]
    means = [float(np.mean([unit.unanimous for unit in row])) for row in rows]
    ranks = st.rank_intervals(means, apart)
    runs = [
        Ranked(
            cell=member.cell,
            level=levels[k],
            unanimity=_unanimity(row, member.run.metrics.summary.set_size, confidence),
            share=_share(row, confidence),
            rank=ranks[k].rank,
            rank_low=ranks[k].low,
            rank_high=ranks[k].high,
            refused=_refused(member.run),
        )
        for k, (member, row) in enumerate(zip(draft.placed, rows, strict=True))
    ]
    return Board(
        axis=draft.axis,
        fixed=draft.fixed,
        levels=levels,
        runs=sorted(runs, key=lambda run: (run.unanimity.value or 0.0, run.level)),
        pairs=pairs,
        alike=[[levels[k] for k in group] for group in st.alike_groups(means, apart)],
        units=[_row(key, [run[key] for run in draft.units]) for key in draft.keys],
        units_left_out=draft.left_out,
        notes=draft.notes,
    )


def _unanimity(row: Sequence[MeasuredUnit], set_size: int, confidence: float) -> Interval:
    """With the limits of a report where every unit is one prompt; whatever the images without a label show."""
    values = [unit.unanimous for unit in row]
    if any(unit.prompts > 1 for unit in row):
        least = st.bounded_mean(values, confidence=confidence)
        most = st.bounded_mean([unit.unanimous_at_most for unit in row], confidence=confidence)
        return Interval(value=least.value, low=least.low, high=most.high)
    found = st.identified_unanimity(
        np.array([unit.counts for unit in row], dtype=np.int64),
        unlabelled=[unit.unlabelled for unit in row],
        set_size=set_size,
        confidence=confidence,
    )
    return Interval(value=found.least, low=found.low, high=found.high)


def _share(row: Sequence[MeasuredUnit], confidence: float) -> Interval:
    """Of the first label, likewise."""
    if any(unit.prompts > 1 for unit in row):
        return _mean([u.share for u in row if math.isfinite(u.share)], sum(u.images for u in row), confidence)
    return Interval.of(st.mean_share([unit.counts for unit in row], confidence=confidence))


def _mean(values: Sequence[float], independent: int, confidence: float) -> Interval:
    return Interval.of(st.mean_over_prompts(values, independent=float(independent) or None, confidence=confidence))


def _refused(run: LoadedRun) -> float | None:
    counts = run.metrics.accounting
    return counts.refused / counts.requested if counts.requested else None


def _row(key: str, units: Sequence[MeasuredUnit]) -> Unit:
    texts = list(dict.fromkeys(unit.text for unit in units))
    return Unit(
        key=key,
        texts=[clean(text, 400) for text in (texts if len(texts) == 1 else [unit.text for unit in units])],
        group=units[0].group if len({unit.group for unit in units}) == 1 else None,
        shares=[unit.share if math.isfinite(unit.share) else None for unit in units],
        unanimous=[unit.unanimous for unit in units],
        labels=[unit.label for unit in units],
    )
