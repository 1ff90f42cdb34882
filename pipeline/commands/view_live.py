"""How far a run is that has no finding yet: images so far, what is left, money, time. The run folder is only read."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allfour.border import read_json
from allfour.errors import AllfourError
from allfour.files import read_regular
from allfour.pipeline.config import RunConfig, load_prompts, recorded_config
from allfour.pipeline.run.activity import FRESH, Activity, activity
from allfour.pipeline.run.documents import read_header
from allfour.pipeline.run.folder import RunFolder

PICTURED = 24
_RECENT = 1200.0
"""Seconds; images before that are of an earlier start."""
_PACED = 200
"""Newest images by which the pace is told."""


_UNKNOWN = Activity(held=None, silent=None)


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a run that works, or that was stopped."""

    counts: dict[str, int] = field(default_factory=dict)
    """Outcomes by status: generated, refused, failed."""
    scored: int = 0
    """Images in the parts that were scored."""
    total: int | None = None
    """Images of the plan; None where it cannot be told."""
    seconds_left: float | None = None
    spent: str = ""
    now: Activity = _UNKNOWN
    pictures: tuple[tuple[str, str], ...] = ()
    """Prompt and path in the run folder of the newest images, the newest first."""

    @property
    def done(self) -> int:
        """Images that were made or asked for in vain; of a run that makes none, those that were read."""
        return sum(self.counts.values()) or self.scored


class WatchedRun:
    """A run over many looks, from any thread: what was read at one look is not read again at the next."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._forget()
        self._parts: dict[str, tuple[tuple[int, int], int]] = {}
        self._plan: tuple[object, tuple[RunConfig | None, int | None]] | None = None
        self._ledger: tuple[object, str] | None = None

    def _forget(self) -> None:
        self._offsets: dict[str, int] = {}
        self._status: dict[tuple[str, int], str] = {}
        self._made: deque[tuple[str, str]] = deque(maxlen=_PACED)

    def look(self) -> Progress:
        """What is known now. A run that is damaged gives as much as can be told."""
        with self._lock:
            try:
                self._read_on()
            except (AllfourError, OSError):
                return Progress()
            counts = Counter(self._status.values())
            config, total = self._planned()
            scored = self._scored()
            now = activity(self._run_dir)
            made = list(dict.fromkeys(reversed(self._made)))
            left = None
            waiting = 0 if total is None else total - sum(counts.values())
            if now.working and waiting > 0:
                pace = _seconds_each(self._run_dir, [path for _, path in made])
                left = None if pace is None else pace * waiting
            return Progress(dict(counts), scored, total, left, self._spent(config), now, tuple(made[:PICTURED]))

    def _read_on(self) -> None:
        journals = RunFolder(self._run_dir).journals()
        found = [(journal.name, *journal.read_on(self._offsets.get(journal.name, 0))) for journal in journals]
        if any(
            end < self._offsets.get(name, 0) for name, _, end in found
        ):  # written anew: so is all that is known of it
            self._forget()
            found = [(journal.name, *journal.read_on(0)) for journal in journals]
        for name, outcomes, end in found:
            self._offsets[name] = end
            for line in outcomes:
                self._status[line.prompt_id, line.index] = str(line.status)
                if line.status == "generated" and line.path:
                    self._made.append((line.prompt or line.prompt_id, line.path))

    def _scored(self) -> int:
        """Images in the parts that exist."""
        for path in (self._run_dir / "parts").glob("part-*.json"):
            if path.name.endswith(".attempts.json") or (state := stat_of(path)) is None:
                continue
            if self._parts.get(path.name, (None, 0))[0] != state:
                self._parts[path.name] = (state, _images_of(path))
        return sum(images for _, images in self._parts.values())

    def _planned(self) -> tuple[RunConfig | None, int | None]:
        """The run's config and how many images it asks for, read again when run.json changes."""
        state = stat_of(self._run_dir / "run.json")
        if self._plan is None or self._plan[0] != state:
            self._plan = (state, _plan(self._run_dir))
        return self._plan[1]

    def _spent(self, config: RunConfig | None) -> str:
        """What it has cost, in words, read again when the ledger changes."""
        price = config.generator.price() if config is not None and config.generator is not None else None
        if config is None or config.generator is None or price is None:
            return ""
        ledger = RunFolder(self._run_dir).ledger_path
        state = stat_of(ledger)
        if self._ledger is None or self._ledger[0] != state:
            try:
                spent = config.generator.booked(ledger)
            except (AllfourError, OSError):
                return ""
            self._ledger = (state, f"{spent:.2f}{f' {price[1]}' if price[1] else ''}")
        return self._ledger[1]


def _images_of(manifest: Path) -> int:
    try:
        count = read_json(read_regular(manifest)).get("images")
    except (OSError, ValueError, AttributeError):
        return 0
    return count if isinstance(count, int) and count >= 0 else 0


def _plan(run_dir: Path) -> tuple[RunConfig | None, int | None]:
    try:
        config = recorded_config(read_header(run_dir).config, where=str(run_dir / "run.json"))
        if config.generator is None or config.prompts.file is None:
            return config, None
        return config, len(load_prompts(config.prompts.file).prompts) * config.prompts.images_per_prompt
    except (AllfourError, OSError):
        return None, None


def stat_of(path: Path) -> tuple[int, int] | None:
    """When a file was changed and its size; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _seconds_each(run_dir: Path, newest: Sequence[str]) -> float | None:
    """Seconds per image between the files of the newest ones; None where they cannot be told. Only these files are looked at."""
    times = []
    for path in newest:
        with contextlib.suppress(OSError):
            times.append((run_dir / path).stat().st_mtime)
    return pace_of([t for t in times if max(times) - t < _RECENT], now=time.time())


def pace_of(times: Sequence[float], *, now: float) -> float | None:
    """Seconds per image by when the newest came; None where they do not tell.

    Images come in batches. Those of the first batch only say when it ended, and one batch alone, after which a second is waited for
    longer than the first took to be written, says nothing of how long a batch takes. Nor does any pace hold once the next one is far
    longer in coming than any before.
    """
    if not times:
        return None
    first, last = min(times), max(times)
    later = sum(at - first > (last - first) / 10 for at in times)
    if not later or now - last > 2 * (last - first):
        return None
    longest = max(after - before for before, after in itertools.pairwise(sorted(times)))
    if now - last > max(FRESH, 3 * longest):
        return None
    return (last - first) / later
