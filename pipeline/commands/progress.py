"""Progress of long work: a bar with ETA on a terminal, plain lines otherwise. Everything goes to stderr; stdout is for results."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where there is a terminal to draw on
    from rich.console import Console
    from rich.progress import Progress

_LINE_SECONDS = 10.0
_MONEY_SECONDS = 2.0
_CONTROLS = dict.fromkeys((7, 8, 11, 12, 13))
"""Control codes that are left out of a line; rich leaves them out too."""


def _markup(text: str) -> str:
    """Text as a bar's description, in which nothing is markup."""
    from rich.markup import escape

    return escape(text)


def _terminal() -> Console | None:
    """The terminal that errors go to; None where they go to a file or a pipe."""
    if not (sys.stderr.isatty() or "FORCE_COLOR" in os.environ or "TTY_COMPATIBLE" in os.environ):
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal else None


class Task:
    """Counts up one stage."""

    def __init__(self, name: str, total: int | None, *, bar: Progress | None, quiet: bool) -> None:
        self._name, self._total, self._bar, self._quiet = name, total, bar, quiet
        self.money: Callable[[int], str | None] | None = None
        """What was spent so far, in words, where it costs, by the number of items that are left."""
        self._done = self._stood = 0
        self._started = self._shown_at = time.monotonic()
        self._money_text = ""
        self._id = bar.add_task(_markup(name), total=total) if bar else None

    def skip(self, count: int) -> None:
        """Work that stood already: part of the count, not of the speed."""
        self._done += count
        self._stood += count
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
        return _markup(f"{self._name} ({self._money_text})" if self._money_text else self._name)

    def _say(self) -> None:
        self._shown_at = time.monotonic()
        elapsed = self._shown_at - self._started
        line = f"{self._name}: {self._done}" + (f" of {self._total}" if self._total is not None else "")
        if self._total and (now := self._done - self._stood) > 0 and elapsed > 0:
            line += f", {elapsed:.0f} s, about {elapsed / now * self._left:.0f} s left"
        if self.money is not None and (spent := self.money(self._left)):
            line += f", {spent}"
        print(line, file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._bar is None and not self._quiet:
            now, elapsed = self._done - self._stood, time.monotonic() - self._started
            stood = f"{self._stood} done already" if self._stood else ""
            line = ", ".join(filter(None, [f"{now} in {elapsed:.1f} s" if now or not stood else "", stood]))
            print(f"{self._name}: {line}", file=sys.stderr, flush=True)


class Reporter:
    """Hands out tasks; `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = None if quiet else _terminal()

    def note(self, text: str) -> None:
        """One line for the user; data in it is no markup."""
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self._quiet:
            print(text.translate(_CONTROLS), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Task]:
        if self._console is None:
            task = Task(name, total, bar=None, quiet=self._quiet)
            yield task
            task.finish()
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
        )  # fmt: skip
        with progress.Progress(*columns, console=self._console) as bar:
            yield Task(name, total, bar=bar, quiet=False)
