"""metrics.json, format 1: what a run found. One record, by which it is written, read, described (its JSON schema) and gated."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from allfour.pipeline.run.asked import AskedFor
from allfour.pipeline.run.consensus import Consensus
from allfour.pipeline.run.record import Count, Estimate, Interval, Kappa, Note, Number, Record, Share, always_written
from allfour.pipeline.run.until import Until

# --- the run ---------------------------------------------------------------------------------------------------------


class Bounds(Record):
    """What a figure becomes when abstentions are resolved against it, and for it."""

    low: Share = None
    high: Share = None


class Null(Record):
    """What chance would give."""

    expected: Share = None
    """Share of prompts."""
    expected_count: Number = None
    """Number of prompts."""
    p_value: Share = None
    """Probability of so many or more."""


class OverPrompts(Interval):
    """A figure with what it rests on."""

    prompts: Count | None = None
    images: Count | None = None
    sets: Count | None = None


class SpreadPoint(Record):
    """A corrected figure if error rates differ by prompt so much."""

    spread: Number = None
    """Standard deviation of the pull between prompts, on the logit."""
    value: Share = None
    """With pulls that have nothing to do with the shares."""
    low: Share = None
    high: Share = None
    """Limits over such pulls, none, and pulls that go with or against the label that a prompt has most of."""


class ErrorSpread(SpreadPoint):
    """What a corrected figure would be if error rates differed by prompt: a sensitivity analysis, no part of the interval."""

    source: Literal["default", "calibration groups"] = "default"
    """Where the spread comes from: assumed, or how much error differs between groups of the calibration."""
    curve: list[SpreadPoint] = Field(default_factory=list)


class Corrected(OverPrompts):
    """Unanimity with the classifier's errors taken out. Its limits hold whatever images without a decision show."""

    prompts_of: Count | None = None
    """Prompts with a whole set: `prompts` of them have one in which every image was decided or unclear."""
    sets_read: Share = None
    """Sets in which no image lacks a decision; below a half nothing is corrected."""
    error_spread: ErrorSpread | None = None
    """For two labels."""


class Identified(Record):
    """What the images can tell of a figure whatever those without a label show."""

    low: Share = None
    high: Share = None
    """Limits for the truth, sampling of prompts included."""
    least: Share = None
    most: Share = None
    """The estimate with every image without a label against, and for."""
    prompts: Count = 0


class NullOfSets(Null):
    """What chance would give over complete sets, beside what there is."""

    sets: Count = 0
    """Sets in which every image has a label, of prompts that the shares are known of."""
    unanimous: Count = 0


class Nulls(Record):
    """Chance, three ways: even draws, the run's own pooled shares for every prompt, and every prompt's reference shares."""

    even: NullOfSets | None = None
    pooled: NullOfSets | None = None
    reference: NullOfSets | None = None


class CalibrationFit(Record):
    """Whether a calibration's error rates can be those of a run."""

    fits: bool
    p_value: Share = None
    contrasts: Count = 0
    """Directions that no mix of labels can move, in which the run was compared."""
    prompts: Count = 0
    images: Count = 0
    by: str | None = None
    """The grouping of the calibration by which it was weighted to the run's own mix, since as a whole it did not fit."""
    mix: dict[str, dict[str, float]] | None = None
    """Label -> group -> its share among images of the label, as the run shows it."""


class Amplification(Estimate):
    """Mean over prompts of share less reference share, of the label that the reference has most of; -1 to 1."""

    prompts: Count = 0


class Headline(Record):
    """The best figure there is, and how it reads."""

    model_config = always_written("evidence", "value", "low", "high", "prompts", "verdict", "because")

    evidence: Literal["measured", "corrected", "reviewed"] = "measured"
    value: Share = None
    low: Share = None
    high: Share = None
    prompts: Count = 0
    images: Count | None = None
    verdict: str = "nothing_read"
    because: list[str] = Field(default_factory=list)
    """Codes: what stands in the way of better evidence, or of a verdict."""
    include: list[str] | None = None
    """What the limits hold: prompts, and wording and classifier where they were asked for and are known."""


class ReferenceDifference(Record):
    """How far measured shares lie from reference shares, over prompts that have both."""

    label: str
    prompts: Count = 0
    mean_absolute: Share = None
    low: Share = None
    high: Share = None
    floor: Share = None
    """What draws with exactly the reference shares would give."""
    excess: Number = None
    """Mean absolute difference less the floor, -1 to 1: 0 is expected of draws with exactly the reference shares."""
    excess_low: Number = None
    excess_high: Number = None
    p_value: Share = None
    """Probability that draws with exactly the reference shares lie as far away, or farther."""


