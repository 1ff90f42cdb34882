"""What was done and what went wrong, over all attacks of a round."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.attack.process import Ended

_SHOW_SECONDS = 30.0


@dataclass(slots=True)
class Tally:
    """Filled by the attacks, in order."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each attack was made."""
    codes: Counter[int] = field(default_factory=Counter)
    """Exit codes of all commands."""
    problems: list[str] = field(default_factory=list)
    _shown: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    peak_mib: float = 0.0
    peak_of: str = ""
    slowest: float = 0.0
    slowest_of: str = ""

    def count(self, attack: str, times: int = 1) -> None:
        """Keep what was done, and show now and then how far it is."""
        self.done[attack] += times
        if time.monotonic() - self._shown > _SHOW_SECONDS:
            self._shown = time.monotonic()
            print(f"{sum(self.done.values()):,} done, {len(self.problems)} problems", file=sys.stderr, flush=True)

    def ended(self, command: Ended) -> None:
        """Keep what matters of a command that ended."""
        self.codes[command.code] += 1
        name = " ".join(command.arguments)[:80]
        if command.peak_mib > self.peak_mib:
            self.peak_mib, self.peak_of = command.peak_mib, name
        if command.seconds > self.slowest:
            self.slowest, self.slowest_of = command.seconds, name

    def wrong(self, what: str, problem: str) -> None:
        self.problems.append(f"{what}: {problem}")

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def lines(self) -> list[str]:
        """For a terminal."""
        return [
            *(f"{name}: {times}" for name, times in sorted(self.done.items())),
            "exit codes: " + ", ".join(f"{code} x {times}" for code, times in sorted(self.codes.items())),
            f"most memory: {self.peak_mib:.0f} MiB ({self.peak_of}); longest: {self.slowest:.1f} s ({self.slowest_of})",
            *(f"note: {note}" for note in self.notes),
            *(f"WRONG {problem}" for problem in self.problems),
            f"{len(self.problems)} problems",
        ]
