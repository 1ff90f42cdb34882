"""Fixtures of the tests of comparisons and of reviews."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.pipeline.run.folder import RunFolder
from tests.pipeline.analyses.comparison_runs import SIX, make_run
from tests.pipeline.analyses.review_runs import mixed_run


@pytest.fixture
def turned(tmp_path: Path) -> tuple[Path, Path]:
    """Six prompts that are all women in one run and half and half in the other."""
    return (
        make_run(tmp_path / "before", dict.fromkeys(SIX, "WWWW")),
        make_run(tmp_path / "after", dict.fromkeys(SIX, "WWMM")),
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A scored run whose sets differ, to be reviewed."""
    return mixed_run(tmp_path / "run")
