"""What a run made in rounds says of how it stopped: a part of metrics.json, and RUN/until.json."""

from __future__ import annotations

from pydantic import Field

from allfour.pipeline.run.record import Count, Interval, Record


class Look(Record):
    """What was known after one round."""

    prompts: Count = 0
    images: Count = 0
    """Requested so far."""
    figures: dict[str, Interval] = Field(default_factory=dict)
    """Limits that hold at all looks at once, by figure."""


class Until(Record):
    """Why a run made in rounds stopped."""

    expression: str
    settled: bool = False
    """Whether the question was settled; False where the prompts came to an end before."""
    because: str = ""
    prompts: Count = 0
    prompts_listed: Count = 0
    confidence: float = 0.95
    figures: dict[str, Interval] = Field(default_factory=dict)
    """As at the last look."""
    looks: list[Look] = Field(default_factory=list)
