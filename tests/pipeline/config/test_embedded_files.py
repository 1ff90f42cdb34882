"""What travels with allfour is taken from the package, whatever stands in the working directory; what a user writes starts there."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allfour.models.classifiers import clip_weights
from allfour.models.settings import on_disk
from allfour.pipeline.analyses.sensitivity_grid import load_grid
from allfour.pipeline.cli import app
from allfour.pipeline.commands import study as studies
from allfour.pipeline.config import load_attributes, load_config, load_prompts, recorded_config
from allfour.pipeline.config.study import load_study
from allfour.pipeline.metrics.calibration import read_calibration
from tests.places import REPOSITORY

PERCEIVED = "configs/attributes/perceived.yaml"
PUBLISHED = "configs/calibrations/clip-vit-b-16-openai-fairface.json"


@pytest.fixture
def namesakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with something else by every name of ours."""
    for source in (*REPOSITORY.glob("configs/**/*.yaml"), REPOSITORY / PUBLISHED):
        file = tmp_path / source.relative_to(REPOSITORY)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of somebody else: true\n", encoding="utf-8")
    for folder in ("models/sandbox/clip", "models/sandbox/diffusion", "openai", "allfour"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "allfour/__init__.py").write_text("raise SystemExit('code of somebody else')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_packaged_config_has_the_packages_files(namesakes: Path) -> None:
    config = load_config(Path("sandbox"))
    assert config.classifier.pretrained == "models/sandbox/clip"  # type: ignore[attr-defined]
    assert on_disk(config.generator.model) == str(REPOSITORY / "models/sandbox/diffusion")  # type: ignore[union-attr]
    assert load_attributes(config.attributes.file).attributes
    assert len(load_prompts(str(config.prompts.file)).prompts) == 20
    assert clip_weights.resolve(model=None, pretrained="models/sandbox/clip").weights.is_relative_to(REPOSITORY)


def test_the_default_of_a_key_and_what_a_header_says_are_the_packages(namesakes: Path) -> None:
    (namesakes / "own.yaml").write_text("classifier: {backend: face}\n", encoding="utf-8")
    config = load_config(Path("own.yaml"))
    assert load_attributes(config.attributes.file).attributes
    again = recorded_config(config.model_dump(mode="json"), where="run.json", overrides=["seed=1"])
    assert again.attributes.file == PERCEIVED


def test_what_a_user_types_is_taken_from_the_working_directory_and_said(
    namesakes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = str(namesakes / PERCEIVED)
    with caplog.at_level(logging.WARNING):
        config = load_config(REPOSITORY / "configs/sandbox.yaml", [f"attributes.file={PERCEIVED}"])
    assert config.attributes.file == mine
    assert caplog.messages == [
        f"note: {PERCEIVED} is {mine}, and not what allfour brings by that name: {REPOSITORY / PERCEIVED}"
    ]
    recorded = load_config(Path("sandbox")).model_dump(mode="json")
    again = recorded_config(recorded, where="run.json", overrides=[f"attributes.file={PERCEIVED}"])
    assert (again.attributes.file, again.prompts.file) == (mine, "configs/prompts/bolukbasi-extremes.yaml")


def test_without_a_config_audit_and_rescore_take_the_packages(namesakes: Path) -> None:
    for command in (["audit"], ["rescore", "nowhere"]):
        said = CliRunner().invoke(app, [*command, "--set", "classifier.backend=clop"])
        assert said.exit_code == 2
        assert f"error: {REPOSITORY / 'configs'}" in said.stderr


def test_a_folder_by_the_name_of_a_tag_is_no_model(namesakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(Path("rescore")).classifier.pretrained == "openai"  # type: ignore[attr-defined]
    monkeypatch.setattr(clip_weights, "_from_tag", lambda model, tag, download: (model, tag))
    assert clip_weights.resolve(model="ViT-L-14", pretrained="openai") == ("ViT-L-14", "openai")


def test_a_packaged_study_and_its_processes_have_the_packages_files(namesakes: Path) -> None:
    cell = load_study(Path("sandbox")).cells[0]
    written = studies._write_config(cell, namesakes / "out")
    assert load_config(written) == cell.config
    done = subprocess.run([*studies.ALLFOUR, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("allfour ")


def test_packaged_calibrations_and_grids_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_calibration(Path(PUBLISHED))["format"] == 1
    assert load_grid("configs/sensitivity/default.yaml") == load_grid("default")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/probe.safetensors").touch()
    (tmp_path / "beside/grid.yaml").write_text("heads: [zero-shot, probe.safetensors]\n", encoding="utf-8")
    assert load_grid("beside/grid.yaml").heads == ("zero-shot", str(tmp_path / "beside/probe.safetensors"))
