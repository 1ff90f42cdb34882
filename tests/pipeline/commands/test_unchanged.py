"""A finished run is known again without its models: nothing heavy is imported where nothing is to be done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allfour.models.classifiers.clip_settings import ClipConfig
from allfour.pipeline.cli import app
from allfour.pipeline.commands import build
from allfour.pipeline.commands.unchanged import backend_state

COUNTING = """
import json, sys
from allfour.pipeline.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps({"code": end.code, "torch": "torch" in sys.modules}))
"""


def test_a_rerun_imports_no_torch_until_a_weight_changes(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("name: x\nprompts: [a photo of a nurse]\n")
    config = {
        "prompts": {"file": str(prompts), "images_per_prompt": 2, "set_size": 2},
        "generator": {"backend": "portrait-renderer"},
        "classifier": {"backend": "clip", "pretrained": str(tiny_clip)},
        "attributes": {"file": "configs/attributes/sandbox.yaml"},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))

    monkeypatch.chdir(tmp_path)
    built = 0
    real = build.build_classifier

    def counted(*arguments: Any) -> Any:
        nonlocal built
        built += 1
        return real(*arguments)

    monkeypatch.setattr(build, "build_classifier", counted)

    def audit_here() -> dict[str, int]:
        found = CliRunner().invoke(app, ["audit", "--config", "c.yaml", "--run", "run", "--json"])
        assert found.exit_code == 0, found.output
        work: dict[str, int] = json.loads(found.stdout)["work"]
        return work

    def audit_apart() -> tuple[bool, dict[str, int]]:
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, "audit", "--config", "c.yaml", "--run", "run", "--json"],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        result, _, ending = done.stdout.rstrip().rpartition("\n")
        found = json.loads(ending)
        assert found["code"] == 0, done.stdout + done.stderr
        return found["torch"], json.loads(result)["work"]

    assert audit_here() == {"generated": 2, "scored": 2}
    assert built == 1
    tables = [(tmp_path / "run" / name).read_bytes() for name in ("images.parquet", "scores.parquet", "metrics.json")]
    assert audit_apart() == (False, {"generated": 0, "scored": 0})
    names = ("images.parquet", "scores.parquet", "metrics.json")
    assert tables == [(tmp_path / "run" / name).read_bytes() for name in names]
    weights = tiny_clip / "open_clip_model.safetensors"
    os.utime(weights)  # the same bytes, but nobody knows without reading them
    assert audit_here() == {"generated": 0, "scored": 0}
    assert built == 2
    next((tmp_path / "run" / "images").rglob("*.png")).unlink()
    assert audit_here()["generated"] == 1


def test_what_is_not_all_on_disk_is_never_taken_for_unchanged(tiny_clip: Path, tmp_path: Path) -> None:
    assert backend_state(ClipConfig(backend="clip", model="ViT-L-14", pretrained="openai")) is None
    config = ClipConfig(backend="clip", pretrained=str(tiny_clip))
    assert backend_state(config) == backend_state(config) != backend_state(config, "other words")
    assert backend_state(ClipConfig(backend="clip", pretrained=str(tmp_path / "gone"))) is None


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
