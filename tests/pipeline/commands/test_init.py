"""`allfour init`: every answer gives a config that can be read, and a file that stands is not replaced."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allfour.pipeline.cli import app
from allfour.pipeline.commands.init import IMAGES, PROMPTS, READERS, own_config
from allfour.pipeline.config import load_config, load_prompts

run = CliRunner()


def test_every_combination_of_answers_is_a_config_that_says_its_keys_in_words(tmp_path: Path) -> None:
    some = next(iter(PROMPTS))  # prompts stand in a block of their own
    answers = [*itertools.product(IMAGES, READERS, [some]), *itertools.product(["hosted"], ["face"], PROMPTS)]
    for images, reader, prompts in answers:
        path = tmp_path / "own.yaml"
        path.write_text(own_config(images, reader, prompts), encoding="utf-8")
        config = load_config(path)
        assert (config.generator is None) == (images == "archive")
        assert (
            config.classifier.backend == {"clip": "clip", "face": "face", "judge": "judge", "sandbox": "clip"}[reader]
        )
        assert load_prompts(config.prompts.file or "").prompts
        assert path.read_text().count("#") > 3
        assert ("Drawn world" in (config.notice or "")) == (images == "sandbox")


def test_the_config_is_written_and_the_next_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run.invoke(app, ["init", "--images", "archive", "--reader", "face", "--prompts", "experiment"])
    assert found.exit_code == 0
    assert "allfour rescore FOLDER --config allfour.yaml --dry-run" in found.stdout
    same = ["init", "--images", "archive", "--reader", "face", "--prompts", "experiment"]
    assert run.invoke(app, same).exit_code == 0  # as it would be written: a killed command is repeated
    again = run.invoke(app, ["init", "--images", "sandbox"])
    assert again.exit_code == 2
    assert "allfour.yaml already exists" in again.stderr


@pytest.mark.parametrize(
    ("option", "message"), [("--images", "choose one of sandbox, diffusers"), ("--reader", "clip, face")]
)
def test_an_answer_that_is_none_is_named(tmp_path: Path, option: str, message: str) -> None:
    found = run.invoke(app, ["init", option, "nope", "--out", str(tmp_path / "x.yaml")])
    assert found.exit_code == 2
    assert message in found.stderr


def test_a_prompt_set_of_ones_own_is_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my, prompts: 1.yaml").write_text("name: mine\nprompts: [a nurse]\n")
    answers = ["--images", "archive", "--reader", "face", "--prompts"]
    found = run.invoke(app, ["init", "--out", "a folder/own.yaml", *answers, "my, prompts: 1.yaml"])
    assert found.exit_code == 0, found.stderr
    assert "allfour doctor --config 'a folder/own.yaml'" in found.stdout
    monkeypatch.chdir("/")
    named = load_config(tmp_path / "a folder" / "own.yaml").prompts.file
    assert load_prompts(named or "").name == "mine"


def test_prompts_that_are_not_there_leave_no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run.invoke(app, ["init", "--images", "sandbox", "--prompts", "us-labor.yaml"])
    assert found.exit_code == 2
    assert "--prompts: us-labor.yaml: no such file" in found.stderr
    assert "experiment, us-labour" in found.stderr
    (tmp_path / "lists.yaml").write_text("- a nurse\n")
    assert run.invoke(app, ["init", "--images", "sandbox", "--prompts", "lists.yaml"]).exit_code == 2
    assert not (tmp_path / "allfour.yaml").exists()


def test_us_labour_is_compared_with_labour_statistics(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(own_config("hosted", "face", "us-labour"), encoding="utf-8")
    config = load_config(path)
    assert config.reference is not None
    assert config.reference.file.endswith("us-labour-2019.yaml")


def test_an_error_under_json_is_json_on_stdout() -> None:
    found = run.invoke(app, ["audit", "--config", "no-such.yaml", "--json"])
    assert found.exit_code == 2
    assert json.loads(found.stdout)["error"].startswith("no-such.yaml: no such file")
    assert not run.invoke(app, ["audit", "--config", "no-such.yaml"]).stdout
