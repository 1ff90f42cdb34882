"""Whether a run folder is being worked on: told by its lock where this machine's kernel knows, and else by when something new came.

A lock that is held is proof, wherever its holder is. One that is free proves that its process has ended only where that process was
this machine's: a network drive may keep the locks of other machines to themselves. So whoever takes a lock signs it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from allfour.pipeline.run import locks

_STILL = 120.0
"""Seconds without news after which a run of an unknown machine is taken for stopped."""
FRESH = 15.0
"""Seconds without news that nobody wonders about."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known at one moment."""

    held: bool | None
    """Whether a process works in the folder; None where that cannot be told."""
    silent: float | None
    """Seconds since the last image was made or part was scored; None where none was."""

    @property
    def working(self) -> bool:
        """Whether more is to be expected."""
        if self.held is None:
            return self.silent is not None and self.silent < _STILL
        return self.held

    @property
    def quiet(self) -> bool:
        """Whether it has been silent for so long that it ought to be said."""
        return self.silent is not None and self.silent > FRESH


def activity(run_dir: Path) -> Activity:
    """Of a run folder, which is only read."""
    news = last_news(run_dir)
    return Activity(locks.held(run_dir / locks.NAME), max(0.0, time.time() - news) if news else None)


def last_news(run_dir: Path) -> float:
    """When the last image was made or part was scored; 0.0 where none was."""
    newest = 0.0
    for pattern in ("outcomes*.jsonl", "parts/part-*.json"):
        for path in run_dir.glob(pattern):
            with contextlib.suppress(OSError):  # a part that is made anew goes first
                newest = max(newest, path.stat().st_mtime)
    return newest
