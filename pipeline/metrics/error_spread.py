"""What a corrected figure is if error rates differ by prompt: measured on images that people labelled, else a range for an assumed spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.run.metrics import Corrected, ErrorSpread, SpreadPoint
from allfour.pipeline.run.record import Interval, Note
from allfour.pipeline.statistics.arrays import IntArray
from allfour.pipeline.statistics.coverage import least_unanimity
from allfour.pipeline.words import percent, quantity

CURVE = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Spreads of error between prompts, on the logit, that metrics.json has the corrected figure for."""
MATERIAL = 0.02
"""Move of a limit below which errors that differ by prompt need no note."""
ABOVE_CHANCE = 1.02
"""Times what even draws give, the least that a corrected figure can be: where its lower limit has to lie for it to be above chance."""
SPREAD_OPEN = "error_spread_open"
"""Code: people's labels neither show errors that differ by prompt nor exclude as much as would matter."""
CONTRADICTED = "labels_contradict_calibration"
"""Code: people's labels of this run cannot go with the calibration's error rates."""
CONTRADICTION = 0.01
"""Level of that test."""

Labelled = Mapping[str, Mapping[tuple[str, str], int]]
"""Prompt id -> (what people say, what the classifier decided) -> images."""
_Widened = Callable[[st.Interval], tuple[float, float]]
"""Limits for all prompts of those for prompts with a set in which every image was decided."""


def with_error_spread(
    found: Corrected,
    calibration: Calibration,
    *,
    prompts: Sequence[PromptTally],
    decisions: IntArray,
    confusion: st.Confusion,
    name: str,
    names: Sequence[str],
    set_size: int,
    confidence: float,
    labelled: Labelled,
    widened: _Widened,
) -> tuple[Corrected, list[Note]]:
    """The corrected figure with `error_spread`, and what to know of it; as it was where it has no value, or more than two labels.

    Parameters
    ----------
    found
        The figure with one error rate for all prompts.
    prompts, decisions
        Of the attribute's figures, and what was decided of their images: labels, then ambiguous.
    labelled
        Images of the run that people labelled.
    widened
        What images that no error rate covers do to limits.
    """
    value, low, high = found.value, found.low, found.high
    if value is None or low is None or high is None:
        return found, []
    effects = st.spread_effects(decisions, confusion=confusion, value=value, spreads=CURVE, set_size=set_size)
    if not effects:
        return found, []
    floor = least_unanimity(set_size, len(names))
    curve = [_point(effect, value, low, high, floor) for effect in effects]
    known = _labels_of(prompts, names, labelled, decisions)
    measured = st.measured_error(
        decisions - known.sum(axis=1), known, confusion=confusion, set_size=set_size, confidence=confidence
    ) if known is not None else None  # fmt: skip
    if measured is not None:
        found = found.model_copy(update={"error_spread": _measured(measured, curve, widened)})
        note = _contradiction(name, measured) if contradicted(found) else _open(found, floor)
        return found, [note] if note is not None else []
    drawn = calibration.error_spread(name, names)
    if drawn is None:
        (at,) = st.spread_effects(
            decisions, confusion=confusion, value=value, spreads=(st.DEFAULT_SPREAD,), set_size=set_size
        )
        spread = ErrorSpread(**_point(at, value, low, high, floor).document(), source="default", curve=curve)
    else:
        spread = _between_groups(
            drawn, curve, found, decisions=decisions, confusion=confusion, set_size=set_size, confidence=confidence,
            widened=widened,
        )  # fmt: skip
    found = found.model_copy(update={"error_spread": spread})
    return found, [note] if (note := _differing(found, spread, floor)) is not None else []


def _point(at: st.SpreadEffect, value: float, low: float, high: float, floor: float) -> SpreadPoint:
    return SpreadPoint(
        spread=at.spread,
        value=at.value,
        low=max(low - (value - at.least), min(low, floor)),
        high=min(high + (at.most - value), 1.0),
    )


def _labels_of(
    prompts: Sequence[PromptTally], names: Sequence[str], labelled: Labelled, decisions: IntArray
) -> IntArray | None:
    """[prompts, labels, decisions] images that people gave a label; None where there is none, or more than were decided so."""
    columns = (*names, AMBIGUOUS)
    known = np.array(
        [[[labelled.get(p.id, {}).get((said, read), 0) for read in columns] for said in names] for p in prompts],
        dtype=np.int64,
    ).reshape(len(prompts), len(names), len(columns))
    return known if known.any() and (known.sum(axis=1) <= decisions).all() else None


def _measured(found: st.MeasuredError, curve: list[SpreadPoint], widened: _Widened) -> ErrorSpread:
    low, high = widened(found.unanimity)
    return ErrorSpread(
        spread=found.spread.value,
        spread_low=found.spread.low,
        spread_high=found.spread.high,
        lean=found.lean.value,
        lean_low=found.lean.low,
        lean_high=found.lean.high,
        value=found.unanimity.value,
        low=low,
        high=high,
        source="labelled images",
        images=found.images,
        prompts=found.prompts,
        agrees=found.agrees,
        alike=found.alike,
        curve=curve,
    )


