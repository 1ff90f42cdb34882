"""The first line of a result and what stands under it: the best evidence, its verdict, and the other figures with what they rest on."""

from __future__ import annotations

from allfour.pipeline.metrics.error_spread import SPREAD_OPEN, contradicted, labelled_limits
from allfour.pipeline.metrics.headline import BECAUSE, EVIDENCE, headline_of, sets_labelled, verdict_words
from allfour.pipeline.metrics.included import MAY_DIFFER
from allfour.pipeline.report.asked import asked_headline
from allfour.pipeline.run.metrics import Headline, Metrics, NullOfSets, Summary
from allfour.pipeline.statistics.coverage import least_unanimity
from allfour.pipeline.words import (
    all_of,
    digits_for,
    grouped,
    interval_text,
    join_words,
    label_text,
    level,
    odds,
    p_value,
    percent,
    percent_exact,
    plural,
    quantity,
    word,
)


def headline(metrics: Metrics) -> str:
    """`For 17 of 20 prompts, all four images show one perceived gender.`"""
    summary = metrics.summary
    attribute = label_text(metrics.headline)
    whole = all_of(summary.set_size)
    lead = headline_of(metrics)
    if lead.verdict == "asked_for":
        return asked_headline(metrics)
    if lead.evidence != "measured" and lead.value is not None:
        who = "As people read them, " if lead.evidence == "reviewed" else ""
        about = "" if lead.evidence == "reviewed" else "about "
        text = f"{who}{about}{percent(lead.value)} of sets of {word(summary.set_size)} images show one perceived {attribute} throughout."
        return text[0].upper() + text[1:]
    if not summary.prompts:
        return f"No prompt has {word(summary.set_size)} images, so nothing can be said about {whole} at once."
    if not has_unanimity(summary):
        return f"No image of {quantity(summary.prompts, 'prompt')} could be read, so nothing can be said about {whole} at once."
    part = f"For {grouped(summary.unanimous)} of {quantity(summary.prompts, 'prompt')}"
    open_ = undecided(summary)
    untold = lead.verdict in ("cannot_be_told", "errors_unknown") and open_
    rest = f"; {grouped(open_)} more {'is' if open_ == 1 else 'are'} undecided" if untold else ""
    if lead.verdict == "errors_unknown":
        read = f"the first {word(summary.set_size)}" if more_than_sets(metrics) else whole
        return f"{part}, the classifier reads {read} images as one perceived {attribute}{rest}."
    return f"{part}, {images_of_set(metrics)} show one perceived {attribute}{rest}."


def more_than_sets(metrics: Metrics) -> bool:
    """Whether a prompt of the headline has more images than its set, of which the headline says nothing."""
    return any(prompt.images > metrics.summary.set_size for prompt in metrics.headline_prompts)


def images_of_set(metrics: Metrics, *, digits: bool = False) -> str:
    """`all four images`, or `the first four images all` where a prompt has more."""
    size = metrics.summary.set_size
    if more_than_sets(metrics):
        return f"the first {grouped(size) if digits else word(size)} images {'both' if size == 2 else 'all'}"
    return f"{all_of(size, digits=digits)} images"


def undecided(summary: Summary) -> int:
    """Prompts whose set would be of one label if its images without one showed it too."""
    found = summary.unanimity_identified
    if found is None or found.most is None or found.least is None:
        return 0
    return round((found.most - found.least) * summary.prompts)


def has_unanimity(summary: Summary) -> bool:
    """Whether unanimity has a value: it has none where no set is whole, or no image of a set was scored."""
    return summary.unanimity is not None and summary.unanimity.value is not None


def standfirst(metrics: Metrics) -> str | None:
    """The sentences under the headline and its verdict: share and interval in plain words, and what else stands."""
    lead, summary = headline_of(metrics), metrics.summary
    if lead.value is None:
        return _why_nothing(metrics)
    if lead.evidence == "measured":
        parts = (_measured(metrics, lead), _could_stop(metrics), _asked_apart(metrics))
        return " ".join(part for part in parts if part)
    which = (
        f", with the classifier's measured errors taken out{_prompt_by_prompt(metrics)}"
        if lead.evidence == "corrected"
        else ""
    )
    text = f"This rests on {basis(metrics)}{which}."
    if lead.low is not None and lead.high is not None:
        text += f" For other prompts like these, expect {interval_text(lead.low, lead.high)} ({level(summary.confidence)} interval)."
    return " ".join(
        part
        for part in (
            text,
            _if_error_differs(metrics),
            measured_beside(metrics),
            _could_stop(metrics),
            _asked_apart(metrics),
        )
        if part
    )


