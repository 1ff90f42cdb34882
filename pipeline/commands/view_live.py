"""How far a run is that has no finding yet: images so far, what is left, money, time. The run folder is only read."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allfour.errors import AllfourError
from allfour.pipeline.config import recorded_config
from allfour.pipeline.generation.existing import read_outcomes
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.report.index_page import works
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder

PICTURED = 24
_RECENT = 1200.0
"""Seconds; images before that are of an earlier start."""
_PACED = 200
"""Newest images by which the pace is told."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a run that works, or that was stopped."""

    counts: dict[str, int] = field(default_factory=dict)
    """Outcomes by status: generated, refused, failed."""
    total: int | None = None
    """Images of the plan; None where it cannot be told."""
    seconds_left: float | None = None
    spent: str = ""
    working: bool = False
    pictures: tuple[tuple[str, str], ...] = ()
    """Prompt and path in the run folder of the newest images, the newest first."""

    @property
    def done(self) -> int:
        return sum(self.counts.values())


def progress_of(run_dir: Path) -> Progress:
    """Look once. A run that is damaged, or of an archive, gives as much as can be told."""
    run = RunFolder(run_dir)
    try:
        lines, _ = read_outcomes(run)
    except (AllfourError, OSError):
        return Progress()
    newest = {(line.prompt_id, line.index): line for line in lines}
    counts = Counter(str(line.status) for line in newest.values())
    total, spent = _plan(run_dir)
    working = works(run_dir)
    made = [
        (line.prompt or line.prompt_id, line.path)
        for line in reversed(newest.values())
        if line.status == "generated" and line.path
    ]
    left = None
    if (
        working
        and total is not None
        and (pace := _seconds_each(run_dir, [path for _, path in made[:_PACED]])) is not None
    ):
        left = pace * max(0, total - sum(counts.values()))
    return Progress(dict(counts), total, left, spent, working, tuple(made[:PICTURED]))


def _plan(run_dir: Path) -> tuple[int | None, str]:
    """Images that the run asks for, and what it has cost, in words."""
    try:
        header = read_header(run_dir)
        config = recorded_config(header.config, where=str(run_dir / "run.json"))
        total = len(make_plan(config).requests) if config.generator is not None else None
        price = config.generator.price() if config.generator is not None else None
        if config.generator is None or price is None:
            return total, ""
        spent = config.generator.booked(RunFolder(run_dir).ledger_path)
        return total, f"{spent:.2f}{f' {price[1]}' if price[1] else ''}"
    except (AllfourError, OSError):
        return None, ""


def _seconds_each(run_dir: Path, newest: Sequence[str]) -> float | None:
    """Seconds per image between the files of the newest ones; None where they cannot be told. Only these files are looked at."""
    times = []
    for path in newest:
        with contextlib.suppress(OSError):
            times.append((run_dir / path).stat().st_mtime)
    recent = [t for t in times if max(times) - t < _RECENT]
    if len(recent) < 2 or max(recent) <= min(recent):
        return None
    return (max(recent) - min(recent)) / (len(recent) - 1)