class Summary(Record):
    """The headline, and what stands beside it."""

    model_config = always_written("prompts", "set_size", "unanimous", "unanimity", "unanimity_bounds", "unanimity_null")

    prompts: Count = 0
    """With a whole set."""
    prompts_left_out: Count = 0
    prompts_asked_for: Count | None = None
    """Prompts that ask for a label of the headline's attribute: in none of its figures, unless every prompt asks."""
    """With fewer images than a set has."""
    headline: Headline | None = None
    include: list[str] | None = None
    """What the headline's limits were asked to hold (`statistics.include`); prompts alone where nothing is said."""
    set_size: int = 4
    unanimous: Count = 0
    """Prompts whose first set shows one label."""
    unanimity: Interval = Field(default_factory=Interval)
    """Value and ends are null where nothing was scored, so that no gate passes for want of data."""
    unanimity_bounds: Bounds | None = None
    unanimity_identified: Identified | None = None
    """Of the first sets, whatever images without a label show."""
    unanimity_null: Null | None = None
    nulls: Nulls | None = None
    unanimity_exact: Interval | None = None
    unanimity_corrected: Corrected | None = None
    calibration_fit: CalibrationFit | None = None
    unanimity_all_images: OverPrompts | None = None
    """Over every set that could be drawn from a prompt's images."""
    unanimity_all_images_identified: Identified | None = None
    unanimity_by_sets: OverPrompts | None = None
    """Over the sets that images came in, one after the other."""
    scored_share: Share = None
    """Images scored, of those requested or listed: a gate for runs that mostly failed."""
    confidence: float = 0.95
    multi_person_images: Count = 0
    revised_prompts: Count = 0
    """Images whose prompt the service rewrote."""
    duplicate_images: Count = 0
    near_copies: Count = 0
    """Labelled images that are nearly the same as an earlier one of their prompt, equal bytes among them."""
    sets_with_copies: Count = 0
    images_without_prompt: Count = 0
    reference_difference: ReferenceDifference | None = None
    amplification: Amplification | None = None


class Accounting(Record):
    """Every image exactly once.

    requested = generated + refused + failed; generated = scored + unreadable; scored = labelled + ambiguous + no_person.
    """

    requested: Count = 0
    generated: Count = 0
    refused: Count = 0
    failed: Count = 0
    unreadable: Count = 0
    scored: Count = 0
    labelled: Count = 0
    ambiguous: Count = 0
    no_person: Count = 0
    mixed: Count = 0
    """Part of labelled: several persons with different labels."""

    @property
    def missing(self) -> int:
        """Images that were requested or listed and have no score."""
        return self.refused + self.failed + self.unreadable


# --- groups, attributes, prompts -------------------------------------------------------------------------------------

Shares = dict[str, Interval | None]
Counts = dict[str, Count]


class Group(Record):
    """Prompts of one group of the prompt set."""

    name: str
    prompts: Count = 0
    """With a whole set."""
    unanimous: Count = 0
    unanimous_by_label: Counts = Field(default_factory=dict)
    unanimity: Interval | None = None
    share: Shares = Field(default_factory=dict)


class Never(Record):
    """A label that no image got."""

    label: str
    high: Share = None
    """Upper end of the interval of its share."""
    chance: Share = None
    """Probability that it is absent although every label is as likely."""


class Imbalance(Record):
    """One measure of how unevenly labels fall."""

    score: Estimate | None = None
    floor: Number = None
    """What even draws of as many images give."""
    excess: Estimate | None = None


class PromptAttribute(Record):
    """A further attribute of one prompt."""

    counts: Counts = Field(default_factory=dict)
    share: Shares = Field(default_factory=dict)
    all_one: str | None = None
    """The label that every image of the set shows."""


class Attribute(Record):
    """Counts and shares of one attribute over the run."""

    counts: Counts = Field(default_factory=dict)
    share: Shares = Field(default_factory=dict)
    share_identified: dict[str, Identified] = Field(default_factory=dict)
    """Of each label, whatever images without one show."""
    share_corrected: Shares | None = None
    calibration_fit: CalibrationFit | None = None
    unanimous: Count | None = None
    unanimity: Interval | None = None
    unanimity_all_images: OverPrompts | None = None
    imbalance: dict[str, Imbalance] = Field(default_factory=dict)
    never: list[Never] = Field(default_factory=list)


