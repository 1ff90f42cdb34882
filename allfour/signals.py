"""SIGTERM as Ctrl-C: containers and schedulers end a process with it, and what is finished is kept either way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def leave_at_once() -> None:
    """Until `stops_on_signals`, Ctrl-C ends the process in silence with the code that a shell gives it: nothing is begun yet.

    An interrupt that is ignored, as in the background of a script, stays ignored.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(128 + number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


@contextlib.contextmanager
def stops_on_signals() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, and Ctrl-C KeyboardInterrupt. Nothing changes in other threads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
