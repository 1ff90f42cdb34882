"""The lines that a run ends with: its finding by the best evidence, its counts, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allfour.pipeline.metrics.headline import BECAUSE, EVIDENCE, headline_of, verdict_words
from allfour.pipeline.report.lead import basis, even_draws, headline, images_of_set, included, no_set
from allfour.pipeline.statistics.coverage import least_unanimity
from allfour.pipeline.words import clean, level, percent, percent_exact, quantity

if TYPE_CHECKING:
    from allfour.pipeline.commands.job import RunSummary
    from allfour.pipeline.run.consensus import Consensus
    from allfour.pipeline.run.metrics import Accounting, Against, Metrics, SecondOpinion, Sensitivity


_REASONS = 3
"""Why images are missing, as many as a glance takes in."""


def print_summary(summary: RunSummary) -> None:
    """Print what was found: the headline, the counts, what was held beside them, and the notes."""
    metrics = summary.metrics
    print_headline(metrics)
    print("images: " + describe_counts(metrics.accounting, archive=summary.archive, sought=summary.sought))
    if (moved := metrics.sensitivity) and moved.range is not None:
        print(_describe_sensitivity(moved))
    if second := metrics.second_opinion:
        print(_describe_second_opinion(second))
    if (readers := metrics.consensus) and len(readers.readers) > 2:
        print(describe_consensus(readers))
    if other := metrics.against:
        print(_describe_against(other))
    for note in metrics.notes:
        print(f"note: {note.text}")


def print_missing(summary: RunSummary) -> None:
    """Print how many images are missing, and where their reasons stand; nothing where none is."""
    if not summary.missing:
        return
    are, images = "is" if summary.missing == 1 else "are", summary.run / "images.parquet"
    print(f"{quantity(summary.missing, 'image')} {are} missing: see the column `error` of {images}, or the report")
    from allfour.pipeline.archives.unprompted import why_missing

    found = why_missing(images, most_others=_REASONS)
    for what, count in found.grids.items():
        print(f"  {count:,} of these {'is' if count == 1 else 'are'} in no set: {what}")
    for what, count in found.unprompted.items():
        has, is_ = ("has", "is") if count == 1 else ("have", "are")
        print(f"  {count:,} of these {has} no prompt and {is_} not scored: {what}")
    for (status, why), count in found.others.items():
        print(f"  {count:,} {status}: {clean(why, 200)}")
    if found.more:
        print(f"  and {quantity(found.more, 'other reason')}")


def print_headline(metrics: Metrics) -> None:
    """Print the finding by the best evidence there is, and what the classifier alone would say."""
    top, lead = metrics.summary, headline_of(metrics)
    stated = level(top.confidence)
    verdict = verdict_words(lead, set_size=top.set_size, labels=len(metrics.headline_labels))
    if lead.evidence != "measured":
        print(
            f"{_percent(lead.value)} of sets of {top.set_size} images show one perceived {metrics.headline} ({stated} interval for prompts like these "
            f"{_percent(lead.low)} to {_percent(lead.high)}), {EVIDENCE[lead.evidence]}: {verdict} ({basis(metrics)})"
        )
    if lead.verdict == "asked_for":
        print(f"{headline(metrics)} {verdict[0].upper()}{verdict[1:]}.")
        return
    if top.unanimity.value is None:
        of = f"of {_prompts(top.prompts)} could be read"
        why = f"No image {of}" if top.prompts else f"No prompt has a whole set of {top.set_size} images"
        print(f"{why}: unanimity cannot be told.")
        return
    at, indent = (lead, "") if lead.evidence == "measured" else (top.unanimity, "  as the classifier read them: ")
    text = f"; {verdict}" if lead.evidence == "measured" else ""
    known = top.unanimity_identified
    whatever = (
        ", counting images without a label either way"
        if not indent and known is not None and known.least != known.most
        else ""
    )
    print(
        f"{indent}{top.unanimous:,} of {_prompts(top.prompts)}: {images_of_set(metrics, digits=True)} show one perceived {metrics.headline} "
        f"= {_percent(top.unanimity.value)} ({stated} interval for prompts like these {_percent(at.low)} to {_percent(at.high)}{whatever}); "
        f"{_describe_chance(metrics)}{text}"
    )
    bounds = top.unanimity_bounds
    if bounds is not None and bounds.high != bounds.low:
        print(
            f"  {_percent(bounds.low)} if every image without a label differs from the rest of its set, {_percent(bounds.high)} if it matches"
        )
    _print_corrected(metrics, stated, leads=lead.evidence == "corrected")
    if reasons := [*(BECAUSE[code] for code in lead.because if code in BECAUSE), *filter(None, [included(metrics)])]:
        print(f"  {'; '.join(reasons)}")


def _print_corrected(metrics: Metrics, stated: str, *, leads: bool) -> None:
    top = metrics.summary
    corrected = top.unanimity_corrected
    if leads or corrected is None or corrected.value is None:
        return
    unlike = top.calibration_fit is not None and not top.calibration_fit.fits
    of = f" of {corrected.prompts_of:,}" if corrected.prompts_of not in (None, corrected.prompts) else ""
    print(
        f"  corrected for the classifier's errors{' by a calibration that does not fit these images' if unlike else ''}: {_percent(corrected.value)} "
        f"({stated} interval {_percent(corrected.low)} to {_percent(corrected.high)}), for any {top.set_size} images of a prompt, "
        f"over {_prompts(corrected.prompts or 0)}{of}"
    )


def _percent(share: float | None) -> str:
    return percent(share, 1)


def _prompts(number: int) -> str:
    return quantity(number, "prompt")


def describe_counts(accounting: Accounting, *, archive: bool, sought: str = "person") -> str:
    """The accounting in a line, in the words of the report; nothing is in it twice without saying so."""
    words = {"no_person": f"no {sought}", **({"requested": "listed", "generated": "found"} if archive else {})}
    parts = []
    for key, count in accounting.document().items():
        if key == "mixed" or not (count or key in ("requested", "scored")):
            continue
        of_them = f" ({accounting.mixed} of them mixed)" if key == "labelled" and accounting.mixed else ""
        parts.append(f"{count} {words.get(key, key.replace('_', ' '))}{of_them}")
    return ", ".join(parts)


def _describe_chance(metrics: Metrics) -> str:
    """What even draws give of complete sets, and which these are where some lack a label."""
    found = even_draws(metrics)
    if found is None and headline_of(metrics).verdict == "compatible_with_chance":
        least = percent_exact(least_unanimity(metrics.summary.set_size, len(metrics.headline_labels)))
        return f"chance alone would give {least}, if every image had {'one' if metrics.accounting.mixed else 'a'} label"
    if found is None:
        return f"no comparison with chance, since {no_set(metrics)}"
    share, of = found
    return f"chance alone would give {percent_exact(share)}{f' of {of}' if of else ''}"


def _describe_sensitivity(moved: Sensitivity) -> str:
    from allfour.pipeline.analyses.sensitivity_grid import FACTORS

    most = f"; changing {FACTORS[moved.moved_most]} moves it most" if moved.moved_most else ""
    return f"sensitivity: {_percent(moved.low)} to {_percent(moved.high)} across all settings of the grid{most}"


def _describe_second_opinion(second: SecondOpinion) -> str:
    agreement, decided = second.agreement, second.images.both_decided
    if agreement.value is None:
        return f"second opinion: no image was labelled by both this run and {second.name}"
    agrees = f"{second.name} agrees on {_percent(agreement.value)} of {decided} images ({_percent(agreement.low)} to {_percent(agreement.high)})"
    if second.same_encoder:
        return (
            f"no independent second opinion: {agrees}, but it uses the same encoder (with other words or another head) and makes mostly the "
            "same mistakes. Use a different classifier"
        )
    return f"second opinion: {agrees}. This does not show which of the two is right"


def describe_consensus(found: Consensus) -> str:
    """How many images several readers label differently, and how often each errs."""
    from allfour.pipeline.report.consensus_view import NO_ESTIMATE, reader_names

    top, names = found.attributes[0], reader_names(found)
    differ = f"{len(names)} readers give different labels to {top.disputed:,} of {top.images:,} images"
    if top.latent is None:
        return f"{differ}. {NO_ESTIMATE.get(top.latent_missing or '', '')}".rstrip()
    wrong = ", ".join(
        f"{names[reader.reader]} {_percent(reader.error.value)} ({_percent(reader.error.low)} to {_percent(reader.error.high)})"
        for reader in top.latent.readers
    )
    return f"{differ}; estimated share of wrong labels, if the readers err independently: {wrong}"


def _describe_against(other: Against) -> str:
    top = other.summary
    return (
        f"against {other.name}: {top.unanimous} of {_prompts(top.prompts)} there (marked in the report). "
        "`allfour compare` tests whether the runs differ"
    )
