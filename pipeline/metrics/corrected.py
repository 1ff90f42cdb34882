"""Figures with the classifier's errors taken out: whether they can be given, what they rest on, and whether they fit the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from allfour.pipeline import statistics as st
from allfour.pipeline.metrics.asked_for import Asked, unasked
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.calibration_doubt import doubt
from allfour.pipeline.metrics.error_spread import Labelled, with_error_spread
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.columns import AMBIGUOUS
from allfour.pipeline.run.metrics import CalibrationFit, Corrected, Shares
from allfour.pipeline.run.record import Interval, Note
from allfour.pipeline.statistics.arrays import IntArray
from allfour.pipeline.statistics.compositions import draws_within
from allfour.pipeline.words import clean, percent, quantity

LEAST_PART = 0.5
"""Of the sets, that must be readable in full for a corrected figure to be given."""
LEVEL = 0.05
"""Of the test whether the calibration fits."""

_DIFFERING_UNFIT = (
    "A calibration also fails to fit where error rates differ by prompt: it is then that of some prompts and not of others. Whether it is that "
    "or images of another kind, decisions do not tell; people's labels of a sample of sets do."
)

Surely = Mapping[str, Mapping[str, Mapping[str, tuple[int, ...]]]]
"""Attribute -> prompt id -> label -> images decided so with at least the lead of each edge of `SureCells`; see `tallies.sure_counts`."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a calibration makes of a run."""

    confusion: st.Confusion | None = None
    """Error rates of the headline's attribute, where they can be used."""
    unanimity: st.Interval | None = None
    over_prompts: Corrected | None = None
    shares: Mapping[str, Shares] = field(default_factory=dict)
    """Attribute -> corrected mean shares."""
    prompts: Sequence[Shares] = ()
    """Corrected shares of the headline attribute, prompt by prompt, of those that do not ask for a label of it."""
    fits: Mapping[str, CalibrationFit] = field(default_factory=dict)
    """Attribute -> whether the calibration fits the run."""


def correct(
    prompts: Sequence[PromptTally],
    calibration: Calibration,
    *,
    labels: Mapping[str, Sequence[str]],
    headline: str,
    set_size: int,
    confidence: float,
    surely: Surely | None = None,
    asked: Asked | None = None,
    labelled: Labelled | None = None,
) -> tuple[Correction, list[Note]]:
    """Corrected figures of every attribute that the calibration knows, and what to know of them.

    Prompts that ask for a label of an attribute are in none of its figures; see `asked_for.unasked`. `labelled` images tell how much errors
    of the headline's attribute differ between prompts.
    """
    every = prompts
    notes: list[Note] = []
    shares: dict[str, Shares] = {}
    fits: dict[str, CalibrationFit] = {}
    known = Correction()
    for name, names in labels.items():
        confusion = calibration.confusion(name, names)
        if confusion is None:
            text = f"The calibration has no error rates for {name} with these labels, so figures of {name} are not corrected."
            notes.append(Note(code="not_calibrated", text=text, about=name))
            continue
        if (why := doubt(name, confusion, confidence=confidence)) is not None:
            text = f"{why} Figures of {name} are therefore not corrected."
            notes.append(Note(code="labels_not_told_apart", text=text, about=name))
            continue
        prompts = unasked(every, asked or {}, name)
        decisions = _decisions(prompts, name, names)
        cells = _cells(prompts, calibration, name, names, decisions=decisions, surely=(surely or {}).get(name))
        fit = _fit(calibration, name, names, decisions=decisions, cells=cells)
        if fit is not None and (mixed := reweighted(calibration, name, names, cells, whole=fit)) is not None:
            notes.append(_reweighted_note(name, mixed[1], whole=fit))
            confusion, fit = mixed
        if note := _unclear_beyond(name, decisions, confusion):
            notes.append(note)
        if fit is not None:
            fits[name] = fit
        if fit is not None and not fit.fits:
            notes.append(_unlike(name, fit, headline=name == headline))
        shares[name] = {
            label: Interval.of(st.corrected_share(decisions, confusion=confusion, label=i, confidence=confidence))
            for i, label in enumerate(names)
        }
        if name != headline:
            continue
        over_prompts, interval, widened, refusal = _unanimity(
            prompts, decisions, confusion=confusion, set_size=set_size, confidence=confidence
        )
        notes += [refusal] if refusal is not None else []
        if fit is not None and not fit.fits:  # no range: one around a figure that is not to be quoted would be quoted
            notes.append(Note(code="error_may_differ_by_prompt", text=_DIFFERING_UNFIT, about="unanimity_corrected"))
        else:
            over_prompts, more = with_error_spread(
                over_prompts, calibration, prompts=prompts, decisions=decisions, confusion=confusion, name=name, names=names,
                set_size=set_size, confidence=confidence, labelled=labelled or {}, widened=widened,
            )  # fmt: skip
            notes += more
        by_label = [
            st.corrected_prompt_shares(decisions, confusion=confusion, label=i, confidence=confidence)
            for i in range(len(names))
        ]
        known = Correction(
            confusion,
            interval,
            over_prompts,
            prompts=[
                {label: Interval.of(share) for label, share in zip(names, row, strict=True)}
                for row in zip(*by_label, strict=True)
            ],
        )
    return replace(known, shares=shares, fits=fits), notes


