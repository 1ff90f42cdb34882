"""metrics.json, format 1: what a run found. One record, by which it is written, read, described (its JSON schema) and gated."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from allfour.pipeline.run.asked import AskedFor
from allfour.pipeline.run.breakdown import (
    Attribute,
    CalibrationNote,
    Cell,
    Counts,
    Disparity,
    Group,
    GroupQuality,
    GroupScenes,
    ImageName,
    Imbalance,
    Intersection,
    Never,
    NeverTogether,
    Persons,
    Prompt,
    PromptAttribute,
    Quality,
    ReferenceNote,
    Scenes,
    Shares,
)
from allfour.pipeline.run.consensus import Consensus
from allfour.pipeline.run.each import Each
from allfour.pipeline.run.record import Count, Interval, Kappa, Note, Record, Share, always_written
from allfour.pipeline.run.reviewed import (
    Agreement,
    DecisionAgreement,
    Powered,
    PoweredUnanimity,
    RaterPair,
    Review,
    ReviewSample,
)
from allfour.pipeline.run.summary import (
    Accounting,
    Amplification,
    Bounds,
    CalibrationFit,
    Corrected,
    ErrorSpread,
    Headline,
    Identified,
    Null,
    NullOfSets,
    Nulls,
    OverPrompts,
    ReferenceDifference,
    SpreadPoint,
    Summary,
)
from allfour.pipeline.run.until import Until

__all__ = [
    "Accounting",
    "Against",
    "AgainstPrompt",
    "AgainstSummary",
    "Agreement",
    "Amplification",
    "Attribute",
    "Bounds",
    "CalibrationFit",
    "CalibrationNote",
    "Cell",
    "CommonImages",
    "Confusion",
    "Corrected",
    "Counts",
    "DecisionAgreement",
    "Disparity",
    "ErrorSpread",
    "Group",
    "GroupQuality",
    "GroupRate",
    "GroupScenes",
    "Headline",
    "Identified",
    "ImageName",
    "Imbalance",
    "Intersection",
    "Metrics",
    "Never",
    "NeverTogether",
    "Note",
    "Null",
    "NullOfSets",
    "Nulls",
    "OpinionUnanimity",
    "OverPrompts",
    "Persons",
    "Powered",
    "PoweredUnanimity",
    "Prompt",
    "PromptAttribute",
    "PromptRate",
    "Quality",
    "RaterPair",
    "Rates",
    "ReferenceDifference",
    "ReferenceNote",
    "Review",
    "ReviewSample",
    "Rewriting",
    "RewrittenCategory",
    "RewrittenWord",
    "Scenes",
    "SecondOpinion",
    "Sensitivity",
    "SettingsRange",
    "Shares",
    "SpreadPoint",
    "Summary",
    "TwoUnanimities",
    "Withheld",
]
"""The records of the document, wherever they stand: this module is the door to all of them."""

# --- analyses kept beside the tables ---------------------------------------------------------------------------------


class SettingsRange(Record):
    """The headline over some settings."""

    settings: Count = 0
    low: Share = None
    high: Share = None
    range: Share = None


class Sensitivity(SettingsRange):
    """How far the headline depends on wording, margin, threshold and head."""

    fingerprint: str = ""
    baseline: Interval | None = None
    moved_most: str | None = None
    """The factor with the largest range."""
    factors: dict[str, SettingsRange] = Field(default_factory=dict)
    combined: SettingsRange | None = None
    wordings: Count = 0
    """Settings that differ in templates or phrases alone, the run's own among them."""
    wording_sd: Share = None
    """Standard deviation of the headline over these."""


class CommonImages(Record):
    """Images that two classifiers read."""

    common: Count = 0
    both_decided: Count = 0
    only_first: Count = 0
    only_second: Count = 0
    neither: Count = 0


class Confusion(Record):
    """Decisions of one classifier by decisions of another."""

    decisions: list[str] = Field(default_factory=list)
    counts: list[list[Count]] = Field(default_factory=list)
    """[first, second]."""


class OpinionUnanimity(Record):
    """Unanimity by one of two classifiers."""

    unanimous: Count = 0
    unanimity: Interval = Field(default_factory=Interval)


class TwoUnanimities(Record):
    """Unanimity by either classifier, over the same sets."""

    prompts: Count = 0
    prompts_left_out: Count = 0
    first: OpinionUnanimity = Field(default_factory=OpinionUnanimity)
    second: OpinionUnanimity = Field(default_factory=OpinionUnanimity)
    both: Count = 0


class SecondOpinion(Record):
    """Another classifier over the same images."""

    format: int = 1
    name: str = ""
    classifier: Any = None
    same_encoder: bool = False
    attribute: str = ""
    labels: list[str] = Field(default_factory=list)
    confidence: float = 0.95
    images: CommonImages = Field(default_factory=CommonImages)
    agreement: Interval = Field(default_factory=Interval)
    kappa: Kappa = Field(default_factory=Kappa)
    confusion: Confusion = Field(default_factory=Confusion)
    unanimity: TwoUnanimities = Field(default_factory=TwoUnanimities)


class AgainstPrompt(Record):
    """One prompt in another run."""

    model_config = always_written("images", "share")

    images: Count = 0
    share: Shares = Field(default_factory=dict)


class AgainstSummary(Record):
    """The other run over the prompts that both runs have."""

    prompts: Count = 0
    unanimous: Count = 0
    unanimity: Interval | None = None