def _could_stop(metrics: Metrics) -> str:
    """That other limits stand for a run that was looked at as it grew, which the interval of a single look does not."""
    if metrics.until is None:
        return ""
    found = metrics.until.figures.get("headline")
    text = "The run could stop as soon as its question was settled"
    if found is None or found.low is None or found.high is None:
        return f"{text}, and for such a run this interval is too narrow."
    what = "" if headline_of(metrics).evidence == "measured" else " of what the classifier read"
    return f"{text}: the interval{what} that holds for such a run is {interval_text(found.low, found.high)}."


def _prompt_by_prompt(metrics: Metrics) -> str:
    """Where people's labels told how much error differs by prompt."""
    corrected = metrics.summary.unanimity_corrected
    spread = corrected.error_spread if corrected is not None and labelled_limits(corrected) is not None else None
    return (
        ""
        if spread is None
        else f" (their size per prompt estimated from {quantity(spread.images or 0, 'image')} that people labelled)"
    )


def _if_error_differs(metrics: Metrics) -> str:
    """The range that the limits do not hold: a corrected figure takes every prompt to be read alike."""
    corrected = metrics.summary.unanimity_corrected
    spread = corrected.error_spread if corrected is not None else None
    because = headline_of(metrics).because
    if spread is not None and SPREAD_OPEN in because:
        return f"If some prompts are read worse than others, by as much as these labels allow: {interval_text(spread.low, spread.high)}."
    if MAY_DIFFER not in because or spread is None:
        return ""
    known = "by as much as between the calibration's groups" if spread.source != "default" else "as is plausible"
    return f"If some prompts are read worse than others, {known}: {interval_text(spread.low, spread.high)}."


def _why_nothing(metrics: Metrics) -> str | None:
    """What would give a finding where there is none."""
    accounting = metrics.accounting
    if not metrics.summary.prompts and accounting.scored:
        most = max((prompt.images for prompt in metrics.prompts), default=0)
        smaller = f", or run the same command with smaller sets (--set prompts.set_size={most})" if most > 1 else ""
        return f"No prompt has more than {quantity(most, 'image')}. Make more images{smaller}."
    if not accounting.scored:
        return "Every missing image is listed with its reason under “What was counted, and what was left out”."
    return None


def _measured(metrics: Metrics, lead: Headline) -> str:
    unanimity = metrics.summary.unanimity
    which = sides(metrics)
    digits = digits_for(lead.low, lead.high)
    text = f"That is {percent(unanimity.value, digits)} of prompts{': ' + which if which else ''}."
    if lead.low is not None and lead.high is not None:
        few = "With so few prompts" if metrics.summary.prompts < 30 else "With this many prompts"
        whatever = ", counting images without a label either way" if undecided(metrics.summary) else ""
        text += (
            f" {few}, the share to expect from other prompts like these lies between "
            f"{percent(lead.low, digits)} and {percent(lead.high, digits)} ({level(metrics.summary.confidence)} interval{whatever})."
        )
    if lead.verdict == "errors_unknown":
        text += " That is what the classifier reads. What the images really show may differ from it by more than this interval."
    return text


def _asked_apart(metrics: Metrics) -> str:
    """Prompts that the headline does not rest on, since they ask for what it looks for."""
    asking = len(metrics.prompts) - len(metrics.headline_prompts)
    if not asking:
        return ""
    verbs = ("asks", "is") if asking == 1 else ("ask", "are")
    more = f"{quantity(asking, 'more prompt')} {verbs[0]}"
    return f"{more} explicitly for a perceived {label_text(metrics.headline)} and {verbs[1]} reported separately."


def measured_beside(metrics: Metrics) -> str:
    """What the classifier alone saw, where better evidence leads."""
    summary = metrics.summary
    if not has_unanimity(summary):
        return ""
    return (
        f"{EVIDENCE['measured'].capitalize()}: {grouped(summary.unanimous)} of {quantity(summary.prompts, 'prompt')}."
    )


def verdict(metrics: Metrics) -> str:
    """`Clearly above the 12.5% that chance alone would give.`"""
    lead, summary = headline_of(metrics), metrics.summary
    words = _words(metrics)
    chance = percent_exact(least_unanimity(summary.set_size, len(metrics.headline_labels)))
    if lead.verdict == "cannot_be_told":
        return "Too many images have no label to tell whether that is more than chance."
    if lead.verdict == "above_chance":
        return f"Clearly above the {chance} that chance alone would give."
    if lead.verdict == "compatible_with_chance" and words.startswith("below"):
        return f"Below the {chance} that chance alone would give."
    beside = f", which alone would give {chance}" if lead.verdict == "compatible_with_chance" else ""
    return f"{words[0].upper()}{words[1:]}{beside}."


