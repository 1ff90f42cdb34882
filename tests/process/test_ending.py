"""A command's process ends at once, and nothing that somebody counts on is lost with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from allfour.process import ending

SCRIPT = """
import atexit, sys, threading, time
from allfour.process import ending
class Held:
    def __del__(self): print("held", flush=True)
held = Held()
atexit.register(print, "registered")
print("said", end=" ")
{first}
ending.end({code})
print("returned", end=" ", flush=True)
raise SystemExit({code})
"""


def ended(first: str = "", *options: str, code: object = 3) -> tuple[int, str]:
    """Exit code and output of a process that does something first and is to end then."""
    script = SCRIPT.format(first=first, code=repr(code))
    done = subprocess.run(
        [sys.executable, *options, "-c", script], capture_output=True, text=True, check=False, input=""
    )
    return done.returncode, done.stdout


def test_what_is_registered_is_done_and_printed_and_no_object_visited() -> None:
    assert ended() == (3, "said registered\n")
    assert ended(code=-1) == (255, "said registered\n")


@pytest.mark.parametrize(
    "first",
    [
        "ending.end_as_usual()",
        "threading.Thread(target=lambda: (threading.main_thread().join(), print('thread', end=' '))).start()",
        "sys.setprofile(lambda *_: None)",
        "sys.settrace(lambda *_: None)",
    ],
    ids=["others", "thread", "profiler", "debugger"],
)
def test_python_ends_it_where_something_else_is_to_run(first: str) -> None:
    code, out = ended(first)
    assert code == 3 and out.startswith("said returned ") and "registered\n" in out
    assert ("thread" in out) == ("Thread" in first)


def test_code_of_others_gets_what_python_does_at_its_end() -> None:
    assert ended("ending.end_as_usual()")[1].endswith("registered\nheld\n")


def test_a_daemon_thread_and_a_used_up_pool_are_not_waited_for() -> None:
    pool = (
        "import concurrent.futures as cf\n"
        "with cf.ThreadPoolExecutor(2) as pool: list(pool.map(str, range(9)))\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    assert ended(pool) == (3, "said registered\n")


def test_a_prompt_after_the_command_gets_its_turn() -> None:
    assert "returned" in ended("", "-i")[1]


def test_a_full_disk_below_standard_output_is_left_to_python() -> None:
    """As before: its own words and its own exit code."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Path("/dev/full").open("w") as full:
        script = SCRIPT.format(first="", code=3)
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 3 and "No space left" in done.stderr


def test_an_exit_code_that_is_a_text_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending.os, "_exit", lambda code: pytest.fail("ended"))
    ending.end("a text")
    ending.end(None)
