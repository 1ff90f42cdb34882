"""What prompts asked for in so many words, and what came of it: a part of metrics.json, and of the header that it is measured from."""

from __future__ import annotations

from pydantic import Field

from allfour.pipeline.run.record import Count, Estimate, Interval, Record, Share


class AskedPrompt(Record):
    """What a prompt set says of a prompt beside its text, as the header keeps it."""

    subject: str | None = None
    expect: dict[str, str] = Field(default_factory=dict)


class AskedSide(Record):
    """What one run shows of a label that a prompt asks for."""

    run: str
    shown: Count = 0
    images: Count = 0
    """Requested."""


class AskedInRuns(Record):
    """A prompt that asks for a label of the headline's attribute, and so is in no figure of a comparison."""

    id: str
    text: str = ""
    label: str
    """What it asks for."""
    sides: list[AskedSide] = Field(default_factory=list)
    """Of the runs that have it."""


class AskedLabel(Record):
    """Images of the prompts that ask for one label. The five rates are means over prompts of shares of all requested images, and add
    up to 1."""

    prompts: Count = 0
    images: Count = 0
    """Requested."""
    counts: dict[str, Count] = Field(default_factory=dict)
    """Images by what came of them: shown, other, unclear, refused, failed."""
    shown: Interval = Field(default_factory=Interval)
    other: Interval = Field(default_factory=Interval)
    """Another label of the same attribute is shown: what was asked for was overridden, or the classifier errs."""
    unclear: Interval = Field(default_factory=Interval)
    """No label: no person, between labels, several persons with different labels, or not readable."""
    refused: Interval = Field(default_factory=Interval)
    failed: Interval = Field(default_factory=Interval)
    shown_of_labelled: Interval = Field(default_factory=Interval)


class AskedDifference(Record):
    """Two labels that prompts ask for, over the subjects that have prompts for both: a counterfactual pair each."""

    first: str
    second: str
    subjects: Count = 0
    shown: Estimate = Field(default_factory=Estimate)
    """Rate at which the second is shown where it is asked for, less the same of the first."""
    shown_p_value: Share = None
    """Of a sign-flip test over subjects, adjusted over all pairs of labels (Holm)."""
    refused: Estimate = Field(default_factory=Estimate)
    refused_p_value: Share = None


class AskedFor(Record):
    """One attribute that prompts ask for labels of."""

    labels: dict[str, AskedLabel] = Field(default_factory=dict)
    differences: list[AskedDifference] = Field(default_factory=list)
    shown_p_value: Share = None
    """Of a permutation of prompts between labels: that each is shown as often where it is asked for."""
    refused_p_value: Share = None
