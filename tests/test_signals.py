"""What a signal may not skip: the end of a block in which it strikes."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import allfour
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

    CPython (3.11 at least) raises what a signal brings as it jumps back, and looks one instruction before the place it jumps to for
    a handler: before the block, so that neither `except` nor `finally` of it sees the error.
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
    assert _skipped(PROBE, "probe") == ["probe: begins_with_it"]
    folders = [REPOSITORY / name for name in ("allfour", "models", "pipeline")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert Path(allfour.__file__) in files
    assert [
        one for path in files if "while True" in (text := path.read_text()) for one in _skipped(text, path.name)
    ] == []
