"""How often a command's process collects garbage, and that nobody else's is touched."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from allfour.process import collecting


@pytest.fixture
def usual() -> Iterator[tuple[int, int, int]]:
    """Python's own way, which is back after the test. What the tests' process left out of its collections stays out of them."""
    threshold = gc.get_threshold()
    yield threshold
    gc.set_threshold(*threshold)
    collecting._usual = None


def test_a_command_collects_seldom_until_its_backends_are_built(usual: tuple[int, int, int]) -> None:
    left_out = gc.get_freeze_count()
    made = [[number] for number in range(1000)]
    collecting.collect_seldom()
    collecting.collect_seldom()
    assert gc.get_threshold()[0] == collecting._SELDOM
    collecting.collect_as_usual()
    assert gc.get_threshold() == usual and gc.get_freeze_count() >= left_out + len(made)


def test_a_program_that_calls_allfour_keeps_its_own_way(usual: tuple[int, int, int]) -> None:
    gc.set_threshold(77, 5, 5)
    left_out = gc.get_freeze_count()
    collecting.collect_as_usual()
    assert gc.get_threshold() == (77, 5, 5) and gc.get_freeze_count() <= left_out


def test_commands_begin_so() -> None:
    script = (
        "import gc, json, sys; sys.argv = ['allfour', '--version']; from allfour.__main__ import command\n"
        "try: command()\nexcept SystemExit: pass\nprint(json.dumps(gc.get_threshold()[0]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == collecting._SELDOM
