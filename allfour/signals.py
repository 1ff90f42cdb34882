"""SIGTERM as Ctrl-C: containers and schedulers end a process with it, and what is finished is kept either way."""

from __future__ import annotations

import _thread
import contextlib
import dis
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_PATIENCE, _LATER = 0.2, 0.0005
"""Seconds for which an error may be put off, and until it is tried again."""


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
    """SIGTERM raises `Terminated` in the main thread, and Ctrl-C KeyboardInterrupt. Nothing changes in other threads.

    Where the error would leave a block without its `finally`, its `except` or the end of its `with`, it comes a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    errors: dict[int, type[KeyboardInterrupt]] = {signal.SIGTERM: Terminated}
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        errors[signal.SIGINT] = KeyboardInterrupt
    latest = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal latest
        now = time.monotonic()
        latest = latest or now + _PATIENCE
        if frame is not None and now < latest and _passes_by_a_handler(frame):
            _thread.start_new_thread(
                _again, (number,)
            )  # no lock, which the frame might hold, unlike a threading.Thread
            return
        latest = 0.0
        raise errors[number]

    before = {number: signal.signal(number, stop) for number in errors}
    try:
        yield
        while latest:  # one that was put off comes now
            time.sleep(_LATER)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _again(number: int) -> None:
    time.sleep(_LATER)
    signal.raise_signal(number)


def _passes_by_a_handler(frame: FrameType) -> bool:
    """Whether an error that is raised in this frame now may not see the block that it stands in.

    CPython looks for signals where a loop jumps back. Up to 3.12 the error is then taken to come from the instruction before the
    place that is jumped to, and from 3.13 on from the jump, which the compiler counts to no block.
    """
    code, at = frame.f_code, frame.f_lasti
    if not code.co_exceptiontable or "JUMP_BACKWARD" not in dis.opname[code.co_code[at]]:
        return False
    jump = next(one for one in dis.get_instructions(code) if one.offset == at)
    blocks = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    places = (at, jump.argval - 2, jump.argval)
    return len({next((b.target for b in blocks if b.start <= place < b.end), None) for place in places}) > 1
