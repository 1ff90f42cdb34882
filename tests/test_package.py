"""What is installed: one name, with everything that a run needs inside."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from allfour import resources
from tests.places import REPOSITORY

SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    folders = {
        "allfour." + file.parent.relative_to(REPOSITORY).as_posix().replace("/", ".")
        for top in ("configs", "models", "pipeline")
        for file in (REPOSITORY / top).rglob("*.py")
    }
    own = {
        file.parent.relative_to(REPOSITORY).as_posix().replace("/", ".")
        for file in (REPOSITORY / "allfour").rglob("*.py")
    }
    assert set(SETTINGS["packages"]) == folders | own


def test_pipeline_stays_small_enough_to_be_drawn_from_memory() -> None:
    entries = [p.name for p in (REPOSITORY / "pipeline").iterdir() if p.name not in {"__init__.py", "__pycache__"}]
    assert len(entries) <= 12


LEVELS = ("statistics", "config", "run", "metrics archives", "scoring", "generation analyses", "report", "commands")
"""From the ground up: a folder imports what lies below it, and nothing beside or above."""


def test_imports_run_one_way() -> None:
    level = {name: height for height, names in enumerate(LEVELS) for name in names.split()}
    wrong = []
    for file in (REPOSITORY / "pipeline").rglob("*.py"):
        own = file.relative_to(REPOSITORY / "pipeline").parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            parts = (module or "").split(".")
            if own in level and parts[:2] == ["allfour", "pipeline"] and len(parts) > 2 and parts[2] in level:
                other = parts[2]
                if other != own and level[other] >= level[own]:
                    wrong.append(f"{file.relative_to(REPOSITORY)} imports {module}")
    assert wrong == []


@pytest.mark.parametrize("folder", ["analyses", "archives", "commands", "metrics", "report", "run", "scoring"])
def test_a_folder_says_where_everything_is(folder: str) -> None:
    place = REPOSITORY / "pipeline" / folder
    said = ast.get_docstring(ast.parse((place / "__init__.py").read_text(encoding="utf-8"))) or ""
    there = {path.stem for path in place.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    told = set(re.findall(r"\w+", said))
    assert there - {"__init__"} - told == set()


def test_models_know_nothing_of_the_pipeline() -> None:
    for file in (REPOSITORY / "models").rglob("*.py"):
        assert "allfour.pipeline" not in file.read_text(encoding="utf-8"), file


def test_packaged_resources_have_names() -> None:
    path = resources.packaged("configs/sandbox.yaml")
    assert path is not None
    assert path.is_file()
    assert resources.packaged_name(path) == "configs/sandbox.yaml"
    assert resources.packaged("configs/../pyproject.toml") is None
    assert resources.packaged("elsewhere/sandbox.yaml") is None
    assert resources.recorded_name(Path("/nowhere/x.yaml")) == "/nowhere/x.yaml"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()  # a project's own folder of that name is in nobody's way
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('mine')")
    done = subprocess.run(
        [sys.executable, "-m", "allfour", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("allfour ")


def test_the_source_alone_says_how_it_is_installed() -> None:
    for code in (["-m", "allfour", "--version"], ["-c", "import allfour; allfour.open_run"]):
        done = subprocess.run(
            [sys.executable, "-S", *code], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        assert done.returncode == (2 if code[0] == "-m" else 1)
        assert "allfour is not installed for this Python" in done.stderr.splitlines()[-1]


def test_nothing_lies_about() -> None:
    """A run, a log or a file that a redirection left, once committed, travels with every clone."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    named = {name.partition("/")[0] for name in done.stdout.split("\0") if name}
    assert named == {
        ".ci", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
        "SECURITY.md", "allfour", "configs", "constraints.txt", "docs", "mkdocs.yml", "models", "pipeline", "pyproject.toml", "scripts", "tests",
    }  # fmt: skip
