"""What metrics.json says of samples that people labelled: `review`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allfour.pipeline.run.breakdown import Counts
from allfour.pipeline.run.record import Count, Interval, Kappa, Number, Record, Share


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
