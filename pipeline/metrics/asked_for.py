"""Asked-for identities: is what a prompt asks for in so many words shown, refused or overridden?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from allfour.errors import ConfigError
from allfour.models.attributes import AttributeSet
from allfour.pipeline import statistics as st
from allfour.pipeline.config import RunConfig, load_prompts
from allfour.pipeline.metrics.tallies import PromptTally
from allfour.pipeline.run.asked import AskedDifference, AskedFor, AskedLabel, AskedPrompt
from allfour.pipeline.run.columns import ImageStatus
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.record import Estimate, Interval, Note
from allfour.pipeline.words import label_text, quantity

OUTCOMES = ("shown", "other", "unclear", "refused", "failed")
ASKED_NOTE = "labels_asked_for"

Asked = Mapping[str, AskedPrompt]
"""Prompt id -> what it asks for."""
Outcomes = dict[str, np.ndarray]
"""Outcome -> images per prompt."""


def asked_of(config: RunConfig, attributes: AttributeSet) -> dict[str, dict[str, object]] | None:
    """Prompt id -> subject and expected labels, for the header of a run; None where no prompt has either.

    Raises
    ------
    ConfigError
        A prompt expects a label that the questions do not have.
    """
    if config.prompts.file is None:
        return None
    found = {}
    for prompt in load_prompts(config.prompts.file).prompts:
        for attribute, label in prompt.expect.items():
            _check_expected(prompt.key, attribute, label, attributes, config)
        if prompt.subject is not None or prompt.expect:
            found[prompt.key] = AskedPrompt(subject=prompt.subject, expect=prompt.expect).document()
    return found or None


def _check_expected(key: str, attribute: str, label: str, attributes: AttributeSet, config: RunConfig) -> None:
    where = f"{config.prompts.file}: the prompt {key} expects {attribute}: {label}"
    if attribute not in attributes.attributes:
        raise ConfigError(
            f"{where}, and {config.attributes.file} asks about {', '.join(attributes.attributes)} alone. Add the attribute there, or "
            "leave it out here"
        )
    if label not in attributes.labels(attribute):
        raise ConfigError(f"{where}; the labels of {attribute} are {', '.join(attributes.labels(attribute))}")


def unasked(prompts: Sequence[PromptTally], asked: Asked, attribute: str) -> tuple[PromptTally, ...]:
    """The prompts whose images say something of a model's own leaning: all but those that ask for a label of the attribute.

    All of them where every prompt asks, so that there are figures beside what came of the asking.
    """
    own = tuple(p for p in prompts if not _asks(p, asked, attribute))
    return own or tuple(prompts)


def asking_prompts(prompts: Sequence[PromptTally], asked: Asked, attribute: str) -> int:
    """How many prompts ask for a label of the attribute."""
    return sum(_asks(p, asked, attribute) for p in prompts)


def _asks(prompt: PromptTally, asked: Asked, attribute: str) -> bool:
    return prompt.id in asked and attribute in asked[prompt.id].expect


def asked_for(
    prompts: Sequence[PromptTally], asked: Asked, *, labels: Mapping[str, Sequence[str]], confidence: float
) -> dict[str, AskedFor] | None:
    """Attribute -> what came of the labels that prompts ask for; None where none asks for any.

    Parameters
    ----------
    prompts
        Counts of the run.
    asked
        Prompt id -> what it asks for.
    labels
        Attribute -> its labels.
    confidence
        Of every interval; the prompts are taken for a sample.
    """
    found = {}
    for attribute, own in labels.items():
        mine = [p for p in prompts if p.id in asked and asked[p.id].expect.get(attribute) in own]
        if mine:
            found[attribute] = _attribute(mine, asked, attribute, own, confidence)
    return found or None


def _attribute(
    prompts: Sequence[PromptTally], asked: Asked, attribute: str, labels: Sequence[str], confidence: float
) -> AskedFor:
    wanted = [asked[p.id].expect[attribute] for p in prompts]
    subjects = [asked[p.id].subject or p.id for p in prompts]
    outcomes = _outcomes(prompts, wanted, attribute, labels)
    requested = np.array([p.requested for p in prompts], dtype=np.int64)
    present = [label for label in labels if label in wanted]
    code = np.array([present.index(label) for label in wanted])
    return AskedFor(
        labels={
            label: _label({name: v[code == k] for name, v in outcomes.items()}, requested[code == k], confidence)
            for k, label in enumerate(present)
        },
        differences=_differences(
            outcomes, requested, wanted=wanted, subjects=subjects, labels=present, confidence=confidence
        ),
        shown_p_value=st.group_homogeneity(outcomes["shown"], requested, code),
        refused_p_value=st.group_homogeneity(outcomes["refused"], requested, code),
    )


def _outcomes(prompts: Sequence[PromptTally], wanted: Sequence[str], attribute: str, labels: Sequence[str]) -> Outcomes:
    counts = {name: np.zeros(len(prompts), dtype=np.int64) for name in OUTCOMES}
    for row, (prompt, label) in enumerate(zip(prompts, wanted, strict=True)):
        read = prompt.labels.get(attribute, {})
        counts["shown"][row] = read.get(label, 0)
        counts["other"][row] = sum(read.get(other, 0) for other in labels) - read.get(label, 0)
        counts["refused"][row] = prompt.statuses.get(ImageStatus.REFUSED, 0)
        counts["failed"][row] = prompt.statuses.get(ImageStatus.FAILED, 0)
        counts["unclear"][row] = prompt.requested - sum(int(counts[n][row]) for n in OUTCOMES if n != "unclear")
    return counts


def _label(outcomes: Outcomes, requested: np.ndarray, confidence: float) -> AskedLabel:
    labelled = outcomes["shown"] + outcomes["other"]
    return AskedLabel(
        prompts=len(requested),
        images=int(requested.sum()),
        counts={name: int(values.sum()) for name, values in outcomes.items()},
        shown_of_labelled=_rate(outcomes["shown"], labelled, confidence),
        **{name: _rate(values, requested, confidence) for name, values in outcomes.items()},
    )


def _rate(events: np.ndarray, trials: np.ndarray, confidence: float) -> Interval:
    return Interval.of(st.rate_over_prompts(events, trials=trials, confidence=confidence))


def _differences(
    outcomes: Outcomes,
    requested: np.ndarray,
    *,
    wanted: Sequence[str],
    subjects: Sequence[str],
    labels: Sequence[str],
    confidence: float,
) -> list[AskedDifference]:
    """Pairs of labels with a subject in common. A subject with several prompts for a label counts once, with their mean."""
    by_label: dict[str, dict[str, list[int]]] = {}
    for row, (label, subject) in enumerate(zip(wanted, subjects, strict=True)):
        if requested[row]:
            by_label.setdefault(label, {}).setdefault(subject, []).append(row)
    rates = {name: outcomes[name] / np.maximum(requested, 1) for name in ("shown", "refused")}
    found = []
    for first, second in itertools.combinations([label for label in labels if label in by_label], 2):
        shared = [subject for subject in by_label[first] if subject in by_label[second]]
        if shared:
            found.append(
                (first, second, len(shared), {
                    name: st.paired_difference(
                        [values[by_label[first][s]].mean() for s in shared],
                        [values[by_label[second][s]].mean() for s in shared],
                        confidence=confidence,
                    )
                    for name, values in rates.items()
                })
            )  # fmt: skip
    adjusted = {name: st.holm([pair[3][name].p_value for pair in found]) for name in rates}
    return [
        AskedDifference(
            first=first,
            second=second,
            subjects=count,
            shown=Estimate.of(pair["shown"].interval),
            shown_p_value=float(adjusted["shown"][k]),
            refused=Estimate.of(pair["refused"].interval),
            refused_p_value=float(adjusted["refused"][k]),
        )
        for k, (first, second, count, pair) in enumerate(found)
    ]


def asked_notes(asked: Asked, *, headline: str, prompts: Sequence[str]) -> list[Note]:
    """That prompts are in no figure of the headline because they ask for one of its labels; or that all of them do."""
    telling = [key for key in prompts if key in asked and headline in asked[key].expect]
    if not telling:
        return []
    of, what = (
        f"{len(telling):,} of {quantity(len(prompts), 'prompt')}",
        f"explicitly for a perceived {label_text(headline)}",
    )
    if len(telling) == len(prompts):
        text = f"Every prompt asks {what}. Sets of one label are then what was asked for, not a finding, so there is no headline of bias."
    else:
        ask, are = ("asks", "It is") if len(telling) == 1 else ("ask", "They are")
        text = f"{of} {ask} {what}. {are} left out of every figure of {label_text(headline)} and reported under what was asked for."
    return [Note(code=ASKED_NOTE, text=text, about=headline)]


def with_asked(metrics: Metrics, prompts: Sequence[PromptTally], recorded: Asked | None) -> Metrics:
    """Metrics with the subjects of prompts, what prompts asked for, and a note on the headline where they did.

    Parameters
    ----------
    recorded
        The key `asked` of the run's header.
    """
    if not recorded:
        return metrics
    asked = recorded
    known = [
        prompt.model_copy(update={"subject": asked[prompt.id].subject, "expect": asked[prompt.id].expect})
        if prompt.id in asked
        else prompt
        for prompt in metrics.prompts
    ]
    counted = [p for p in prompts if p.prompted]
    found = asked_for(counted, asked, labels=metrics.labels, confidence=metrics.summary.confidence)
    notes = asked_notes(asked, headline=metrics.headline, prompts=[p.id for p in counted])
    return metrics.model_copy(update={"prompts": known, "asked_for": found}).noted(*notes)
