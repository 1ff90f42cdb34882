"""What `--each` found: whether each prompt's own question is settled, by its images of this run and by those made for it beyond them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from allfour.pipeline.run.record import Count, Interval, Record

FOLDER = "each"
"""Of the tables of such images, under the run folder."""

EachState = Literal["settled", "most", "out_of_reach", "open"]
"""settled: the question holds. most: the prompt has all images that it may have. out_of_reach: not even with all of them could it be
settled. open: it could go on, and the command was stopped before."""


class EachPrompt(Record):
    """One prompt."""

    id: str
    state: EachState = "open"
    settled: str | None = None
    """The comparisons that hold; None where the question is not settled."""
    images: Count = 0
    """Requested, those of the run among them."""
    more: Count = 0
    """Requested beyond those of the run: they are in no other figure."""
    counts: dict[str, Count] = Field(default_factory=dict)
    """Label -> images, of all that are draws of their own."""
    copies: Count = 0
    """Images with a label that are near-copies of an earlier one: in no count here."""
    figures: dict[str, Interval] = Field(default_factory=dict)
    """Shares that the question names. All prompts' limits hold at all looks at once."""


class Each(Record):
    """All prompts of a run whose own question was asked."""

    expression: str
    up_to: Count = 0
    """Images that a prompt may have."""
    confidence: float = 0.95
    """Of the limits of all prompts together, at all looks."""
    level: float = 0.0
    """By Bonferroni over prompts: the chance that the limits of one of them are wrong at any look is at most this."""
    asked: Count = 0
    """Prompts that it is asked of: those that ask for a label of the headline's attribute are none."""
    settled: Count = 0
    more: Count = 0
    """Images requested beyond those of the run."""
    missing: Count = 0
    """Of these, refused, failed or not readable."""
    stopped: str | None = None
    """Why the command ended before every prompt was through; None where it did not."""
    because: str = ""
    prompts: list[EachPrompt] = Field(default_factory=list)