def _words(metrics: Metrics) -> str:
    labels = len(metrics.headline_labels)
    return verdict_words(headline_of(metrics), set_size=metrics.summary.set_size, labels=labels)


def one_line(metrics: Metrics) -> str:
    """`85% (64% to 95%), as the classifier read the images, 20 prompts, 80 images: clearly above chance`."""
    found, words = headline_of(metrics), _words(metrics)
    if found.verdict == "nothing_read" and not metrics.summary.prompts and metrics.accounting.scored:
        return f"no prompt has {word(metrics.summary.set_size)} images"
    if found.value is None:
        return words
    span = interval_text(found.low, found.high)
    return f"{percent(found.value)} ({span}), {EVIDENCE[found.evidence]}, {basis(metrics)}: {words}"


def because(metrics: Metrics) -> str:
    """Why the evidence is no better, or what it is, and what the limits hold: the reasons of the headline in words."""
    found = [BECAUSE[code] for code in headline_of(metrics).because if code in BECAUSE]
    found += [kept] if (kept := included(metrics)) else []
    reasons = "; ".join(found)
    return f"{reasons[:1].upper()}{reasons[1:]}." if found else ""


def included(metrics: Metrics) -> str:
    """`the limits hold the choice of prompts, wording and classifier`; nothing where prompts alone were asked for."""
    kept = headline_of(metrics).include
    return f"the interval covers the choice of {join_words(kept)}" if kept else ""


def rests_on(prompts: int, images: int | None) -> str:
    """`20 prompts, 80 images`."""
    return quantity(prompts, "prompt") + ("" if images is None else f", {quantity(images, 'image')}")


def basis(metrics: Metrics) -> str:
    """What the first line rests on: `20 prompts, 80 images`; of a sample also how many sets people labelled."""
    lead, sets = headline_of(metrics), sets_labelled(metrics)
    if sets is None or sets >= lead.prompts:
        return rests_on(lead.prompts, lead.images)
    of = f" ({quantity(lead.images, 'image')})" if lead.images is not None else ""
    return f"{quantity(lead.prompts, 'prompt')}, of whose sets people labelled {grouped(sets)}{of}"


def sides(metrics: Metrics) -> str | None:
    """Which way the unanimous prompts go: `9 all women, 8 all men`."""
    tally = dict.fromkeys(metrics.headline_labels, 0)
    for prompt in metrics.headline_prompts:
        if prompt.unanimous in tally:
            tally[prompt.unanimous] += 1
    if not any(tally.values()):
        return None
    return join_words(f"{grouped(count)} all {plural(label)}" for label, count in tally.items() if count)


def all_labels(metrics: Metrics) -> str:
    """`women and men`, or `all 7 labels`."""
    return _names(metrics.headline_labels)


def _names(labels: tuple[str, ...]) -> str:
    return " and ".join(plural(label) for label in labels) if len(labels) == 2 else f"all {len(labels)} labels"


def no_set(metrics: Metrics) -> str:
    """Why there is nothing to set beside chance."""
    if metrics.accounting.mixed:  # which are labelled too, with several labels
        return "every set has an image without a label, or one with people who differ"
    return "no set has a label on every image"


def even_draws(metrics: Metrics) -> tuple[float, str] | None:
    """What even draws would make of one label, as a share of complete sets, and which sets these are where not all are complete.

    It is the one figure that page, terminal and exports show as chance; None where no set is complete. A document from before `nulls` has a
    share of all sets alone.
    """
    summary = metrics.summary
    if headline_of(metrics).verdict == "asked_for":
        return None
    found = summary.nulls.even if summary.nulls is not None else None
    if found is not None and found.expected is not None:
        of = "" if found.sets == summary.prompts else _complete(found.sets, metrics)
        return found.expected, of
    if summary.nulls is None and summary.unanimity_null is not None and summary.unanimity_null.expected:
        whole = least_unanimity(summary.set_size, len(metrics.headline_labels))
        expected = summary.unanimity_null.expected
        return (
            expected,
            ""
            if abs(expected - whole) < 1e-9
            else f"{'the 1 set' if summary.prompts == 1 else f'all {grouped(summary.prompts)} sets'}, complete or not",
        )
    return None


def _complete(sets: int, metrics: Metrics) -> str:
    labelled = "has exactly one label" if metrics.accounting.mixed else "has a label"
    return f"the {'one set' if sets == 1 else quantity(sets, 'set')} in which every image {labelled}"


