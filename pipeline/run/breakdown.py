"""What metrics.json says by group, attribute, prompt and combination of labels, and of scenes; and of the calibration."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from allfour.pipeline.run.record import Count, Estimate, Interval, Number, Record, Share
from allfour.pipeline.run.summary import CalibrationFit, Identified, Null, OverPrompts

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
