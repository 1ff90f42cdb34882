"""SIGTERM as Ctrl-C: containers and schedulers end a process with it, and what is finished is kept either way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextlib.contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, as Ctrl-C raises KeyboardInterrupt. Nothing changes in other threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