def _between_groups(
    drawn: tuple[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
    curve: list[SpreadPoint],
    found: Corrected,
    *,
    decisions: IntArray,
    confusion: st.Confusion,
    set_size: int,
    confidence: float,
    widened: _Widened,
) -> ErrorSpread:
    """Limits averaged over how much error may differ between groups, wherever it goes with what prompts show or not."""
    by, spreads = drawn
    grid = np.linspace(0, float(spreads.max()) or 0.1, 8)
    biases = st.spread_biases(decisions, confusion=confusion, spreads=grid.tolist(), set_size=set_size)
    ends = [(found.low or 0.0, 1.0 if found.high is None else found.high)]
    values = []
    for way in biases.T:
        bias = np.interp(spreads, grid, way)
        at = st.corrected_unanimity(
            decisions, confusion=confusion, set_size=set_size, confidence=confidence, draws=len(spreads), bias=bias
        ).interval
        values.append(at.value)
        ends.append(widened(at))
    tail = (1 - confidence) / 2
    low, middle, high = np.quantile(spreads, [tail, 0.5, 1 - tail]).tolist()
    return ErrorSpread(
        spread=middle,
        spread_low=low,
        spread_high=high,
        value=values[0],
        low=min(end[0] for end in ends),
        high=max(end[1] for end in ends),
        source="calibration groups",
        by=by,
        curve=curve,
    )


def _differing(found: Corrected, spread: ErrorSpread, floor: float) -> Note | None:
    """A note where errors that differ by prompt would move the limits, or bring the lower one to where even draws lie."""
    if not _matters(found, spread, floor):
        return None
    text = (
        f"The correction assumes the same error rates for every prompt. If they differ ({spread_in_words(spread)}), the corrected "
        f"figure lies between {percent(spread.low)} and {percent(spread.high)}. Labelling a sample by hand would measure it (`allfour review`)."
    )
    return Note(code="error_may_differ_by_prompt", text=text, about="unanimity_corrected")


def _open(found: Corrected, floor: float) -> Note | None:
    """A note where labels leave open a spread that would move the limits."""
    spread, led = found.error_spread, labelled_limits(found)
    if spread is None or led is None or not _matters(led, spread, floor):
        return None
    text = (
        f"The {quantity(spread.images or 0, 'image')} that people labelled neither show nor rule out error rates that differ between prompts "
        f"(p = {spread.alike or 0.0:.2g}). The corrected figure uses these labels, and its interval is no wider than without them. If error rates "
        f"differ by as much as the labels allow ({spread_in_words(spread)}), it lies between {percent(spread.low)} and {percent(spread.high)}. More "
        "labels would settle it."
    )
    return Note(code=SPREAD_OPEN, text=text, about="unanimity_corrected")


def _matters(at: Interval, spread: ErrorSpread, floor: float) -> bool:
    """Whether the limits with a spread are materially wider, or reach where even draws lie and those without do not."""
    ends = (at.low, at.high, spread.low, spread.high)
    low, high, least, most = (0.0 if end is None else end for end in ends)
    beyond = low > floor * ABOVE_CHANCE >= least
    return max(low - least, most - high) >= MATERIAL or beyond


def labelled_limits(found: Corrected) -> Interval | None:
    """The figure with how much error differs by prompt in it, where people's labels of the run told that; it then leads.

    Its limits are no wider than those without labels, unless the labels show that errors differ; see `st.recentred`.
    """
    spread = found.error_spread
    if spread is None or spread.source != "labelled images":
        return None
    value, low, high = spread.value, spread.low, spread.high
    if value is None or low is None or high is None:
        return None
    shown = spread.alike is None or spread.alike < st.SPREAD_SHOWN  # None: written before limits were drawn together
    if shown or found.low is None or found.high is None:
        return Interval(value=value, low=low, high=high)
    return Interval.of(st.recentred(st.Interval(value, low, high, st.CORRECTED), width=found.high - found.low))


def contradicted(found: Corrected) -> bool:
    """Whether people's labels of the run cannot go with the calibration's error rates."""
    spread = found.error_spread
    return spread is not None and spread.agrees is not None and spread.agrees < CONTRADICTION


def spread_in_words(spread: ErrorSpread) -> str:
    """`standard deviation 0.6 on the logit, an assumption`."""
    span = "" if spread.spread_low is None else f" ({spread.spread_low:.1f} to {spread.spread_high:.1f})"
    where = {
        "default": "an assumption",
        "calibration groups": f"as between groups of the calibration{f' by {spread.by}' if spread.by else ''}",
        "labelled images": f"measured on {quantity(spread.images or 0, 'image')} that people labelled",
    }[spread.source]
    return f"standard deviation {spread.spread or 0.0:.2g}{span} on the logit, {where}"


def _contradiction(name: str, found: st.MeasuredError) -> Note:
    text = (
        f"People labelled {quantity(found.images, 'image')} of this run, and on them the classifier is right more or less often than the "
        f"calibration's error rates for {name} allow (p = {found.agrees:.2g}). Do not quote the corrected figure. Calibrate on images "
        "of this kind, or have whole sets labelled."
    )
    return Note(code=CONTRADICTED, text=text, about=name)
