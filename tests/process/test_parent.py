"""A command that another one has started ends with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from allfour.process.parent import end_with_parent, environment_of_child
from tests import light_processes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="only Linux tells a process of its parent's end"
)


def _until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _works(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _parent() -> None:
    """Starts a command, and waits for it."""
    given = environment_of_child()
    child = os.fork()
    if child == 0:
        os.environ.update(given)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if wait := os.environ.get("ORPHAN"):
            _until(lambda: str(os.getppid()) != given["ALLFOUR_PARENT"])
            Path(wait).touch()
        end_with_parent()
        assert "ALLFOUR_PARENT" not in os.environ  # what it starts itself is not meant
        Path(os.environ["BEGAN"]).touch()
        time.sleep(60)
        os._exit(0)
    Path(os.environ["CHILD"]).write_text(str(child))
    signal.pause()


@pytest.mark.parametrize("late", [False, True])
def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path, late: bool) -> None:
    """Also with one that was killed before the child could ask to be told."""
    began, named, orphan = tmp_path / "began", tmp_path / "child", tmp_path / "orphan"
    running = light_processes.start(
        before=os.getpid, main=_parent, BEGAN=began, CHILD=named, ORPHAN=orphan if late else ""
    )
    _until(lambda: named.exists() and named.read_text() and (late or began.exists()))
    child = int(named.read_text())
    os.kill(running.pid, signal.SIGKILL)
    try:
        _until(lambda: not _works(child))
    finally:
        if _works(child):
            os.kill(child, signal.SIGKILL)
    assert running.wait().returncode == -signal.SIGKILL
    assert began.exists() != late


def test_a_command_of_the_user_has_no_such_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLFOUR_PARENT", raising=False)
    end_with_parent()
