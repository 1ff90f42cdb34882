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
from types import CodeType, FrameType

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

    Where the error would leave a block without its `finally` or the end of its `with`, or a lock that is held for ever, it comes a moment
    later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    errors: dict[int, type[KeyboardInterrupt]] = {signal.SIGTERM: Terminated}
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        errors[signal.SIGINT] = KeyboardInterrupt
    latest = 0.0
    raised: type[KeyboardInterrupt] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal latest, raised
        now = time.monotonic()
        latest = latest or now + _PATIENCE
        if frame is not None and now < latest and _tears_a_block(frame):
            with contextlib.suppress(RuntimeError):  # no thread can be started: it is raised now
                # with no lock, which the frame might hold, unlike a threading.Thread
                _thread.start_new_thread(_again, (number,))
                return
        latest, raised = 0.0, errors[number]
        raise raised

    before = {number: signal.signal(number, stop) for number in errors}
    try:
        yield
        while latest:  # one that was put off comes now
            time.sleep(_LATER)
    except RuntimeError as error:
        if raised is None or "interrupted" not in str(error):
            raise
        raise raised from error  # DuckDB raises an error of its own where a signal strikes in a query
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _again(number: int) -> None:
    time.sleep(_LATER)
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)  # to the thread that heeds signals, which may wait for something by now


def _tears_a_block(frame: FrameType) -> bool:
    """Whether an error that is raised in this frame now may leave a block without its end, or a lock without its block.

    CPython looks for signals after a call, at the start of a function, and where a loop jumps back.
    """
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_name in ("__enter__", "__exit__"):  # as of the condition in a threading.Event
            return True
        above = above.f_back
    code, at = frame.f_code, frame.f_lasti
    doing = dis.opname[code.co_code[at]]
    if not code.co_exceptiontable:
        return False
    if "JUMP_BACKWARD" in doing:
        return _jumps_unseen(code, at)
    return doing.startswith("CALL") and _comes_to_a_block(code, at)


def _jumps_unseen(code: CodeType, at: int) -> bool:
    """Whether a loop jumps back inside a block whose handler does not see it.

    Up to 3.12 the error is taken to come from the instruction before the place that is jumped to, and from 3.13 on from the jump, which
    the compiler counts to no block.
    """
    jump = next(one for one in dis.get_instructions(code) if one.offset == at)
    return len({_handler(code, place) for place in (at, jump.argval - 2, jump.argval)}) > 1


def _comes_to_a_block(code: CodeType, at: int) -> bool:
    """Whether what was called stands right before a block, as `lock.acquire()`, or the `__enter__` of a `with` from 3.14 on."""
    own = _handler(code, at)
    for one in dis.get_instructions(code):
        if one.offset <= at:
            continue
        if _handler(code, one.offset) not in (own, None):
            return True
        if one.opname not in _KEEPS and not one.opname.startswith("STORE_"):
            break
    return False


_KEEPS = ("NOP", "POP_TOP")
"""What does nothing but keep or drop what a call gave, like every STORE."""


def _handler(code: CodeType, at: int) -> int | None:
    """Where an error at an instruction is handled."""
    blocks = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return next((block.target for block in blocks if block.start <= at < block.end), None)
