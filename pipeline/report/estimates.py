"""Lines of the `How sure is this?` table: every figure of the headline's question, beside each other; only what metrics.json holds."""

from __future__ import annotations

from dataclasses import dataclass

from allfour.pipeline.metrics.error_spread import contradicted, labelled_limits, spread_in_words
from allfour.pipeline.metrics.headline import headline_of
from allfour.pipeline.report.lead import basis, even_draws, rests_on
from allfour.pipeline.run.metrics import ErrorSpread, Metrics
from allfour.pipeline.run.record import Interval
from allfour.pipeline.words import clean, digits_for, grouped, interval_text, percent, percent_exact, quantity, word


@dataclass(frozen=True, slots=True)
class Estimate:
    """One line of the table."""

    name: str
    value: str
    interval: str
    meaning: str
    at: Interval
    kind: str
    """`point`, `range`, `chance`, or `other` for another run."""


def estimates(metrics: Metrics) -> list[Estimate]:
    """The lines, best evidence first; one whose figure has no value is left out."""
    summary = metrics.summary
    size = word(summary.set_size)
    counted = rests_on(summary.prompts, summary.prompts * summary.set_size)
    measured = f"The first {size} images of each prompt, as the classifier read them: {counted}."
    whole = "Images grouped into sets in the order of their numbers, whole sets only. For services that make a set at a time."
    lines = [
        _as_people_read(metrics),
        _point("Measured", summary.unanimity, measured),
        _corrected(metrics),
        _prompt_by_prompt(metrics),
        _if_error_differs(metrics),
        _any_set(metrics),
        _point(f"Sets of {size} as they came", summary.unanimity_by_sets, whole),
        _identified(metrics),
        _either_way(metrics),
        _chance(metrics),
        _other_run(metrics),
    ]
    return [line for line in lines if line is not None]


def _point(name: str, at: Interval | None, meaning: str, *, kind: str = "point") -> Estimate | None:
    if at is None or at.value is None:
        return None
    span = interval_text(at.low, at.high) if at.bounded else "–"
    return Estimate(name, percent(at.value, digits_for(at.low, at.high)), span, meaning, at, kind)


def _range(name: str, span: str, meaning: str, *, low: float, high: float) -> Estimate:
    return Estimate(name, "", span, meaning, Interval(low=low, high=high), "range")


def _as_people_read(metrics: Metrics) -> Estimate | None:
    lead = headline_of(metrics)
    if lead.evidence != "reviewed":
        return None
    size = word(metrics.summary.set_size)
    meaning = f"Sets of {size} as people read them: {basis(metrics)}."
    return _point("As people read", Interval(value=lead.value, low=lead.low, high=lead.high), meaning)


def _corrected(metrics: Metrics) -> Estimate | None:
    corrected, fit = metrics.summary.unanimity_corrected, metrics.summary.calibration_fit
    if corrected is None:
        return None
    unlike = (fit is not None and not fit.fits) or contradicted(corrected)
    of = f" of {grouped(corrected.prompts_of)}" if corrected.prompts_of not in (None, corrected.prompts) else ""
    rests = f"{quantity(corrected.prompts or 0, 'prompt')}{of}"
    meaning = f"Any set of {word(metrics.summary.set_size)}, with the classifier's measured errors taken out: {rests}."
    if unlike:
        meaning += " The calibration does not fit these images."
    return _point("Corrected: does not fit" if unlike else "Corrected", corrected, meaning)


def _prompt_by_prompt(metrics: Metrics) -> Estimate | None:
    """What a corrected figure is by the errors that people's labels show."""
    corrected = metrics.summary.unanimity_corrected
    led = labelled_limits(corrected) if corrected is not None else None
    if corrected is None or led is None or corrected.error_spread is None or contradicted(corrected):
        return None
    meaning = f"Corrected, with error rates that differ between prompts ({spread_in_words(corrected.error_spread)})."
    if _drawn_together(led, corrected.error_spread):
        meaning = "Corrected with the errors that people's labels show. They show no difference between prompts, so the interval is no wider."
    return Estimate(
        "Corrected, prompt by prompt", percent(led.value), interval_text(led.low, led.high), meaning, led, "point"
    )


def _if_error_differs(metrics: Metrics) -> Estimate | None:
    """The range of a corrected figure by all that labels leave open, or by an assumed spread."""
    corrected = metrics.summary.unanimity_corrected
    spread = corrected.error_spread if corrected is not None else None
    if corrected is None or spread is None or spread.low is None or spread.high is None or contradicted(corrected):
        return None
    led = labelled_limits(corrected)
    if led is not None and not _drawn_together(led, spread):
        return None
    name = "If errors differ by prompt" if led is None else "As far as labels allow"
    meaning = f"Corrected, with error rates that differ between prompts ({spread_in_words(spread)})."
    return _range(name, interval_text(spread.low, spread.high), meaning, low=spread.low, high=spread.high)


def _drawn_together(led: Interval, spread: ErrorSpread) -> bool:
    return (led.low, led.high) != (spread.low, spread.high)


def _any_set(metrics: Metrics) -> Estimate | None:
    summary = metrics.summary
    if not any(prompt.images > summary.set_size for prompt in metrics.prompts):
        return None
    size = word(summary.set_size)
    meaning = f"How often {size} images drawn from all images of a prompt agree, over every image of the run."
    return _point(f"Any set of {size}", summary.unanimity_all_images, meaning)


def _identified(metrics: Metrics) -> Estimate | None:
    known = metrics.summary.unanimity_identified
    if known is None or known.low is None or known.high is None or known.least == known.most:
        return None
    meaning = (
        "Interval for the first sets of prompts like these, valid for any labels that the unlabelled images may have."
    )
    span = interval_text(known.low, known.high)
    return _range("Any label of unlabelled images", span, meaning, low=known.low, high=known.high)


def _either_way(metrics: Metrics) -> Estimate | None:
    bounds = metrics.summary.unanimity_bounds
    if bounds is None or bounds.low is None or bounds.high is None or bounds.low == bounds.high:
        return None
    digits = digits_for(bounds.low, bounds.high)
    low, high = percent(bounds.low, digits), percent(bounds.high, digits)
    meaning = "From every unclear or missing image breaking its set to every one completing it."
    return _range("Unclear images either way", f"{low} to {high}", meaning, low=bounds.low, high=bounds.high)


def _chance(metrics: Metrics) -> Estimate | None:
    if (even := even_draws(metrics)) is None:
        return None
    share, of = even
    meaning = f"If all labels were equally likely in every image{f', in {of}' if of else ''}."
    return Estimate("Chance alone", percent_exact(share), "–", meaning, Interval(value=share), "chance")


def _other_run(metrics: Metrics) -> Estimate | None:
    if metrics.against is None:
        return None
    other = metrics.against.summary
    meaning = f"The other run: {grouped(other.unanimous)} of the {quantity(other.prompts, 'prompt')} that both have."
    return _point(f"In {clean(metrics.against.name, 60)}", other.unanimity, meaning, kind="other")
