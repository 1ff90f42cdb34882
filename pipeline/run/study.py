"""study.json, format 1: what was found over the cells of a study, or over the runs of a comparison of many."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from allfour.pipeline.run.asked import AskedInRuns
from allfour.pipeline.run.metrics import Accounting, Headline
from allfour.pipeline.run.record import Count, Estimate, Interval, Note, Number, Record, Share


class StudyCell(Record):
    """One run of the study."""

    name: str
    """Of its folder."""
    path: str
    """Relative to study.json where it lies beside it."""
    generator: str = ""
    prompts: str = ""
    classifier: str = ""
    title: str = ""
    """The model, for people."""
    state: Literal["done", "failed", "not started"] = "done"
    error: str | None = None
    headline: Headline | None = None
    set_size: int = 4
    accounting: Accounting | None = None
    spent: dict[str, Any] | None = None


class Ranked(Record):
    """One run on a board."""

    cell: str
    level: str
    """Its name on the board's axis."""
    unanimity: Interval = Field(default_factory=Interval)
    """Over all sets that could be drawn, as a mean over the board's units."""
    share: Interval = Field(default_factory=Interval)
    """Of the first label, as a mean over units."""
    rank: Count = 1
    """By the estimate; 1 has the fewest sets of one kind."""
    rank_low: Count = 1
    rank_high: Count = 1
    refused: Share = None
    """Of the requested images."""


class PairOfRuns(Record):
    """The second less the first, over the units that the whole board has."""

    first: str
    second: str
    """Levels."""
    unanimity: Estimate = Field(default_factory=Estimate)
    p_value: Share = None
    adjusted: Share = None
    """Over all pairs of all boards (Holm)."""
    share: Estimate = Field(default_factory=Estimate)
    share_p_value: Share = None
    share_adjusted: Share = None
    apart: bool = False
    """Whether unanimity differs at 5% over all pairs at once."""


class Unit(Record):
    """A subject, or a prompt: a row of the heat map."""

    key: str
    texts: list[str] = Field(default_factory=list)
    """Of each run, where they differ; else one."""
    group: str | None = None
    shares: list[Number] = Field(default_factory=list)
    """Of the first label, by run; null where no image has a label."""
    unanimous: list[Number] = Field(default_factory=list)
    """Share of all sets that show one label, by run."""
    labels: list[str | None] = Field(default_factory=list)
    """What the first set of each run shows throughout."""


class Board(Record):
    """Runs that differ along one axis alone, and can be set side by side."""

    axis: Literal["generator", "prompts", "classifier"]
    fixed: dict[str, str] = Field(default_factory=dict)
    """The other axes -> their levels."""
    levels: list[str] = Field(default_factory=list)
    runs: list[Ranked] = Field(default_factory=list)
    """From the fewest sets of one kind to the most."""
    pairs: list[PairOfRuns] = Field(default_factory=list)
    alike: list[list[str]] = Field(default_factory=list)
    """The largest groups of levels no two of which can be told apart."""
    units: list[Unit] = Field(default_factory=list)
    units_left_out: Count = 0
    """That some run of the board lacks."""
    notes: list[Note] = Field(default_factory=list)


class StudyResult(Record):
    """The whole of study.json."""

    format: Literal[1] = 1
    name: str
    created: str | None = None
    notice: str | None = None
    headline: str = "gender"
    labels: list[str] = Field(default_factory=list)
    confidence: float = 0.95
    pair_by: Literal["id", "subject"] = "id"
    axes: dict[str, list[str]] = Field(default_factory=dict)
    cells: list[StudyCell] = Field(default_factory=list)
    boards: list[Board] = Field(default_factory=list)
    tests: Count = 0
    """Pairs that were tested together."""
    asked_for: list[AskedInRuns] = Field(default_factory=list)
    """Prompts that ask for a label of the headline's attribute: on no board."""
    notes: list[Note] = Field(default_factory=list)
