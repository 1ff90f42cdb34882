"""What `allfour report` reads and imports: a finished run is rewritten in about the time that its page takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.commands.report import report_again
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from tests.pinned import with_pinned
from tests.pipeline.report.fixture_run import Options, build_run

COUNTING = """
import collections, json, os, sys
opened = collections.Counter()
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)) and arguments[1] in ("r", "rb"):
        opened[os.path.basename(os.fsdecode(arguments[0]))] += 1
sys.addaudithook(hook)
from allfour.pipeline.run.seal import sealed
from allfour.__main__ import command
try:
    command()
except SystemExit as end:
    loaded = {name for name, module in sys.modules.items() if type(module).__name__ != "_Deferred"}
    print(json.dumps({"code": end.code, "run.json": opened["run.json"], "metrics.json": opened["metrics.json"],
                      "needless": sorted(loaded & set(NEEDLESS))}))
"""
NEEDLESS = (
    "torch", "transformers", "sklearn", "scipy.stats", "scipy.optimize", "numpy.f2py", "numpy.testing", "fsspec", "aiohttp", "pandas", "rich",
    "allfour.models.generators._portrait.draw", "allfour.pipeline.archives.parquet", "allfour.pipeline.analyses.sensitivity",
    "allfour.pipeline.analyses.sensitivity_grid", "allfour.pipeline.run.comparison", "allfour.pipeline.analyses.comparison",
)  # fmt: skip


def reportable(tmp_path: Path) -> Path:
    run = build_run(tmp_path, Options(prompts=2, oddities=False))
    header = json.loads((run / "run.json").read_text())
    header["config"] = {"classifier": {"backend": "face"}, "attributes": {"file": "configs/attributes/face.yaml"}}
    header["attributes"] = {"headline": "gender", "attributes": {
        "gender": {"labels": {"woman": ["a woman"], "man": ["a man"]}, "templates": ["a photo of {}"], "margin": 0.1}}}  # fmt: skip
    (run / "run.json").write_text(json.dumps(sealed(header)))
    return run


def test_a_report_that_is_written_again_is_the_same_page(tmp_path: Path) -> None:
    run = reportable(tmp_path)
    pages = []
    for _ in range(2):
        report_again(RunFolder(run))
        pages.append(re.sub(r"<dd>[0-9.]+ s|T\d\d:\d\d:\d\d", "", (run / "report.html").read_text()))
    assert "report" in RunFolder(run).header().stages
    assert "<dt>metrics</dt>" in pages[0]
    assert pages[0] == pages[1]  # its own stage, which stands in the header only from the first on, is in neither


@with_pinned("duckdb")
def test_documents_are_read_once_each_and_nothing_needless_is_imported(tmp_path: Path) -> None:
    run = reportable(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"NEEDLESS = {NEEDLESS}\n{COUNTING}", "report", str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] in (0, 3), done.stdout + done.stderr
    assert found["run.json"] <= 3
    assert found["metrics.json"] <= 1
    assert found["needless"] == []


def test_a_run_that_another_command_makes_anew_meanwhile_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins, and is killed, between this command's look at the run and its lock."""
    run, lock = RunFolder(reportable(tmp_path)), RunFolder.lock
    before = run.metrics_path.read_bytes()

    def as_another_begins(self: RunFolder, **options: Any) -> Any:
        RunFolder(run.path).forget_stages("scores", "metrics", "report")
        return lock(self, **options)

    monkeypatch.setattr(RunFolder, "lock", as_another_begins)
    with pytest.raises(RunFolderError, match="is being made anew"):
        report_again(run)
    assert run.metrics_path.read_bytes() == before
