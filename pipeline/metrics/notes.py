"""Notes that go with a run's metrics: what is missing, left out or not as it seems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allfour.models.attributes import PRESENCE, AttributeSet
from allfour.pipeline.run.metrics import Accounting, Summary
from allfour.pipeline.run.record import Note
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
        f"The labels of {join_words(uneven)} have unequal numbers of phrases, which can favour some of them: `allfour relabel RUN --grid` "
        "shows what other wordings give."
    )
    return [Note(code="unequal_phrases", text=text)]


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
                    f"{verbs[1]} in no unanimity figure."
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
        where = "see the bounds" if bounds and bounds.low != bounds.high else "they are in no share"
        found.append(
            Note(
                code="images_without_label",
                text=(
                    f"{percent(unlabelled / accounting.scored)} of the scored images got no label (ambiguous, or nobody found): {where}."
                ),
            )
        )
    if summary.images_without_prompt:
        found.append(
            Note(
                code="images_without_prompt",
                text=(f"{quantity(summary.images_without_prompt, 'image')} without a prompt: in no figure per prompt."),
            )
        )
    if summary.sets_with_copies:
        found.append(
            Note(
                code="near_copies",
                text=(
                    f"{quantity(summary.sets_with_copies, 'set')} of {summary.prompts:,} "
                    f"{'holds' if summary.sets_with_copies == 1 else 'hold'} near-copies of one image ({quantity(summary.near_copies, 'image')} in "
                    "all): copies agree because they are the same, so the limits count each picture once."
                ),
                about="unanimity",
            )
        )
    if summary.duplicate_images:
        found.append(
            Note(
                code="duplicate_images",
                text=(
                    f"{quantity(summary.duplicate_images, 'image')} byte-identical to another one: a server with a fixed seed, or an archive with copies."
                    + _shared(summary.shared_images)
                ),
            )
        )
    if revised := summary.revised_prompts:
        answer = "answers" if revised == 1 else "answer"
        found.append(
            Note(
                code="revised_prompts",
                text=(
                    f"The service rewrote the prompt of {quantity(revised, 'image')}, which {answer} its wording and not yours."
                ),
            )
        )
    return found


def _shared(images: int) -> str:
    if not images:
        return ""
    return (
        f" {images:,} have the bytes of an image of another prompt: a picture in the place of one that was withheld, or a prompt that was not "
        "read. They are scored like others: look at them."
    )


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
            Note(code="asking_stopped", text=f"{stopped} The same command then asks about the images that are left.")
        )
    reasons = asked.get("unread") or {}
    if reasons:
        text = "; ".join(f"{reason} ({count:,})" for reason, count in list(reasons.items())[:_REASONS_SHOWN])
        more = f"; and {len(reasons) - _REASONS_SHOWN} other reasons" if len(reasons) > _REASONS_SHOWN else ""
        found.append(
            Note(
                code="images_unread",
                text=f"{quantity(sum(reasons.values()), 'image')} without a reading: {text}{more}.",
            )
        )
    return found
