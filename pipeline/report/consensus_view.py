"""The section on several readers: how far they agree, by list, and what that says of each one's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allfour.pipeline.analyses.consensus import FEW_PROMPTS, NO_LABEL, SAME_SOURCE, TWO_READERS
from allfour.pipeline.report.sensitivity_view import Line, estimate_line
from allfour.pipeline.run.consensus import AttributeConsensus, Consensus, Latent, PairGroup
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import clean, group_text, grouped, label_text, level, percent, quantity

NO_ESTIMATE = {
    TWO_READERS: "Two readers are not enough to tell how often each errs: other errors and other shares would give the same "
    "decisions. With a third, independent reader it can be estimated.",
    SAME_SOURCE: "Fewer than three of these readers have weights of their own. The same weights make mostly the same mistakes, which "
    "agreement would take for what the images show, so no errors are estimated.",
    FEW_PROMPTS: "There are too few prompts to say how certain an estimate of the readers' errors would be, so none is made.",
}
"""Code -> why errors are not estimated."""
ASSUMED = (
    "Estimated without labels, by latent classes (Dawid and Skene 1979): the estimate assumes that each image shows one of the labels and "
    "that, given this label, readers err independently. Mistakes that they share, such as on the same hard images, are taken for what the "
    "images show, and the errors given here are then too low. Labels by people (allfour review) tell more."
)

MOST_LABELS = 3
"""With more, what each label is read as would be a page of lines: it is in consensus.json."""


@dataclass(frozen=True, slots=True)
class ErrorsTable:
    """What is estimated of the readers of one attribute."""

    attribute: str
    sentence: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class ConsensusView:
    """The whole section."""

    sentence: str
    confidence: str
    readers: Sequence[str]
    agreement: Sequence[Line]
    disputed: str
    errors: Sequence[ErrorsTable]


def consensus_view(metrics: Metrics) -> ConsensusView | None:
    """The section of a run; None where no other run was laid beside it."""
    found = metrics.consensus
    if found is None or not found.attributes:
        return None
    names = reader_names(found)
    top = found.attributes[0]
    return ConsensusView(
        sentence=f"{quantity(len(names), 'reader')} looked at {quantity(top.images, 'image')} of {quantity(top.prompts, 'prompt')}. That they "
        "agree does not make them right.",
        confidence=level(found.confidence),
        readers=names,
        agreement=[line for each in found.attributes for line in _agreement(each, names, first=each is top)],
        disputed=f"They give different labels to {grouped(top.disputed)} of these images; allfour review RUN shows such images first."
        if top.disputed
        else "They differ on none of them.",
        errors=[_errors(each, names) for each in found.attributes if each is top or each.latent is not None],
    )


def consensus_gist(view: ConsensusView) -> str:
    """How many, and how far the first two agree."""
    return f"{len(view.readers)} readers; the first two agree on {view.agreement[0].value}" if view.agreement else ""


def reader_names(found: Consensus) -> list[str]:
    """The readers in words: the run folder's name, and the backend."""
    names = []
    for reader in found.readers:
        identity = reader.classifier if isinstance(reader.classifier, dict) else {}
        backend = clean(str(identity.get("backend") or "unknown"), 40)
        names.append(f"{clean(reader.name, 60)} ({backend})" if reader.name else f"this run ({backend})")
    return names


def _agreement(found: AttributeConsensus, names: Sequence[str], *, first: bool) -> list[Line]:
    """A line per pair; for the headline also one per list of prompts."""
    lines = []
    for pair in found.pairs:
        who = f"{names[pair.first]} and {names[pair.second]}"
        meaning = _meaning(pair)
        if pair.expected is not None:
            meaning += f"; {percent(pair.expected, 1)} if they erred independently"
        lines.append(estimate_line(f"{label_text(found.attribute)}: {who}", meaning, pair.agreement))
        lines += [
            estimate_line(f"{group_text(group.name)}: {who}", _meaning(group), group.agreement)
            for group in pair.groups
            if first and len(pair.groups) > 1
        ]
    return lines


def _meaning(pair: PairGroup) -> str:
    kappa = "" if pair.kappa.value is None else f"; kappa {pair.kappa.value:.2f}"
    return f"{quantity(pair.images, 'image')} labelled by both{kappa}"


def _errors(found: AttributeConsensus, names: Sequence[str]) -> ErrorsTable:
    title = label_text(found.attribute)
    if found.latent is None:
        return ErrorsTable(title, NO_ESTIMATE.get(found.latent_missing or "", "No errors are estimated."), ())
    sentence = ASSUMED
    if not found.latent.settled:
        sentence += " Here other error rates fit the same decisions equally well, so these are uncertain."
    return ErrorsTable(title, sentence, _lines(found.latent, names))


def _lines(found: Latent, names: Sequence[str]) -> list[Line]:
    lines = []
    for reader in found.readers:
        who = names[reader.reader]
        lines.append(estimate_line(f"Wrong labels: {who}", "Share of the labels it gives.", reader.error))
        if len(found.shares) > MOST_LABELS:
            continue
        for shown, decisions in reader.rates.items():
            lines += [
                estimate_line(
                    f"{label_text(shown)} read as {label_text(decision)}: {who}", "Share of images that show it.", rate
                )
                for decision, rate in decisions.items()
                if decision not in (shown, NO_LABEL)
            ]
    lines += [
        estimate_line(f"Images that show {label_text(label)}", "Share, if readers err independently.", share)
        for label, share in found.shares.items()
    ]
    return lines
