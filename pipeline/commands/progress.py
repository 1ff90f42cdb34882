"""Progress of long work: a bar with ETA on a terminal, plain lines otherwise. Everything goes to stderr; stdout is for results."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_SECONDS = 10.0
_MONEY_SECONDS = 2.0


class Task:
    """Counts up one stage."""

    def __init__(self, name: str, total: int | None, *, bar: Progress | None, quiet: bool) -> None:
        self._name, self._total, self._bar, self._quiet = name, total, bar, quiet
        self.money: Callable[[int], str | None] | None = None
        """What was spent so far, in words, where it costs, by the number of items that are left."""
        self._done = 0
        self._started = self._shown_at = time.monotonic()
        self._money_text = ""
        self._id = bar.add_task(escape(name), total=total) if bar else None

    def skip(self, count: int) -> None:
        """Work that stood already: part of the count, not of the speed."""
        self._done += count
        self._started = time.monotonic()
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, completed=self._done)

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, completed=self._done, description=self._described())
        elif not self._quiet and time.monotonic() - self._shown_at >= _LINE_SECONDS:
            self._say()

    @property
    def _left(self) -> int:
        return max((self._total or 0) - self._done, 0)

    def _described(self) -> str:
        """The bar's name, with the money looked at again after some seconds."""
        now = time.monotonic()
        if self.money is not None and now - self._shown_at >= _MONEY_SECONDS:
            self._shown_at = now
            self._money_text = self.money(self._left) or ""
        return escape(f"{self._name} ({self._money_text})" if self._money_text else self._name)

    def _say(self) -> None:
        self._shown_at = time.monotonic()
        elapsed = self._shown_at - self._started
        line = f"{self._name}: {self._done}" + (f" of {self._total}" if self._total is not None else "")
        if self._total and self._done and elapsed > 0:
            line += f", {elapsed:.0f} s, about {elapsed / self._done * self._left:.0f} s left"
        if self.money is not None and (spent := self.money(self._left)):
            line += f", {spent}"
        print(line, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._bar is None and not self._quiet:
            elapsed = time.monotonic() - self._started
            print(f"{self._name}: {self._done} in {elapsed:.1f} s", file=sys.stderr, flush=True)


class Reporter:
    """Hands out tasks; `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and not quiet

    def note(self, text: str) -> None:
        """One line for the user; data in it is no markup."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Task]:
        if not self._live:
            task = Task(name, total, bar=None, quiet=self._quiet)
            yield task
            task.finish()
            return
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            console=self._console,
        ) as bar:  # fmt: skip
            yield Task(name, total, bar=bar, quiet=False)
