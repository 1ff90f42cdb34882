"""Bits flipped in any file of a run folder: one error that says how to mend it, or the file made again; never a wrong figure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allfour.errors import RunFolderError
from allfour.pipeline.cli import app
from allfour.pipeline.commands import build
from allfour.pipeline.run.folder import RunFolder
from tests.light_backends import LightClassifier, LightGenerator

TABLES = ("images.parquet", "scores.parquet", "metrics.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and the finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: maestro, text: a maestro}]\n"
    )
    (folder / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    (folder / "config.yaml").write_text(
        f"prompts: {{file: {folder}/prompts.yaml}}\ngenerator: {{backend: portrait-renderer}}\n"
        f"classifier: {{backend: face}}\nattributes: {{file: {folder}/attributes.yaml}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        light(patch)
        assert audit(folder, folder / "run").exit_code == 3
    return folder


def light(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "build_generator", lambda config, run: LightGenerator())
    patch.setattr(build, "build_classifier", lambda config, attributes: LightClassifier(attributes))


def audit(folder: Path, run: Path) -> Any:
    return CliRunner().invoke(app, ["audit", "--config", str(folder / "config.yaml"), "--run", str(run)])


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    light(monkeypatch)
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, place: float) -> None:
    """Flip one bit, so that a reader that looks at no hash may well not see it."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x01
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["images.parquet", "scores.parquet"])
def test_a_flipped_bit_in_a_table_is_one_error_and_mended_by_the_same_command(
    made: Path, run: Path, name: str, place: float
) -> None:
    flip(run / name, place)
    told = CliRunner().invoke(app, ["report", str(run)])
    assert told.exit_code == 2, told.output
    assert name in told.stderr
    assert "Repeat the command that made it (`allfour audit`)" in told.stderr
    again = audit(made, run)
    assert again.exit_code == 3, again.output
    for table in TABLES[:2]:
        assert (run / table).read_bytes() == (made / "run" / table).read_bytes()
    assert len((run / "outcomes.jsonl").read_text().splitlines()) == 8  # no image was made again


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_the_metrics_is_one_error_and_mended_by_report(run: Path, place: float) -> None:
    before = (run / "metrics.json").read_bytes()
    flip(run / "metrics.json", place)
    told = CliRunner().invoke(app, ["export", str(run), "--format", "csv"])
    assert told.exit_code == 2, told.output
    assert "metrics.json" in told.stderr
    # where the flip leaves no JSON, that is what is told
    assert "allfour report" in told.stderr or "not valid JSON" in told.stderr
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 3
    assert (run / "metrics.json").read_bytes() == before


def test_the_header_damaged_anywhere_is_never_a_fault(run: Path) -> None:
    whole = (run / "run.json").read_bytes()
    keys = [f'"{key}"'.encode() for key in json.loads(whole)]
    for key in keys:
        (run / "run.json").write_bytes(whole.replace(key, key[:-2] + b'~"', 1))
        told = CliRunner().invoke(app, ["report", str(run)])
        assert told.exit_code in (2, 3), (key, told.output)
        assert told.exit_code == 3 or "run.json" in told.stderr or "run" in told.stderr
    for wrong in ({"format": 1, "stages": []}, {"format": 1, "stages": {"scores": 3}}, {"format": 1, "counts": 4}):
        (run / "run.json").write_text(json.dumps(wrong))
        with pytest.raises(RunFolderError, match=r"run\.json: damaged at"):
            RunFolder(run).header()


def test_a_header_of_before_has_no_hashes_and_is_read(run: Path) -> None:
    header = json.loads((run / "run.json").read_text())
    hashes = [stage.pop("tables") for stage in header["stages"].values() if "tables" in stage]
    assert {name for found in hashes for name in found} == set(TABLES)
    (run / "run.json").write_text(json.dumps(header))
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 3