class Against(Record):
    """Another run of the same prompts, to be marked beside this one's."""

    name: str = ""
    created: str | None = None
    attribute: str = ""
    labels: list[str] = Field(default_factory=list)
    confidence: float = 0.95
    shared: Count = 0
    """Prompts that both runs have."""
    prompts_without: Count = 0
    summary: AgainstSummary = Field(default_factory=AgainstSummary)
    prompts: dict[str, AgainstPrompt] = Field(default_factory=dict)
    """By prompt id."""


# --- what was not made, and what was rewritten ----------------------------------------------------------------------


class GroupRate(Record):
    """How often images of one kind came in a group of prompts."""

    prompts: Count = 0
    images: Count = 0
    requested: Count = 0
    rate: Interval = Field(default_factory=Interval)
    """Mean over prompts."""


class PromptRate(Record):
    """The same of one prompt."""

    id: str
    images: Count = 0
    requested: Count = 0
    rate: Interval = Field(default_factory=Interval)


class Rates(Record):
    """How often images were refused, or failed."""

    images: Count = 0
    requested: Count = 0
    rate: Interval = Field(default_factory=Interval)
    """Mean over prompts."""
    groups: dict[str, GroupRate] = Field(default_factory=dict)
    p_value: Share = None
    """Of a permutation of prompts between groups: that all groups have one rate."""
    prompts: list[PromptRate] = Field(default_factory=list)
    """Those with any, the highest rates first; 50 at most."""


class RewrittenWord(Record):
    """Images in whose prompt a word was put in, or taken out."""

    word: str
    added: Count = 0
    taken: Count = 0


class RewrittenCategory(Record):
    """Words of one category."""

    added: Interval = Field(default_factory=Interval)
    """Share of images whose prompt got one that was not in it, as a mean over prompts."""
    taken: Interval = Field(default_factory=Interval)
    images_added: Count = 0
    images_taken: Count = 0
    words: list[RewrittenWord] = Field(default_factory=list)


class Rewriting(Record):
    """What a service made of the prompts, where it says so."""

    images: Count = 0
    """With a rewritten prompt on record."""
    changed: Count = 0
    """Of these, with another text than was given."""
    prompts: Count = 0
    lists: str = ""
    categories: dict[str, RewrittenCategory] = Field(default_factory=dict)


class Withheld(Record):
    """Refusals, failures and rewriting."""

    refused: Rates = Field(default_factory=Rates)
    failed: Rates = Field(default_factory=Rates)
    rewriting: Rewriting | None = None


# --- the whole -------------------------------------------------------------------------------------------------------


class Metrics(Record):
    """The whole of metrics.json. Keys may be added in later versions and are never renamed; labels are names, never codes."""

    model_config = always_written("format", "headline", "labels", "summary", "accounting", "attributes", "prompts")

    format: Literal[1]
    headline: str = "gender"
    """The attribute whose unanimity is the headline."""
    labels: dict[str, list[str]] = Field(default_factory=dict)
    summary: Summary = Field(default_factory=Summary)
    accounting: Accounting = Field(default_factory=Accounting)
    groups: list[Group] = Field(default_factory=list)
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    intersections: list[Intersection] = Field(default_factory=list)
    prompts: list[Prompt] = Field(default_factory=list)
    duplicates: list[list[ImageName]] = Field(default_factory=list)
    """Groups of images with identical bytes."""
    reference: ReferenceNote | None = None
    calibration: CalibrationNote | None = None
    notes: list[Note] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    """The notes' texts, for readers from before there were codes."""
    group_scenes: GroupScenes | None = None
    withheld: Withheld | None = None
    asked_for: dict[str, AskedFor] | None = None
    """Attribute -> what came of the labels that prompts ask for in so many words."""
    review: Review | None = None
    sensitivity: Sensitivity | None = None
    second_opinion: SecondOpinion | None = None
    consensus: Consensus | None = None
    against: Against | None = None
    until: Until | None = None
    """Of a run made in rounds."""
    each: Each | None = None
    """Of a run that asked each prompt a question of its own."""

    @model_validator(mode="before")
    @classmethod
    def _notes_of_before(cls, data: Any) -> Any:
        """A document from before there were codes has only warnings."""
        if isinstance(data, dict) and "notes" not in data and isinstance(data.get("warnings"), list):
            return {**data, "notes": [{"code": "uncoded", "text": str(text)} for text in data["warnings"]]}
        return data

    def noted(self, *notes: Note) -> Metrics:
        """The same with further notes."""
        return self.with_notes([*self.notes, *notes])

    def with_notes(self, notes: list[Note]) -> Metrics:
        """The same with these notes, and no others."""
        return self.model_copy(update={"notes": notes, "warnings": [note.text for note in notes]})

    @property
    def headline_prompts(self) -> list[Prompt]:
        """Those that the headline rests on: all but prompts that ask for one of its labels, or all where every prompt does."""
        return [prompt for prompt in self.prompts if self.headline not in prompt.expect] or self.prompts

    @property
    def headline_labels(self) -> tuple[str, ...]:
        """Labels of the headline attribute, in the attribute file's order."""
        named = self.labels.get(self.headline)
        if named:
            return tuple(named)
        seen: dict[str, None] = {}
        for prompt in self.prompts:
            seen.update(dict.fromkeys(prompt.share))
        return tuple(seen) or ("woman", "man")
