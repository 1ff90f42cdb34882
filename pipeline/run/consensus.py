"""What several readers of one run agree on, and what their decisions say of each one's errors: `consensus` of metrics.json."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from allfour.pipeline.run.record import Count, Interval, Kappa, Record, Share


class Reader(Record):
    """One classifier that read the images."""

    name: str = ""
    """Of its run folder; empty for the run itself."""
    classifier: Any = None
    source: str = ""
    """Readers with the same weights have the same, whatever they were asked."""


class PairGroup(Record):
    """How far two readers agree on one list of prompts."""

    name: str
    images: Count = 0
    agreement: Interval = Field(default_factory=Interval)
    kappa: Kappa = Field(default_factory=Kappa)


class ReaderPair(PairGroup):
    """How far two readers agree."""

    name: str = ""
    first: Count = 0
    """Place among the readers."""
    second: Count = 0
    expected: Share = None
    """Agreement that the latent classes give; where the observed one is above it, the two err together."""
    groups: list[PairGroup] = Field(default_factory=list)


class ReaderErrors(Record):
    """What the latent classes say of one reader."""

    reader: Count = 0
    error: Interval = Field(default_factory=Interval)
    """Share of its labels that are wrong."""
    rates: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    """Label shown -> decision -> how often."""


class Latent(Record):
    """Estimates without labels, which hold where readers err independently of each other."""

    shares: dict[str, Interval] = Field(default_factory=dict)
    readers: list[ReaderErrors] = Field(default_factory=list)
    starts: Count = 0
    reached: Count = 0
    settled: bool = True


class AttributeConsensus(Record):
    """One attribute, over the images that all of its readers have read."""

    attribute: str
    labels: list[str] = Field(default_factory=list)
    readers: list[Count] = Field(default_factory=list)
    """Places of those that were asked this, in these labels."""
    images: Count = 0
    prompts: Count = 0
    disputed: Count = 0
    """Images to which two readers gave different labels."""
    pairs: list[ReaderPair] = Field(default_factory=list)
    latent: Latent | None = None
    latent_missing: str | None = None
    """Code of the reason why there is none."""


class Consensus(Record):
    """Several readers of the same images."""

    format: int = 1
    confidence: float = 0.95
    readers: list[Reader] = Field(default_factory=list)
    """The run itself first."""
    attributes: list[AttributeConsensus] = Field(default_factory=list)
    """The headline first."""
