"""Notes that go with a run's metrics: what is missing, left out or not as it seems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.pipeline.run.metrics import Accounting, Summary
from allfour.pipeline.run.record import Note
from allfour.pipeline.statistics.correction import CONTRADICTED
from allfour.pipeline.words import join_words, percent, quantity


def wording_notes(attributes: AttributeSet) -> list[Note]:
    """What is uneven in the words that a zero-shot classifier was asked with: a label of more phrases has a vector that is less of any one."""
    uneven = []
    for question in attributes.worded:
        spec = attributes.presence if question == PRESENCE else attributes.attributes[question]
        counts = {label: len(phrases) for label, phrases in spec.labels.items()} if spec is not None else {}
        if len(set(counts.values())) > 1:
            uneven.append(f"{question} ({join_words([f'{label}: {count}' for label, count in counts.items()])})")
    if not uneven:
        return []
    text = (
        f"The labels of {join_words(uneven)} have unequal numbers of phrases, which can favour some of them. `allfour relabel RUN --grid default` "
        "shows what other wordings give."
    )
    return [Note(code="unequal_phrases", text=text)]


def gate_notes(attributes: AttributeSet, accounting: Accounting) -> list[Note]:
    """Where the presence gate leaves most images without a label: the setting that does it, and how to change it."""
    if attributes.presence is None or not accounting.scored or accounting.no_person < accounting.scored / 2:
        return []
    text = (
        f"The presence gate counted {accounting.no_person:,} of {quantity(accounting.scored, 'image')} as showing nobody: the probability of "
        f"`person` is below `presence.threshold: {attributes.presence.threshold:g}` of the attributes file. If the images do show people, use an "
        "attributes file with a lower threshold (0 switches the gate off) or other phrases under `presence`."
    )
    return [Note(code="presence_gate", text=text)]


def run_notes(summary: Summary, accounting: Accounting, *, listed: int) -> list[Note]:
    """What a reader must know before quoting a number; that there is none to quote, the headline says.

    Parameters
    ----------
    summary, accounting
        Of metrics.json.
    listed
        Prompts of the run, with a whole set or not.
    """
    found: list[Note] = []
    if left_out := summary.prompts_left_out:
        verbs = ("has", "is") if left_out == 1 else ("have", "are")
        found.append(
            Note(
                code="prompts_left_out",
                text=(
                    f"{left_out:,} of {quantity(listed, 'prompt')} {verbs[0]} fewer than {summary.set_size} images and "
                    f"{verbs[1]} left out of every unanimity figure."
                ),
            )
        )
    missing = accounting.refused + accounting.failed + accounting.unreadable
    if missing:
        rule = "; a set that lacks an image counts as not unanimous" if accounting.scored else ""
        found.append(
            Note(
                code="images_missing",
                text=(
                    f"{missing:,} of {quantity(accounting.requested, 'image')} {'is' if missing == 1 else 'are'} missing "
                    f"({accounting.refused:,} refused, {accounting.failed:,} failed, {accounting.unreadable:,} unreadable){rule}."
                ),
            )
        )
    unlabelled = accounting.ambiguous + accounting.no_person
    if accounting.scored and unlabelled / accounting.scored > 0.1:
        bounds = summary.unanimity_bounds
        where = (
            "The bounds show how much they could change the result"
            if bounds and bounds.low != bounds.high
            else "They are left out of every share"
        )
        found.append(
            Note(
                code="images_without_label",
                text=(
                    f"{percent(unlabelled / accounting.scored)} of the scored images have no label (unclear, or nobody found). {where}."
                ),
            )
        )
    if without := summary.images_without_prompt:
        found.append(
            Note(
                code="images_without_prompt",
                text=(
                    f"{quantity(without, 'image')} {'has' if without == 1 else 'have'} no prompt and {'is' if without == 1 else 'are'} left out "
                    "of every figure per prompt."
                ),
            )
        )
    if summary.sets_with_copies:
        found.append(
            Note(
                code="near_copies",
                text=(
                    f"{summary.sets_with_copies:,} of {quantity(summary.prompts, 'set')} "
                    f"{'contains' if summary.sets_with_copies == 1 else 'contain'} near-copies of one image "
                    f"({quantity(summary.near_copies, 'image')} in all). Copies agree because they are the same picture, so the interval counts "
                    "each picture once."
                ),
                about="unanimity",
            )
        )
    if alike := summary.duplicate_images:
        found.append(
            Note(
                code="duplicate_images",
                text=(
                    f"{quantity(alike, 'image')} {'is' if alike == 1 else 'are'} byte-identical to another one. Usual causes: a server with a "
                    "fixed seed, or an archive that holds copies." + _shared(summary.shared_images)
                ),
            )
        )
    if nearly := summary.nearly_shared_images:
        found.append(
            Note(
                code="nearly_shared_images",
                text=(
                    f"{quantity(nearly, 'image')} {'is' if nearly == 1 else 'are'} nearly the same picture as images of two other prompts or more, by the "
                    "classifier's embeddings. Such a picture may be a placeholder for one that was withheld, with other noise or another time on it, or "
                    "the service ignored the prompt. They are scored like all others, so look at them."
                ),
            )
        )
    found += _beyond_its_range(summary)
    if revised := summary.revised_prompts:
        found.append(
            Note(
                code="revised_prompts",
                text=(
                    f"The service rewrote the prompt of {quantity(revised, 'image')}. {'It shows' if revised == 1 else 'They show'} what the new "
                    "wording asks for, not yours."
                ),
            )
        )
    return found


def _beyond_its_range(summary: Summary) -> list[Note]:
    """A corrected figure that was cut to 100%, though the classifier read different labels in some sets.

    Where the whole interval lies beyond, the calibration is contradicted, which is said elsewhere.
    """
    corrected, read = summary.unanimity_corrected, summary.unanimity_all_images_identified
    if corrected is None or corrected.value != 1 or corrected.method == CONTRADICTED:
        return []
    if read is None or read.most is None or read.most >= 1:
        return []
    text = (
        f"The corrected unanimity is 100% because its estimate lies there or beyond. The classifier read at most {percent(read.most)} of the sets "
        "as showing one label, whatever images without a label show. Over few prompts chance carries an estimate beyond 100%; so does a "
        "calibration with more errors than this run has. Quote the interval, not the value."
    )
    return [Note(code="corrected_at_its_end", text=text, about="unanimity_corrected")]


def _shared(images: int) -> str:
    if not images:
        return ""
    return (
        f" {images:,} {'is' if images == 1 else 'are'} byte-identical to an image of another prompt. Such an image may be a placeholder for one that "
        "was withheld, or the service ignored the prompt. They are scored like all others, so look at them."
    )


def left_out_notes(left_out: Sequence[str] | None) -> list[Note]:
    """What the archive has that may be images and was not read.

    Parameters
    ----------
    left_out
        Of the run's header.
    """
    if not left_out:
        return []
    return [
        Note(code="archive_left_out", text=f"No figure is of what was left out of the archive: {'; '.join(left_out)}.")
    ]


_REASONS_SHOWN = 5


def asked_notes(asked: Mapping[str, Any] | None) -> list[Note]:
    """Why images have no reading, where the classifier is asked over a network.

    Parameters
    ----------
    asked
        Of the run's header.
    """
    if not asked:
        return []
    found = []
    if stopped := asked.get("stopped"):
        found.append(
            Note(
                code="asking_stopped",
                text=f"{stopped} Then repeat the same command: it asks only about the images that are left.",
            )
        )
    reasons = asked.get("unread") or {}
    if reasons:
        unread = sum(reasons.values())
        text = "; ".join(f"{reason} ({count:,})" for reason, count in list(reasons.items())[:_REASONS_SHOWN])
        more = f"; and {len(reasons) - _REASONS_SHOWN} other reasons" if len(reasons) > _REASONS_SHOWN else ""
        found.append(
            Note(
                code="images_unread",
                text=f"{quantity(unread, 'image')} {'has' if unread == 1 else 'have'} no reading: {text}{more}.",
            )
        )
    return found
