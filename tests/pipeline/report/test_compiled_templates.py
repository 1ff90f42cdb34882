"""Templates are compiled once, of what they say now, and a folder that takes nothing is no fault."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest

from allfour.pipeline.report.html import CompiledTemplates


class Counting(jinja2.Environment):
    """Counts what it compiles."""

    compiled = 0

    def compile(self, *arguments: Any, **options: Any) -> Any:
        type(self).compiled += 1
        return super().compile(*arguments, **options)


def page(folder: Path, kept: Path) -> tuple[str, int]:
    """What a new process would print, and how much it compiled for that."""
    Counting.compiled = 0
    env = Counting(loader=jinja2.FileSystemLoader(folder), autoescape=True, bytecode_cache=CompiledTemplates(kept))
    return env.get_template("a.j2").render(value="<b>"), Counting.compiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "a.j2").write_text("one {{ value }}")
    return tmp_path


def test_a_template_is_compiled_once_and_again_when_it_changes(folder: Path) -> None:
    kept = folder / "__pycache__"
    assert page(folder, kept) == ("one &lt;b&gt;", 1)
    assert page(folder, kept) == ("one &lt;b&gt;", 0)
    (folder / "a.j2").write_text("two {{ value }}")
    assert page(folder, kept) == ("two &lt;b&gt;", 1)


@pytest.mark.parametrize("left", [0, 10, 60])
def test_a_damaged_one_is_compiled_again(folder: Path, left: int) -> None:
    kept = folder / "__pycache__"
    page(folder, kept)
    (file,) = kept.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    assert page(folder, kept) == ("one &lt;b&gt;", 1)
    assert page(folder, kept) == ("one &lt;b&gt;", 0)


def test_nothing_is_written_where_bytecode_is_not_or_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("in the way")
    assert page(folder, folder / "file") == ("one &lt;b&gt;", 1)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert page(folder, folder / "__pycache__") == ("one &lt;b&gt;", 1)
    assert not (folder / "__pycache__").exists()
