"""Where a detector of faces decides whether anybody is there, the words are of faces: a person may be there all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from allfour.pipeline import words
from allfour.pipeline.commands.export import text_export
from allfour.pipeline.report import write_report
from tests.pipeline.report.fixture_run import build_run


@pytest.mark.parametrize(("backend", "sought", "other"), [("face", "face", "person"), ("clip", "person", "face")])
def test_page_and_export_say_what_was_looked_for(tmp_path: Path, backend: str, sought: str, other: str) -> None:
    run = build_run(tmp_path / "run")
    header = json.loads((run / "run.json").read_text())
    header["classifier"] = {**header["classifier"], "backend": backend}
    (run / "run.json").write_text(json.dumps(header))
    page = write_report(run).read_text()
    summary = text_export(run, "markdown").decode()
    for text in (page, summary):
        assert f"without a {sought}" in text
        assert f"without a {other}" not in text
    assert f"no {sought} found" in page
    assert f"no {other} found" not in page
    assert words.sought() == "person"  # and only meanwhile
