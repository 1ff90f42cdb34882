"""comparison.json, format 1: what a comparison found. One record, by which it is written, read, described (its JSON schema) and gated."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from allfour.pipeline.run.asked import AskedInRuns
from allfour.pipeline.run.metrics import Accounting, Counts, Shares, Summary, Withheld
from allfour.pipeline.run.record import Count, Estimate, Interval, Number, Record, Share, always_written, finite

Signed = Annotated[
    float | None, BeforeValidator(finite), WithJsonSchema({"type": ["number", "null"], "minimum": -1, "maximum": 1})
]
"""A difference of shares, -1 to 1; None where there is nothing to tell it from."""

# --- differences -----------------------------------------------------------------------------------------------------


class Equivalence(Record):
    """Whether a difference is shown to be smaller than a stated margin (two one-sided tests)."""

    margin: Share = None
    p_value: Share = None
    p_adjusted: Share = None
    """The same, adjusted over the pairs of the comparison (Holm)."""
    shown: bool = False


class Difference(Estimate):
    """Second run less first, mean over prompts."""

    model_config = always_written("value", "low", "high")

    value: Signed = None
    low: Signed = None
    high: Signed = None
    p_value: Share = None
    """Two-sided, that there is no difference; null without prompts."""
    q_value: Share = None
    """Adjusted over the labels of all further attributes (Benjamini and Hochberg)."""
    prompts: Count = 0
    test: str | None = None
    """`mcnemar`, `sign-flip`, `dealt`, or `confidence`: the confidence distribution behind the limits."""
    first: Number = None
    second: Number = None
    """Mean of either run."""
    equivalence: Equivalence | None = None


class DifferenceBounds(Record):
    """A difference whatever images without a label show."""

    least: Signed = None
    most: Signed = None
    low: Signed = None
    high: Signed = None
    """Limits for the truth."""


class PairHeadline(Record):
    """The difference that leads, how it reads, and why the evidence is no better."""

    evidence: Literal["measured", "corrected"] = "measured"
    figure: str = "unanimity_difference"
    """Key of the summary that it is."""
    value: Signed = None
    low: Signed = None
    high: Signed = None
    p_value: Share = None
    p_adjusted: Share = None
    """Adjusted over the pairs of the comparison (Holm)."""
    prompts: Count = 0
    verdict: str = "too_few_prompts"
    because: list[str] = Field(default_factory=list)
    """Codes: why nothing was corrected, and what may make a difference of its own."""
    explained_by_error: Share = None
    """How much more often the run that seems less unanimous would have to be read wrongly for that alone to make the difference."""


class Move(Record):
    """Prompts by what their first set shows in either run."""

    first: str | None = None
    second: str | None = None
    prompts: Count = 0


class Moves(Record):
    """Prompts with a whole first set in both runs, by whether it is unanimous."""

    prompts: Count = 0
    first: Count = 0
    second: Count = 0
    both: Count = 0
    gained: Count = 0
    lost: Count = 0
    turned: Count = 0
    moves: list[Move] = Field(default_factory=list)


class Change(Record):
    """How far a prompt's shares moved, whichever way."""

    value: Share = None
    floor: Share = None
    """What sampling alone would show."""
    p_value: Share = None
    prompts: Count = 0


class PairSummary(Record):
    """Two runs over the prompts that both have."""

    model_config = always_written("prompts", "unanimous", "unanimity_difference")

    headline: PairHeadline | None = None
    prompts: Count = 0
    prompts_left_out: Count = 0
    set_size: int = 4
    unanimous: Moves = Field(default_factory=Moves)
    unanimity_difference: Difference = Field(default_factory=Difference)
    """Of each prompt's first set."""
    unanimity_all_images_difference: Difference = Field(default_factory=Difference)
    """Of every set that could be drawn from a prompt's images."""
    unanimity_bounds_difference: DifferenceBounds | None = None
    unanimity_corrected_difference: Difference | None = None
    """The same without either classifier's errors; null without a calibration on both sides."""
    share_difference: dict[str, Difference] = Field(default_factory=dict)
    share_corrected_difference: dict[str, Difference] | None = None
    unlabelled_difference: Difference | None = None
    """Of the share of scored images without a label."""
    refused_difference: Difference | None = None
    """Of the rate of refused images; null where neither run was refused any."""
    failed_difference: Difference | None = None
    mean_absolute_change: Change = Field(default_factory=Change)
    changed_prompts: Count = 0
    near_copies: list[Count] | None = None
    """Images left out of either run because they are near-copies of an earlier one of their prompt."""


