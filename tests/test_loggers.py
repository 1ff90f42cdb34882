"""Figures for experiment trackers. Where a tracker is installed, it really logs, to a folder of the test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import allfour
from allfour import loggers
from allfour.errors import ConfigError


def measured(folder: Path) -> allfour.Run:
    """A run whose measured figures are given and whose corrected ones are unknown."""
    header = {
        "format": 1,
        "name": "x",
        "config": {"prompts": {"file": "p.yaml"}},
        "generator": {"backend": "g", "model": "m"},
    }
    share = {"woman": {"value": 0.25, "low": 0.1, "high": 0.5}, "man": None}
    metrics = {
        "format": 1, "headline": "gender", "labels": {"gender": ["woman", "man"]},
        "summary": {"prompts": 2, "set_size": 4, "unanimous": 1, "unanimity": {"value": 0.5, "low": 0.1, "high": 0.9},
                    "headline": {"evidence": "measured", "value": None, "low": None, "high": None, "prompts": 2, "verdict": "too_few_prompts", "because": []}},
        "accounting": {"requested": 8, "scored": 7}, "attributes": {"gender": {"share": share}}, "prompts": [],
    }  # fmt: skip
    for name, document in (("run.json", header), ("metrics.json", metrics)):
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    (folder / "report.html").write_text("<p>report</p>", encoding="utf-8")
    return allfour.open_run(folder)


def test_what_cannot_be_told_is_no_figure(tmp_path: Path) -> None:
    found = loggers.figures(measured(tmp_path))
    assert found["allfour/unanimity/high"] == 0.9
    assert found["allfour/share/woman/low"] == 0.1
    assert found["allfour/accounting/scored"] == 7
    assert not [key for key in found if "headline" in key or "man/" in key.replace("woman/", "")]
    assert loggers.facts(measured(tmp_path)) == {
        "allfour/name": "x", "allfour/evidence": "measured", "allfour/verdict": "too_few_prompts", "allfour/generator": "m",
        "allfour/prompts": "p.yaml",
    }  # fmt: skip


def test_a_tracker_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'allfour\[mlflow\]'"):
        loggers.log_mlflow(measured(tmp_path))


def test_mlflow_keeps_figures_tags_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as active:
        loggers.log_mlflow(measured(tmp_path))
    kept = mlflow.get_run(active.info.run_id).data
    assert kept.metrics["allfour/unanimity/value"] == 0.5
    assert kept.tags["allfour/generator"] == "m"
    assert list((tmp_path / "mlruns").rglob("report.html"))


def test_wandb_takes_figures_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    with wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(console="off")) as active:
        loggers.log_wandb(measured(tmp_path))
        assert active.summary["allfour/unanimity/value"] == 0.5
        assert active.config["allfour/generator"] == "m"
