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


def test_an_error_under_json_is_json_on_stdout() -> None:
    found = run.invoke(app, ["audit", "--config", "no-such.yaml", "--json"])
    assert found.exit_code == 2
    assert json.loads(found.stdout)["error"].startswith("no-such.yaml: no such file")
    assert not run.invoke(app, ["audit", "--config", "no-such.yaml"]).stdout
