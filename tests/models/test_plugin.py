"""docs/plugins.md is a package that installs, audits and is in nobody's way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import REPOSITORY

PROMPTS = "name: Two\nprompts: [a nurse, an architect]\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the page's config, and its package installed under `site`."""
    folder = tmp_path_factory.mktemp("plugin")
    text = (REPOSITORY / "docs" / "plugins.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(toml|python|yaml)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    source = folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(blocks["toml"])
    (source / "allfour_squares.py").write_text(blocks["python"])
    (folder / "squares.yaml").write_text(blocks["yaml"])
    (folder / "prompts.yaml").write_text(PROMPTS)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True, capture_output=True, timeout=60)
    return folder


def allfour(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "allfour", *arguments],
        cwd=project, env=os.environ | {"PYTHONPATH": str(project / "site")}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_audits_by_config_alone(project: Path) -> None:
    done = allfour(project, "audit", "--config", "squares.yaml", "--run", "run", "--json")
    assert done.returncode == 0, done.stderr
    header = json.loads((project / "run" / "run.json").read_text())
    assert header["generator"] == {"backend": "squares", "size": 48}
    assert header["classifier"]["backend"] == "brightness"
    metrics = json.loads((project / "run" / "metrics.json").read_text())
    assert metrics["accounting"]["scored"] == 8
    assert (project / "run" / "report.html").stat().st_size > 10_000


def test_its_settings_are_checked_and_its_mistakes_named(project: Path) -> None:
    done = allfour(project, "audit", "--config", "squares.yaml", "--set", "generator.sice=3")
    assert done.returncode == 2
    assert "generator.sice: unknown key. Did you mean 'size'?" in " ".join(done.stderr.split())
    assert "generator squares" in allfour(project, "doctor", "--config", "squares.yaml").stdout


def test_without_the_package_its_names_are_unknown(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "allfour", "audit", "--config", "squares.yaml"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "unknown value 'squares'" in " ".join(done.stderr.split())