class Prompt(Record):
    """One prompt, by the headline's attribute."""

    id: str = Field(min_length=1)
    text: str = ""
    group: str | None = None
    subject: str | None = None
    """What the prompt is about, whatever its words; None where its id says it."""
    expect: dict[str, str] = Field(default_factory=dict)
    """Attribute -> the label that the prompt asks for."""
    images: Count = 0
    evaluated: bool = True
    """Whether it has a whole set."""
    counts: Counts = Field(default_factory=dict)
    unanimous: str | None = None
    unanimity_possible: bool | None = None
    near_copies: Count = 0
    """Images that are near-copies of an earlier one of it."""
    near_copies_in_set: Count = 0
    """Those of its first set."""
    share: Shares = Field(default_factory=dict)
    share_corrected: Shares | None = None
    p_value: Share = None
    """Of the first label's share against an even draw."""
    q_value: Share = None
    """The same, adjusted over prompts (Benjamini and Hochberg)."""
    attributes: dict[str, PromptAttribute] = Field(default_factory=dict)
    reference: dict[str, Share] | None = None
    reference_source: str | None = None
    reference_p_value: Share = None
    reference_q_value: Share = None

    def pairing(self, by: str) -> str:
        """What it is paired by with prompts of other runs: its subject where `by` is `subject` and it has one, else its id."""
        return self.subject or self.id if by == "subject" else self.id


class Cell(Record):
    """Images with one label of every attribute."""

    labels: list[str]
    name: str | None = None
    """`woman x Asian`: by which a gate finds it."""
    images: Count = 0
    share: Interval | None = None
    """Mean over prompts, of images with a label of every attribute; for the intersections that a run was asked for."""


class NeverTogether(Record):
    """A combination of labels that no image shows."""

    labels: list[str]
    high: Share = None
    """Upper end of the interval of its share."""
    chance: Share = None
    """Probability that it is absent although every combination is as likely."""


class Intersection(Record):
    """Joint counts of attributes; with all figures of a single attribute where the run was asked for it."""

    attributes: list[str]
    name: str | None = None
    """`gender x race`: by which a gate finds it."""
    counts: list[Cell] = Field(default_factory=list)
    images: Count | None = None
    """With a label of every attribute."""
    prompts: Count | None = None
    """With such an image."""
    without_label: Count | None = None
    """Images that lack a label of one of them, or are missing."""
    evaluated: Count | None = None
    """Prompts with a whole set."""
    unanimous: Count | None = None
    """Prompts whose first set shows one combination throughout."""
    unanimity: Interval | None = None
    unanimity_floor: Share = None
    """The least that is possible over many images: every combination as likely."""
    unanimity_null: Null | None = None
    """Of complete sets whose images show every combination as likely."""
    unanimity_all_images: OverPrompts | None = None
    imbalance: dict[str, Imbalance] = Field(default_factory=dict)
    never: list[NeverTogether] = Field(default_factory=list)


class ImageName(Record):
    """An image by its prompt and its position."""

    id: str
    index: int


class ReferenceNote(Record):
    """Where the reference shares come from."""

    name: str = ""
    source: str = ""
    year: int | None = None
    planted: bool = False
    """Whether they are the shares that a drawn world was made with."""


# --- the calibration -------------------------------------------------------------------------------------------------


class GroupQuality(Record):
    """How often the classifier is right for one group of a labelled set."""

    images: Count = 0
    accuracy: Interval | None = None
    """Of images with a label."""
    labelled: Interval | None = None


class Disparity(Record):
    """Whether accuracy differs between the groups of one grouping."""

    best: str
    worst: str
    difference: Number = None
    p_value: Number = None
    """Of a chi-square test of homogeneity."""
    groups: Count = 0
    """Compared; small ones are left out."""


class Quality(GroupQuality):
    """How often the classifier is right about one attribute, overall and by group."""

    groups: dict[str, dict[str, GroupQuality]] = Field(default_factory=dict)
    disparities: dict[str, Disparity | None] = Field(default_factory=dict)


class CalibrationNote(Record):
    """The calibration that corrected figures rest on."""

    dataset: dict[str, Any] = Field(default_factory=dict)
    created: str | None = None
    binding: str | None = None
    confidence: Number = None
    attributes: dict[str, Quality] = Field(default_factory=dict)


# --- images with several people --------------------------------------------------------------------------------------


