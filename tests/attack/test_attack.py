"""The short round of the standing attack, in a process that has no threads when it forks."""

from __future__ import annotations

import subprocess
import sys

from tests.places import REPOSITORY


def test_the_short_round() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack", "--seed", "1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hosted audit: 1" in done.stdout
    assert done.stdout.splitlines()[-2] == "0 problems"
