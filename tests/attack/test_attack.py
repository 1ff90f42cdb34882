"""The short round of the standing attack, in a process that has no threads when it forks."""

from __future__ import annotations

import pytest

from tests import light_processes
from tests.attack.__main__ import main


@pytest.mark.slow
def test_the_short_round() -> None:
    done = light_processes.start("--seed", "1", before=_nothing, main=main, OMP_NUM_THREADS=1).wait(timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hosted audit: 1" in done.stdout
    assert done.stdout.splitlines()[-2] == "0 problems"


def _nothing() -> None:
    """The attack puts its own backends in place."""
