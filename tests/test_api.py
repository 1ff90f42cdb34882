"""The Python API: what a notebook of six lines does."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import allfour
from allfour.errors import AllfourError
from scripts.execute_notebook import run_cell
from tests.pipeline.report.fixture_run import build_run
from tests.places import REPOSITORY

SMALL = {"generator.backend": "portrait-renderer", "prompts.images_per_prompt": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> allfour.Run:
    """The sandbox, drawn directly, made within a running event loop as a notebook has one."""

    async def cell() -> allfour.Run:
        return allfour.audit(run=tmp_path_factory.mktemp("api") / "r", overrides=SMALL, quiet=True)

    return asyncio.run(cell())


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, allfour; print(sorted({'torch', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        _ = allfour.adit  # type: ignore[attr-defined]


def test_a_run_has_typed_metrics_and_tables(run: allfour.Run) -> None:
    assert run.metrics.summary.prompts == run.prompts.num_rows == 20
    assert run.images.num_rows == 80
    assert run.missing == 0
    assert run.header.drawn_world
    scores = run.scores.to_pandas()
    assert set(scores[scores["attribute"] == "gender"]["decision"]) <= {"woman", "man", "ambiguous"}
    frame = run.prompts.to_pandas()
    assert (frame["woman"] + frame["man"]).sum() == run.metrics.accounting.labelled
    assert ((frame["woman_low"] <= frame["woman_share"]) & (frame["woman_share"] <= frame["woman_high"])).all()
    assert frame["unanimous"].notna().sum() == run.metrics.summary.unanimous
    assert f"{run.metrics.summary.unanimous} of 20 prompts" in repr(run)


def test_what_stands_is_opened_and_not_made_again(run: allfour.Run) -> None:
    before = (run.path / "images.parquet").stat().st_mtime_ns
    again = allfour.open_run(run.path)
    assert again.metrics == run.metrics
    rescored = allfour.rescore(
        run.path, "sandbox", run=run.path.parent / "s", overrides={"generator": None}, quiet=True
    )
    assert rescored.metrics.summary.unanimous == run.metrics.summary.unanimous
    assert (run.path / "images.parquet").stat().st_mtime_ns == before
    found = allfour.compare(run, rescored)
    assert found.summary["unanimity_difference"]["value"] == 0
    assert "<p>" in found._repr_html_()
    assert found.save(run.path.parent / "c.html").read_text().startswith("<!doctype html>")


def test_hostile_names_are_text_in_a_notebook(tmp_path: Path) -> None:
    path = build_run(tmp_path / "<script>alert(1)</script>")
    found = allfour.open_run(path)
    assert "<script>" not in found._repr_html_()
    assert "<script>" not in found.figure().svg
    assert found.figure().save(tmp_path / "f.svg").read_text().startswith("<svg")


def test_errors_are_those_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(AllfourError, match=r"missing in|no such"):
        allfour.open_run(tmp_path)
    with pytest.raises(AllfourError, match="unknown key"):
        allfour.audit(run=tmp_path / "r", overrides={"seeds": 1})


@pytest.mark.parametrize(
    "name", ["allfour", "allfour.pipeline.words", "allfour.pipeline.statistics.intervals", "allfour.pipeline.statistics.planning",
             "allfour.pipeline.statistics.sequential"],
)  # fmt: skip
def test_examples_in_the_documentation_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_notebook_shows_what_its_cells_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(REPOSITORY / "docs" / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    shown = {cell.id: run_cell(cell.source, scope) for cell in notebook.cells if cell.cell_type == "code"}
    kept = {cell.id: cell.outputs[0].data for cell in notebook.cells if cell.cell_type == "code"}
    assert kept["run"]["text/plain"] == repr(shown["run"])
    assert (
        list(shown["frame"]["unanimous"].fillna(""))
        == list(scope["run"].prompts.to_pandas()["unanimous"].fillna(""))[:8]
    )
    assert kept["figure"]["image/svg+xml"] == shown["figure"].svg
