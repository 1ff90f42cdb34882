"""A few threads that work through calls, and can be left behind.

`concurrent.futures` joins its threads when the interpreter exits; a thread that sleeps out a server's Retry-After
would then hold up a stopped run for minutes. These are daemons: whatever they had in flight is in the ledger.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Workers(Generic[Job, Result]):
    """`count` threads that turn jobs into results. `work` must not raise."""

    def __init__(self, count: int, work: Callable[[Job], Result]) -> None:
        self._work = work
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._count = count
        self.busy = 0
        """Jobs handed in whose result was not taken yet."""
        for number in range(count):
            # Each thread has its own context, so that what one call sets no other sees.
            context = contextvars.Context()
            threading.Thread(target=context.run, args=(self._run,), name=f"images-{number}", daemon=True).start()

    def submit(self, job: Job) -> None:
        self.busy += 1
        self._jobs.put(job)

    def next(self, timeout: float) -> Result | None:
        """The next result, or None where none came within `timeout` seconds."""
        try:
            result = self._results.get(timeout=timeout)
        except queue.Empty:
            return None
        self.busy -= 1
        return result

    def dismiss(self) -> None:
        """Let idle threads end, and the others after their present job."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._results.put(self._work(job))