class Side(Record):
    """One run's part of a prompt."""

    id: str | None = None
    """Of its prompt; None of earlier versions, where both runs have the same."""
    text: str | None = None
    images: Count = 0
    evaluated: bool = True
    unanimous: str | None = None
    counts: Counts = Field(default_factory=dict)
    share: Shares = Field(default_factory=dict)
    near_copies: Count = 0
    """Images that are in no share and no test here."""


class PromptPair(Record):
    """One prompt in both runs."""

    rank: Count = 0
    id: str
    text: str = ""
    group: str | None = None
    change: Share = None
    difference: dict[str, Difference] = Field(default_factory=dict)
    p_value: Share = None
    q_value: Share = None
    first: Side = Field(default_factory=Side)
    second: Side = Field(default_factory=Side)


class AttributeDifference(Record):
    """A further attribute."""

    share_difference: dict[str, Difference] = Field(default_factory=dict)


class Pair(Record):
    """One further run against the first."""

    name: str
    first: str
    second: str
    summary: PairSummary
    attributes: dict[str, AttributeDifference] = Field(default_factory=dict)
    prompts: list[PromptPair] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


# --- references ------------------------------------------------------------------------------------------------------


class Distance(Interval):
    """Mean absolute difference of shares from reference shares, with what chance alone gives."""

    floor: Share = None
    excess: Signed = None
    """Less the floor: unbiased where shares are the reference's."""
    excess_low: Signed = None
    excess_high: Signed = None
    p_value: Share = None
    """That draws with exactly the reference shares lie as far away."""


class ReferenceSummary(Record):
    """A run beside reference shares of one attribute."""

    label: str = ""
    prompts: Count = 0
    prompts_without: Count = 0
    mean_absolute_difference: Distance = Field(default_factory=Distance)
    share_difference: dict[str, Difference] = Field(default_factory=dict)
    differing_prompts: Count = 0
    further_from_even: Count = 0


class ReferencePrompt(Record):
    """One prompt beside its reference."""

    id: str
    text: str = ""
    images: Count = 0
    share: Shares = Field(default_factory=dict)
    reference: dict[str, Share] = Field(default_factory=dict)
    difference: Signed = None
    distance: Share = None
    p_value: Share = None
    q_value: Share = None
    source: str = ""


class ReferenceSource(Record):
    """Where reference shares are from."""

    name: str = ""
    source: str = ""
    year: int | None = None


class AgainstReference(Record):
    """A run beside a reference."""

    name: str
    reference: ReferenceSource = Field(default_factory=ReferenceSource)
    summary: ReferenceSummary = Field(default_factory=ReferenceSummary)
    attributes: dict[str, ReferenceSummary] = Field(default_factory=dict)
    prompts: list[ReferencePrompt] = Field(default_factory=list)


# --- the whole -------------------------------------------------------------------------------------------------------


class RunNote(Record):
    """One of the runs."""

    name: str
    title: str | None = None
    created: str | None = None
    finished: str | None = None
    generator: Any = None
    source: Any = None
    classifier: Any = None
    summary: Summary = Field(default_factory=Summary)
    accounting: Accounting = Field(default_factory=Accounting)
    withheld: Withheld | None = None
    calibration: str | None = None
    """Name of the data set behind the calibration that it was compared with."""
    doubts: list[str] = Field(default_factory=list)
    """Codes: why that calibration, or the want of one, corrects nothing."""


class ComparisonSummary(PairSummary):
    """That of the first pair, and what the last run's distance from the reference is."""

    reference_difference: Distance | None = None


class Comparison(Record):
    """The whole of comparison.json. Keys may be added in later versions and are never renamed."""

    model_config = always_written("format", "headline", "labels", "summary", "runs", "comparisons", "references")

    format: Literal[1]
    created: str | None = None
    headline: str = "gender"
    """The attribute that is compared."""
    labels: dict[str, list[str]] = Field(default_factory=dict)
    set_size: int = 4
    confidence: float = 0.95
    summary: ComparisonSummary = Field(default_factory=ComparisonSummary)
    runs: list[RunNote] = Field(default_factory=list)
    comparisons: list[Pair] = Field(default_factory=list)
    references: list[AgainstReference] = Field(default_factory=list)
    asked_for: list[AskedInRuns] = Field(default_factory=list)
    """Prompts that ask for a label of the headline's attribute: in no figure."""
