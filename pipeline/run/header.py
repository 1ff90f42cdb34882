"""run.json, format 1: what a run was made with, and which of its stages are done."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from allfour.pipeline.run.asked import AskedPrompt
from allfour.pipeline.run.record import FORMAT, Record

PICKED_KIND = "each"
"""Of RUN/each, whose images were made for prompts that were picked by what they had shown."""


class Stage(Record):
    """A stage that is done: its table stands, made from inputs and a config of this fingerprint."""

    fingerprint: str | None = None
    seconds: float | None = None
    finished: str | None = None
    tables: dict[str, str] | None = None
    """File name -> sha256 of each table that it wrote; None of earlier versions."""
    images: int | None = None
    rows: int | None = None
    """Of scores.parquet."""
    scoring: str | None = None
    """Fingerprint of how every shard was scored."""
    precision: dict[str, Any] | None = None
    """How many embeddings were made in half precision and how many again in full, where the classifier makes them so."""


class Header(Record):
    """The whole of run.json. One that says nothing is that of a run that has not begun."""

    format: Literal[1] = FORMAT
    kind: str | None = None
    """The command that made it: audit or rescore."""
    name: str | None = None
    notice: str | None = None
    """A banner for the report."""
    created: str | None = None
    finished: str | None = None
    config: dict[str, Any] | None = None
    """As it was resolved: see `allfour.pipeline.config.recorded_config`."""
    attributes: dict[str, Any] | None = None
    versions: dict[str, Any] = Field(default_factory=dict)
    git: dict[str, Any] | None = None
    generator: dict[str, Any] | None = None
    """Identity of what made the images."""
    generation: dict[str, Any] | None = None
    """How it worked."""
    spent: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    """Identity of the archive of images that existed."""
    left_out: list[str] | None = None
    """What the source has that may be images, or hold some, and was not read: archives inside a folder, links, folders that are shut."""
    classifier: dict[str, Any] | None = None
    account: dict[str, Any] | None = None
    """What a classifier that is asked over a network was asked and what it cost, and why images have no reading."""
    relabelled_from: str | None = None
    unchanged: dict[str, str | None] | None = None
    """States by which a backend is known again without being loaded: see `allfour.pipeline.commands.unchanged`."""
    asked: dict[str, AskedPrompt] | None = None
    """Prompt id -> its subject and the labels that it asks for, of prompts that have either."""
    prompt_set: dict[str, str] | None = None
    """`name` and `source` of the prompt set's file, as it calls itself; None without one."""
    counts: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, Stage] = Field(default_factory=dict)

    @property
    def images_elsewhere(self) -> str | None:
        """Where the images lie that the run has read, in another run or archive; None of a run that made its own."""
        where = self.relabelled_from if self.kind == "relabel" else (self.source or {}).get("location")
        return str(where) if self.kind in ("relabel", "rescore") and where else None

    def to_reread(self, run: Path) -> str:
        """What to type after `allfour rescore` to have the run's images read again: its folder, or what it has read."""
        return shlex.quote(str(self.images_elsewhere or run))

    @property
    def asking(self) -> frozenset[str]:
        """Ids of the prompts that ask for a label of the headline's attribute."""
        headline = (self.attributes or {}).get("headline", "gender")
        return frozenset(key for key, prompt in (self.asked or {}).items() if headline in prompt.expect)

    @property
    def drawn_world(self) -> bool:
        """Whether the images were drawn by the embedded renderer, so that nothing is found about a real model."""
        made_by = self.generator or {}
        return bool(made_by.get("drawn_world")) or made_by.get("backend") == "portrait-renderer"

    @property
    def why_no_run(self) -> str | None:
        """Why no figure is made of these tables; None of a run."""
        if self.kind != PICKED_KIND:
            return None
        return (
            "images that `audit --each` made for prompts whose question was open. A figure of them alone would be of prompts picked by what "
            "they had shown: name the run that this folder lies in"
        )

    def fingerprint_of(self, stage: str) -> str | None:
        """What a stage that is done was made from; None where it is not done."""
        done = self.stages.get(stage)
        return done.fingerprint if done is not None else None

    def block(self, name: str) -> dict[str, Any]:
        """A block of the config, such as `prompts`; empty where the config has none."""
        found = (self.config or {}).get(name)
        return found if isinstance(found, dict) else {}
