"""docs/plugins.md is a package that installs, audits and is in nobody's way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import light_processes
from tests.places import REPOSITORY

BUILT = "from setuptools import build_meta; build_meta.build_wheel('.')"
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
    subprocess.run([sys.executable, "-c", BUILT], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")  # what pip does with one of pure Python
    return folder


COMMANDS = {
    "audit": ["audit", "--config", "squares.yaml", "--run", "run", "--json"],
    "mistake": ["audit", "--config", "squares.yaml", "--set", "generator.sice=3"],
    "doctor": ["doctor", "--config", "squares.yaml"],
}
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
from allfour.__main__ import main
ended = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv, code = ["allfour", *arguments], 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code
    ended[name] = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended(project: Path) -> dict[str, Any]:
    """How each command ended, in one process that finds the package where Python looks."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(COMMANDS)],
        cwd=project, env=os.environ | {"PYTHONPATH": str(project / "site")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_it_audits_by_config_alone(project: Path, ended: dict[str, Any]) -> None:
    assert ended["audit"]["code"] == 0, ended["audit"]["err"]
    header = json.loads((project / "run" / "run.json").read_text())
    assert header["generator"] == {"backend": "squares", "size": 48}
    assert header["classifier"]["backend"] == "brightness"
    metrics = json.loads((project / "run" / "metrics.json").read_text())
    assert metrics["accounting"]["scored"] == 8
    assert (project / "run" / "report.html").stat().st_size > 10_000


def test_its_settings_are_checked_and_its_mistakes_named(ended: dict[str, Any]) -> None:
    assert ended["mistake"]["code"] == 2
    assert "generator.sice: unknown key. Did you mean 'size'?" in " ".join(ended["mistake"]["err"].split())
    assert "generator squares" in ended["doctor"]["out"]


def test_without_the_package_its_names_are_unknown(project: Path) -> None:
    done = light_processes.run("audit", "--config", project / "squares.yaml")
    assert done.returncode == 2
    assert "unknown value 'squares'" in " ".join(done.stderr.split())