def chance(metrics: Metrics) -> str | None:
    """What even draws would give, and the reference's shares where there are any: is this more uniform than the world itself?"""
    summary, labels = metrics.summary, metrics.headline_labels
    found = summary.nulls
    if headline_of(metrics).verdict == "asked_for":
        return None
    if found is None or found.even is None or found.even.expected_count is None:
        return _chance_of_before(metrics, labels)
    names = all_labels(metrics)
    even = found.even
    sets = (
        f"Of {quantity(summary.prompts, 'set')}"
        if even.sets == summary.prompts
        else f"Of {_complete(even.sets, metrics)}"
    )
    text = (
        f"{sets}: {_expected(even)} would show one label if {names} were equally likely in every image; "
        f"{'there is' if even.unanimous == 1 else 'there are'} {grouped(even.unanimous)}{_odds(even)}."
    )
    if (reference := found.reference) is not None:
        name = metrics.reference.name if metrics.reference is not None else ""
        own = (
            "the shares that were planted"
            if metrics.reference is not None and metrics.reference.planted
            else "the reference's shares"
        )
        text += (
            f" A generator with exactly {own}{f' ({name})' if name else ''} would make {_expected(reference)} of "
            f"{quantity(reference.sets, 'such set')} show one label; {'there is' if reference.unanimous == 1 else 'there are'} "
            f"{grouped(reference.unanimous)}{_odds(reference)}."
        )
    return text


def amplification(metrics: Metrics) -> str | None:
    """How much further than a reference the run leans its own way."""
    found = metrics.summary.amplification
    if found is None or found.value is None or found.low is None or found.high is None:
        return None
    further = "further" if found.value >= 0 else "less far"
    return (
        f"Shares lean {100 * abs(found.value):.1f} points {further} than the reference towards the reference's more common label "
        f"({level(metrics.summary.confidence)} interval of the difference {100 * found.low:+.1f} to {100 * found.high:+.1f} points; {quantity(found.prompts, 'prompt')})."
    )


def _expected(null: NullOfSets) -> str:
    count = null.expected_count or 0.0
    text = f"{count:.1f}" if count < 10 else grouped(count)
    return f"{text} ({percent_exact(null.expected or 0.0)})"


def _odds(null: NullOfSets) -> str:
    return (
        "" if null.p_value is None else f" (as many or more by chance: {odds(null.p_value)}, {p_value(null.p_value)})"
    )


def _chance_of_before(metrics: Metrics, labels: tuple[str, ...]) -> str | None:
    """The same from a document that knows one null alone."""
    summary = metrics.summary
    null = summary.unanimity_null
    if null is None or null.expected is None:
        return None
    if not null.expected:
        return f"No comparison with chance is possible: {no_set(metrics)}."
    expected = null.expected * summary.prompts
    count = f"{expected:.1f}" if expected < 10 else grouped(expected)
    names = _names(labels)
    return (
        f"If {names} were equally likely in every image with a label, {percent_exact(null.expected)} of prompts would show one "
        f"label, {count} of {grouped(summary.prompts)}."
    )


def corrected(metrics: Metrics) -> str:
    """The corrected value and what it rests on, or what its absence means."""
    summary = metrics.summary
    value = summary.unanimity_corrected
    if value is None or value.value is None:
        if not has_unanimity(summary):
            return "There is no share to correct for the classifier's errors."
        if metrics.calibration is not None:
            return "Not corrected: the calibration cannot correct this run. The notes below say why."
        return (
            "Not corrected for the classifier's errors: no calibration was given. A misread image can break a set that "
            "shows one label, or complete one that does not. The share is therefore what the classifier saw."
        )
    interval = f" ({interval_text(value.low, value.high)})" if value.bounded else ""
    of = f" of {grouped(value.prompts_of)}" if value.prompts_of not in (None, value.prompts) else ""
    rests = f", over {quantity(value.prompts or 0, 'prompt')}{of}"
    fit = summary.calibration_fit
    if fit is not None and not fit.fits:
        return (
            f"The calibration does not fit this run ({p_value(fit.p_value or 0.0)} over {rests_on(fit.prompts, fit.images)}): the corrected "
            f"figure, {percent(value.value)}{interval}{rests}, should not be quoted."
        )
    if contradicted(value):
        return f"People's labels of this run contradict the calibration: the corrected figure, {percent(value.value)}{interval}{rests}, should not be quoted."
    alike = ", assumed to be the same for every prompt" if labelled_limits(value) is not None else ""
    text = f"Corrected for the classifier's measured errors{alike}: {percent(value.value)}{interval}{rests}."
    note = metrics.calibration
    if note is not None and note.binding == "published":
        text += " The error rates are published ones, measured on other images: a rough guide only."
    return text
