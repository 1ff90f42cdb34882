"""How far a run is that has no finding yet: images so far, what is left, money, time. The run folder is only read."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from allfour.errors import AllfourError
from allfour.pipeline.config import recorded_config
from allfour.pipeline.generation.existing import read_outcomes
from allfour.pipeline.generation.plan import make_plan
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder

PICTURED = 24
STILL = 120.0
"""Seconds without a new line after which a run is taken for stopped."""


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
    times = [path.stat().st_mtime for path in run_dir.glob("outcomes*.jsonl")]
    still = time.time() - max(times) if times else float("inf")
    total, spent = _plan(run_dir)
    working = still < STILL
    left = (
        _seconds_left(run_dir, done=sum(counts.values()), total=total, latest=max(times, default=0.0))
        if working
        else None
    )
    pictures = [
        (line.prompt or line.prompt_id, line.path)
        for line in reversed(list(newest.values()))
        if line.status == "generated" and line.path
    ]
    return Progress(dict(counts), total, left, spent, working, tuple(pictures[:PICTURED]))


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


def _seconds_left(run_dir: Path, *, done: int, total: int | None, latest: float) -> float | None:
    """By the pace of the images that were written last: earlier ones may be of an earlier start."""
    times = sorted(path.stat().st_mtime for path in run_dir.glob("images/*/*"))[-200:]
    if total is None or len(times) < 2 or times[-1] <= times[0]:
        return None
    recent = [t for t in times if latest - t < 10 * STILL]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    return (recent[-1] - recent[0]) / (len(recent) - 1) * max(0, total - done)