def _decisions(prompts: Sequence[PromptTally], name: str, names: Sequence[str]) -> IntArray:
    """[prompts, labels + ambiguous] images that the error model covers."""
    columns = (*names, AMBIGUOUS)
    rows = [[p.labels.get(name, {}).get(column, 0) for column in columns] for p in prompts]
    return np.array(rows, dtype=np.int64).reshape(-1, len(columns))


def _unclear_beyond(name: str, decisions: IntArray, confusion: st.Confusion) -> Note | None:
    unclear = int(decisions[:, -1].sum())
    if not unclear or confusion.counts[:, -1].any():
        return None
    text = (
        f"{quantity(unclear, 'image')} of this run {'is' if unclear == 1 else 'are'} ambiguous in {name}, but no image of the calibration is. They count "
        "as having no label, so corrected shares add up to less than 100%. Calibrate on more images."
    )
    return Note(code="unclear_beyond_calibration", text=text, about=name)


def _unanimity(
    prompts: Sequence[PromptTally], decisions: IntArray, *, confusion: st.Confusion, set_size: int, confidence: float
) -> tuple[Corrected, st.Interval | None, Callable[[st.Interval], tuple[float, float]], Note | None]:
    """Corrected unanimity for all prompts with a whole set: sets with an image that no error rate covers may be either.

    With w the probability that no image of a random set lacks a decision, a prompt's truth is within 1 - w of what its other images
    give, and between 0 and 1 where no set is left.
    """
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    whole = requested >= set_size
    evaluated = int(whole.sum())
    within = draws_within(decisions[whole].sum(axis=1), requested[whole], set_size)
    read = float(within.mean()) if evaluated else 0.0
    found = st.corrected_unanimity(decisions[whole], confusion=confusion, set_size=set_size, confidence=confidence)
    rests = {"prompts": found.prompts, "prompts_of": evaluated, "sets_read": read}
    images = int(decisions[whole][within > 0].sum())
    part = found.prompts / evaluated if evaluated else 0.0
    lacking = 1 - float(within[within > 0].mean()) if (within > 0).any() else 0.0

    def widened(at: st.Interval) -> tuple[float, float]:
        low, high = part * max(at.low - lacking, 0.0), part * min(at.high + lacking, 1.0) + (1 - part)
        return (low, high) if at.value is None else (min(low, at.value), max(high, at.value))

    nothing = Corrected(value=None, low=None, high=None, method=found.interval.method, images=images, **rests)
    if evaluated and found.interval.value is not None and read < LEAST_PART:
        text = (
            f"Unanimity is not corrected: {percent(1 - read)} of the sets have an image whose decision the calibration does not cover. The "
            f"{found.prompts:,} of {quantity(evaluated, 'prompt')} that are left would be a selection by missing labels."
        )
        return nothing, None, widened, Note(code="corrected_refused", text=text)
    interval = found.interval
    if interval.value is None:
        return nothing, interval, widened, None
    low, high = widened(interval)
    document = Corrected(value=interval.value, low=low, high=high, method=interval.method, images=images, **rests)
    return document, interval, widened, None


