"""What a signal may not skip: the end of a block in which it strikes."""

from __future__ import annotations

import _thread
import dis
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType

import duckdb
import pytest

import allfour
from allfour.signals import Terminated, stops_on_signals
from tests.places import REPOSITORY

PROBE = """
def begins_with_it():
    try:
        while True:
            if work():
                continue
    finally:
        tidy()

def something_stands_before():
    try:
        found = None
        while True:
            if work():
                continue
    finally:
        tidy()
"""


def _functions(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _functions(constant)


def _skipped(source: str, name: str) -> list[str]:
    """Functions with a block whose first instruction is where a loop in it begins anew.

    CPython 3.11 and 3.12 raise what a signal brings as they jump back, and look one instruction before the place they jump to for a
    handler: before the block, so that neither `except` nor `finally` of it sees the error. `stops_on_signals` waits for another moment,
    but whoever calls `allfour` from Python has signals of their own.
    """
    found = []
    for code in _functions(compile(source, name, "exec")):
        blocks = {block.start: block for block in dis._parse_exception_table(code)}  # type: ignore[attr-defined]
        jumps = [
            one for one in dis.get_instructions(code) if one.opname.startswith(("JUMP_BACKWARD", "POP_JUMP_BACKWARD"))
        ]
        if any((block := blocks.get(one.argval)) and block.start <= one.offset < block.end for one in jumps):
            found.append(f"{name}: {code.co_qualname}")
    return found


def test_no_block_begins_with_a_loop_that_a_signal_can_leave_without_its_end() -> None:
    if sys.version_info >= (3, 13):
        pytest.skip("this Python looks for the handler at the jump itself")
    assert _skipped(PROBE, "probe") == ["probe: begins_with_it"]
    folders = [REPOSITORY / name for name in ("allfour", "models", "pipeline")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert Path(allfour.__file__) in files
    assert [
        one for path in files if "while True" in (text := path.read_text()) for one in _skipped(text, path.name)
    ] == []


ENDED: list[str] = []
"""What the blocks below have done in their end, last."""


STEPS = [0]


def every_other() -> bool:
    STEPS[0] += 1
    return STEPS[0] % 2 == 0


def begins_with_a_loop() -> None:
    try:
        while True:
            if every_other():
                continue
    finally:
        ENDED.append("end")


def comes_to_a_loop() -> None:
    try:
        number = 0
        while number == 0:
            if every_other():
                continue
    finally:
        ENDED.append("end")


def loops_in_a_loop() -> None:
    try:
        number = 0
        while number >= 0:
            for number in range(3):
                if number == 1:
                    break
    finally:
        ENDED.append("end")


LOCK, EVENT = threading.Lock(), threading.Event()
HELD = {"holds_by_with": LOCK, "holds_by_hand": LOCK, "sets_an_event": EVENT._cond._lock}  # type: ignore[attr-defined]


def holds_by_with() -> None:
    while True:
        with LOCK:
            every_other()


def holds_by_hand() -> None:
    while True:
        LOCK.acquire()
        try:
            every_other()
        finally:
            LOCK.release()


def sets_an_event() -> None:
    while True:
        EVENT.set()
        EVENT.clear()


@pytest.fixture
def turns() -> Iterator[None]:
    """Threads take turns every 0.1 ms, not 5: so long a block goes round before the thread that strikes has its turn."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def struck(block: Callable[[], None], times: int) -> Iterator[bool]:
    """After each of so many SIGTERMs at moments of chance, whether it came in the block."""
    draw = random.Random(0)
    for _ in range(times):
        ENDED.clear()
        wait = 0.001 + draw.random() / 1e4

        def strike(wait: float = wait) -> None:
            time.sleep(wait)
            signal.raise_signal(signal.SIGTERM)

        with pytest.raises(Terminated) as stopped, stops_on_signals():
            _thread.start_new_thread(strike, ())
            block()
        yield any(entry.name == block.__name__ for entry in stopped.traceback)


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("block", [begins_with_a_loop, comes_to_a_loop, loops_in_a_loop])
def test_no_signal_passes_by_the_end_of_a_block(block: Callable[[], None]) -> None:
    """If each raised at once, some would pass by: of the first block's end on Python 3.11 and 3.12, of the others' on 3.13, of all on 3.14."""
    before, inside = signal.getsignal(signal.SIGTERM), 0
    for came in struck(block, 30):
        inside += came
        assert not came or ENDED == ["end"]
    assert inside > 10
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("block", [holds_by_with, holds_by_hand, sets_an_event])
def test_no_signal_leaves_a_lock_held(block: Callable[[], None]) -> None:
    """If each raised at once, a third of them would, on any Python (`with`: on 3.14), and whoever wants the lock next would wait for ever."""
    for _ in struck(block, 30):
        assert not HELD[block.__name__].locked()


def test_a_signal_that_was_put_off_comes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(frame: FrameType) -> bool:
        monkeypatch.setattr("allfour.signals._tears_a_block", lambda frame: False)
        return True

    monkeypatch.setattr("allfour.signals._tears_a_block", once)
    done = []
    with pytest.raises(KeyboardInterrupt), stops_on_signals():
        signal.raise_signal(signal.SIGINT)
        done.append("the last of it")
    assert done == ["the last of it"]


def test_a_signal_in_a_query_is_a_signal() -> None:
    def strike() -> None:
        time.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated), stops_on_signals(), duckdb.connect() as connection:
        _thread.start_new_thread(strike, ())
        connection.execute("SELECT count(*) FROM range(20000) a, range(20000) b WHERE a.range * b.range = 7").fetchall()