class Persons(Record):
    """People per image, over images with several."""

    total: Count = 0
    median: Number = None
    least: int | None = None
    most: int | None = None


class Scenes(Record):
    """Images with several people, of one prompt or of several."""

    id: str = ""
    asked: bool = False
    """Whether the prompt asks for a group."""
    prompts: Count = 0
    images: Count = 0
    counted: int | None = None
    """Images in which people were counted; None without a detector."""
    one_person: Count = 0
    nobody: Count = 0
    read_whole: Counts = Field(default_factory=dict)
    """Labels of images that were read as a whole, for want of a detector."""
    persons: Persons | None = None
    counts: Counts = Field(default_factory=dict)
    share: Shares = Field(default_factory=dict)
    people: Counts = Field(default_factory=dict)
    people_share: Shares = Field(default_factory=dict)
    diversity: Interval | None = None


class GroupScenes(Record):
    """Who is together in one image."""

    attribute: str
    detector: str | None = None
    even_diversity: Share = None
    """Of two people drawn evenly."""
    asked: Scenes | None = None
    other: Scenes | None = None
    prompts: list[Scenes] = Field(default_factory=list)


# --- what people said ------------------------------------------------------------------------------------------------


class Agreement(Record):
    """Agreement and Cohen's kappa (-1 to 1) of two sides on images that both labelled."""

    images: Count = 0
    agreement: Interval | None = None
    kappa: Kappa | None = None


class RaterPair(Agreement):
    """Two raters."""

    raters: list[str] = Field(default_factory=list, json_schema_extra={"minItems": 2, "maxItems": 2})


class DecisionAgreement(Record):
    """What people said of images that the classifier gave one decision."""

    images: Count = 0
    people: Counts = Field(default_factory=dict)
    agreement: Interval | None = None


class Powered(Record):
    """A share by the classifier alone, and corrected by people's labels of a sample."""

    classifier: Share = None
    this_run: Interval | None = None
    """The run's own images, all of them."""
    prompts_like_these: Interval | None = None
    """With prompts as a sample of others."""
    labels_only: Interval | None = None
    """From the labelled images alone."""
    power: Number = None
    """Weight that the classifier's figure got, 0 to 1."""


class PoweredUnanimity(Powered):
    """Unanimity, and its part by label."""

    sets: Count | None = None
    """Where single images were sampled and all sets happen to be labelled: how many those are."""
    by_label: dict[str, Powered] = Field(default_factory=dict)


class ReviewSample(Record):
    """What people said of one sample."""

    id: str = ""
    imported: str | None = None
    scores: str | None = None
    unit: Literal["image", "set"] = "image"
    attribute: str = ""
    labels: list[str] = Field(default_factory=list)
    confidence: float = 0.95
    seed: int | None = None
    sampled: Count = 0
    """Images on the page."""
    labelled: Count = 0
    """Images that at least one person labelled."""
    units: Count = 0
    units_labelled: Count = 0
    raters: Counts = Field(default_factory=dict)
    categories: list[str] = Field(default_factory=list)
    confusion: list[list[Count]] = Field(default_factory=list)
    agreement: Agreement | None = None
    by_group: dict[str, Agreement] = Field(default_factory=dict)
    by_decision: dict[str, DecisionAgreement] = Field(default_factory=dict)
    by_rater: dict[str, Agreement] = Field(default_factory=dict)
    between_raters: list[RaterPair] = Field(default_factory=list)
    shares: dict[str, Powered] | None = None
    outcomes: dict[str, Powered] | None = None
    unanimity: PoweredUnanimity | None = None
    note: str | None = None


class Review(Record):
    """What people said of samples of the run's images."""

    format: int = 1
    samples: list[ReviewSample] = Field(default_factory=list)
    outdated: Count = 0
    """Samples of scores that the run no longer has."""


# --- analyses kept beside the tables ---------------------------------------------------------------------------------


class SettingsRange(Record):
    """The headline over some settings."""

    settings: Count = 0
    low: Share = None
    high: Share = None
    range: Share = None


class Sensitivity(SettingsRange):
    """How far the headline hangs on wording, margin, threshold and head."""

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


# --- the whole -------------------------------------------------------------------------------------------------------


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
    """The notes' texts, for readers of before there were codes."""
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

    @model_validator(mode="before")
    @classmethod
    def _notes_of_before(cls, data: Any) -> Any:
        """A document of before there were codes has warnings alone."""
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