def _cells(
    prompts: Sequence[PromptTally],
    calibration: Calibration,
    name: str,
    names: Sequence[str],
    *,
    decisions: IntArray,
    surely: Mapping[str, Mapping[str, tuple[int, ...]]] | None,
) -> IntArray | None:
    """[prompts, cells] what was decided and how surely, as `SureCells` has it; None where the calibration or the run knows no leads."""
    fine = calibration.sure_cells(name, names)
    if fine is None or surely is None:
        return None
    nothing = (0,) * len(fine.edges)
    above = np.array([[surely.get(p.id, {}).get(label, nothing) for label in names] for p in prompts], dtype=np.int64)
    reached = np.minimum(above, decisions[:, : len(names), np.newaxis])
    steps = np.concatenate([decisions[:, : len(names), np.newaxis], reached], axis=2)
    banded = -np.diff(steps, axis=2, append=0)  # below both edges, between them, above both
    return np.column_stack([banded.transpose(0, 2, 1).reshape(len(prompts), -1), decisions[:, -1]])


def _fit(
    calibration: Calibration, name: str, names: Sequence[str], *, decisions: IntArray, cells: IntArray | None
) -> CalibrationFit | None:
    """Test the calibration by what was decided and how surely; by what was decided alone where no more is known."""
    fine = calibration.sure_cells(name, names)
    found = st.calibration_fit(cells, fine.counts) if fine is not None and cells is not None else None
    confusion = calibration.confusion(name, names)
    if found is None and confusion is not None:
        found = st.calibration_fit(decisions, confusion.counts)
    return None if found is None else _as_fit(found)


def _as_fit(found: st.CalibrationFit) -> CalibrationFit:
    return CalibrationFit(
        fits=found.p_value >= LEVEL,
        p_value=found.p_value,
        contrasts=found.contrasts,
        prompts=found.prompts,
        images=found.images,
    )


def reweighted(
    calibration: Calibration, name: str, names: Sequence[str], cells: IntArray | None, *, whole: CalibrationFit
) -> tuple[st.Confusion, CalibrationFit] | None:
    """Error rates of the grouping whose mix fits the run best; None where none is identified and fits.

    Where the calibration as a whole fits, only a grouping counts whose mix is shown not to be that of the calibration.
    """
    best: tuple[st.GroupMix, str, Sequence[str]] | None = None
    if cells is None:
        return None
    groupings = calibration.group_cells(name, names)
    for by, groups in groupings.items():
        found = st.group_mix(cells, list(groups.values()))
        if found is None or found.fit.p_value < LEVEL:
            continue
        if whole.fits and found.own * len(groupings) >= LEVEL:
            continue
        if best is None or found.fit.p_value > best[0].fit.p_value:
            best = found, by, list(groups)
    if best is None:
        return None
    found, by, members = best
    mix = {
        label: {group: float(share) for group, share in zip(members, row, strict=True)}
        for label, row in zip(names, found.weights, strict=True)
    }
    fit = _as_fit(found.fit).model_copy(update={"by": by, "mix": mix, "own_mix": found.own})
    return found.confusion(), fit


def _reweighted_note(name: str, fit: CalibrationFit, *, whole: CalibrationFit) -> Note:
    mixes = "; ".join(
        f"{label}: {', '.join(f'{clean(group, 60)} {percent(share)}' for group, share in row.items())}"
        for label, row in (fit.mix or {}).items()
    )
    by = clean(fit.by, 60)
    text = (
        f"The calibration as a whole fits the decisions on {name}, but this run has another mix of its groups by {by} (p = "
        f"{fit.own_mix or 0.0:.2g}), and with that mix it fits too (p = {fit.p_value:.2g})"
        if whole.fits
        else f"The calibration as a whole does not fit the decisions on {name}, but with another mix of its groups by {by} it does (p = "
        f"{fit.p_value:.2g})"
    )
    text += f". Corrected figures assume that mix for every prompt: {mixes}."
    return Note(code="calibration_reweighted", text=text, about=name)


def _unlike(name: str, fit: CalibrationFit, *, headline: bool) -> Note:
    text = (
        f"The calibration does not fit this run: no mix of its labels explains the decisions on {name} and their confidence "
        f"(p = {fit.p_value:.2g}). Its error rates do not hold for these images"
        f"{', so the headline is not the corrected figure' if headline else ''}. Calibrate on images like these."
    )
    return Note(code="calibration_unlike_run", text=text, about=name)
