"""Lines of progress: work that stood already is neither speed nor work of this command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from allfour.pipeline.commands import progress
from allfour.pipeline.commands.progress import Reporter

PIPELINE = Path(__file__).parents[3] / "pipeline"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the start, for whoever asks; no terminal."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(progress, "_terminal", lambda: None)
    return seconds


def test_time_left_is_that_of_what_this_command_makes(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().task("generating", 80) as task:
        task.skip(60)
        clock[0] = 10
        task.advance(5)
        assert capsys.readouterr().err == "generating: 65 of 80, 10 s, about 30 s left\n"
        clock[0] = 40
        task.advance(15)
        capsys.readouterr()
    assert capsys.readouterr().err == "generating: 20 in 40.0 s, 60 done already\n"


def test_nothing_made_has_no_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().task("generating", 80) as task:
        task.skip(80)
    with Reporter().task("scoring", None):
        pass
    assert capsys.readouterr().err == "generating: 80 done already\nscoring: 0 in 0.0 s\n"


def test_commands_that_messages_name_have_the_run_in_quotes() -> None:
    bare = re.compile(r"allfour [a-z]+ \{(?:run|second)(?:\.path)?\}")
    assert not [p.name for p in PIPELINE.rglob("*.py") if bare.search(p.read_text(encoding="utf-8"))]
