"""A run that is killed at any moment is finished by the same command, with the tables of an uninterrupted run."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests import light_processes
from tests.light_backends import picture

CONFIG = """
prompts: {file: PROMPTS, images_per_prompt: 4}
generator: {backend: portrait-renderer}
classifier: {backend: face}
attributes: {file: ATTRIBUTES}
archive: {shard_size: 3}
"""
KILLS = 6


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: maestro, text: a maestro}]\n"
    )
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    path = tmp_path / "config.yaml"
    path.write_text(
        CONFIG.replace("PROMPTS", str(tmp_path / "prompts.yaml")).replace(
            "ATTRIBUTES", str(tmp_path / "attributes.yaml")
        )
    )
    return path


def allfour(*arguments: Any, kill_at: int = 0, made: Path | None = None, fsyncs: Path | None = None) -> int:
    done = light_processes.run(*arguments, KILL_AT=kill_at, MADE=made or "", FSYNCS=fsyncs or "")
    assert done.returncode in (0, 3, -signal.SIGKILL), done.stderr
    return done.returncode


def tables(run: Path) -> tuple[Any, ...]:
    metrics = json.loads((run / "metrics.json").read_text())
    return (
        pq.read_table(run / "images.parquet").to_pylist(),
        pq.read_table(run / "scores.parquet").to_pylist(),
        metrics,
        (run / "prompts.csv").read_text(),
    )


@pytest.mark.slow
def test_audit(tmp_path: Path, config: Path) -> None:
    whole = tmp_path / "whole"
    assert allfour("audit", "--config", config, "--run", whole, fsyncs=tmp_path / "count") == 3  # one image is refused
    commits = int((tmp_path / "count").read_text())
    assert commits > 20
    for number in range(KILLS):
        run, made = tmp_path / f"run{number}", tmp_path / f"made{number}"
        assert (
            allfour(
                "audit", "--config", config, "--run", run, kill_at=1 + number * (commits - 1) // (KILLS - 1), made=made
            )
            < 0
        )
        assert allfour("audit", "--config", config, "--run", run, made=made) == 3
        assert tables(run) == tables(whole)
        # at most the one image that was in hand when the process was killed is made again
        again = [key for key, times in Counter(made.read_text().split()).items() if times > 1]
        assert len(again) <= 1
        assert not list(run.rglob(".tmp-*"))


@pytest.mark.slow
def test_rescore(tmp_path: Path, config: Path) -> None:
    archive = tmp_path / "archive"
    for prompt in ("a", "b"):
        (archive / prompt).mkdir(parents=True)
        for index in range(4):
            (archive / prompt / f"{index}.png").write_bytes(picture(index) if index != 1 else b"no image")
    whole = tmp_path / "whole"
    assert allfour("rescore", archive, "--config", config, "--run", whole, fsyncs=tmp_path / "count") == 3
    commits = int((tmp_path / "count").read_text())
    assert commits > 20
    for number in range(KILLS):
        run = tmp_path / f"run{number}"
        assert (
            allfour(
                "rescore", archive, "--config", config, "--run", run, kill_at=1 + number * (commits - 1) // (KILLS - 1)
            )
            < 0
        )
        assert allfour("rescore", archive, "--config", config, "--run", run) == 3
        assert tables(run) == tables(whole)


def test_rescore_that_cuts_grids(tmp_path: Path, config: Path) -> None:
    (tmp_path / "archive" / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        tiles = rng.integers(0, 256, (2, 2, 3, 3, 3), dtype=np.uint8).repeat(16, axis=2).repeat(16, axis=3)
        pixels = tiles.swapaxes(1, 2).reshape(96, 96, 3)
        Image.fromarray(pixels if index < 2 else tiles[0, 0]).save(tmp_path / "archive" / "a" / f"{index}.png")
    command = (
        "rescore",
        tmp_path / "archive",
        "--config",
        config,
        "--set",
        "archive.tiles=auto",
        "--set",
        "archive.shard_size=1",
    )
    whole = tmp_path / "whole"
    assert allfour(*command, "--run", whole, fsyncs=tmp_path / "count") == 0
    paths = pq.read_table(whole / "images.parquet")["path"].to_pylist()
    assert [path.rpartition("::tile-")[2] for path in paths[:4]] == [
        "0-0-48-48",
        "48-0-96-48",
        "0-48-48-96",
        "48-48-96-96",
    ]
    assert len(paths) == 9
    commits = int((tmp_path / "count").read_text())
    for number in range(KILLS // 2):
        run = tmp_path / f"run{number}"
        assert allfour(*command, "--run", run, kill_at=3 + number * (commits - 4) // (KILLS // 2 - 1)) < 0
        assert allfour(*command, "--run", run) == 0
        assert tables(run) == tables(whole)


def test_audit_that_works_ahead(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AHEAD", "1")
    more = ("--set", "prompts.images_per_prompt=12")
    whole = tmp_path / "whole"
    assert allfour("audit", "--config", config, "--run", whole, *more, fsyncs=tmp_path / "count") == 3
    commits = int((tmp_path / "count").read_text())
    for number in range(3):
        run, made = tmp_path / f"run{number}", tmp_path / f"made{number}"
        kill_at = 3 + (number + 1) * (commits // 2) // 4  # while images are made
        assert allfour("audit", "--config", config, "--run", run, *more, kill_at=kill_at, made=made) < 0
        assert allfour("audit", "--config", config, "--run", run, *more, made=made) == 3
        assert tables(run) == tables(whole)
        # of a kill only what was under way is made again: two batches of three, and the one that was handed over
        assert sum(times > 1 for times in Counter(made.read_text().split()).values()) <= 9
        assert not list(run.rglob(".tmp-*"))
