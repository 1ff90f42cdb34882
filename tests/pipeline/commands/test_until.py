"""`allfour audit --until`: stops early and says why, goes on after a kill, and is an ordinary run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from allfour.models.classifiers.base import PersonScores
from allfour.pipeline import cli
from allfour.pipeline.commands import build as build_module
from tests.light_backends import LightClassifier, LightGenerator

RULE = "headline.low > 0.5 or headline.high < 0.5"
PROMPTS, SET = 24, 2


class Sure(LightClassifier):
    """Reads a woman in every picture."""

    def classify(self, image: Any) -> list[PersonScores]:
        return [PersonScores({"gender": {"woman": 0.99, "man": 0.01}})]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_module, "build_generator", lambda config, run: LightGenerator())
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: Sure(attributes))
    prompts = ", ".join(f"{{id: p{n}, text: a person {n}}}" for n in range(PROMPTS))
    (tmp_path / "prompts.yaml").write_text(f"name: p\nprompts: [{prompts}]\n")
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    (tmp_path / "c.yaml").write_text(
        f"prompts: {{file: prompts.yaml, images_per_prompt: {SET}, set_size: {SET}}}\n"
        "generator: {backend: portrait-renderer}\nclassifier: {backend: face}\n"
        "attributes: {file: attributes.yaml}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    return tmp_path


def audit(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["audit", "--config", "c.yaml", "--run", "r", *map(str, arguments)])


def test_it_stops_when_the_question_is_settled_and_says_why(folder: Path) -> None:
    done = audit("--until", RULE, "--round", 4)
    assert done.exit_code == 0, done.output
    assert f"note: Stopped after 8 of 24 prompts (16 of 48 images): `{RULE}` holds; headline 5" in done.output
    found = json.loads((folder / "r" / "metrics.json").read_text())
    assert found["until"]["settled"] is True
    first_screen = (folder / "r" / "report.html").read_text().split('<figure id="figure-sets">')[0]
    assert (
        "The run could stop as soon as its question was settled: the interval that holds for such a run is"
        in first_screen
    )
    assert [look["prompts"] for look in found["until"]["looks"]] == [4, 8]
    assert found["until"]["figures"]["headline"]["low"] > 0.5 > found["until"]["looks"][0]["figures"]["headline"]["low"]
    assert (
        found["summary"]["unanimity"]["low"] > found["until"]["figures"]["headline"]["low"]
    )  # of one look: too narrow
    assert (folder / "made").read_text().count("\n") == 8 * SET
    assert "Stopped after 8 of 24 prompts" in (folder / "r" / "report.html").read_text()


def test_prompts_are_a_random_sample_of_the_list_and_the_same_one_again(folder: Path) -> None:
    audit("--until", RULE, "--round", 4)
    first = pq.read_table(folder / "r" / "images.parquet")["prompt_id"].to_pylist()
    assert sorted(set(first)) != sorted(f"p{n}" for n in range(8))
    again = audit("--until", RULE, "--round", 4, "--json")
    assert json.loads(again.stdout)["work"] == {"generated": 0, "scored": 0}
    assert pq.read_table(folder / "r" / "images.parquet")["prompt_id"].to_pylist() == first


def test_it_goes_on_after_a_stop_with_the_looks_that_it_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audit("--until", "headline.width < 0.3", "--round", 5, "--json")
    kept = json.loads((folder / "r" / "until.json").read_text())
    assert len(kept["looks"]) > 2
    (folder / "r").rename(folder / "other")
    (folder / "made").unlink()
    audit("--until", RULE, "--round", 5)  # an easier question: stops earlier
    audit("--until", "headline.width < 0.3", "--round", 5)
    assert json.loads((folder / "r" / "until.json").read_text()) == kept
    assert (folder / "made").read_text().count("\n") == json.loads(whole.stdout)["accounting"]["requested"]


def test_the_end_of_the_list_settles_nothing(folder: Path) -> None:
    done = audit("--until", "headline.width < 0.001", "--round", 20)
    assert "Stopped after 24 of 24 prompts (48 of 48 images): all prompts were used before" in done.output


def test_a_plain_audit_makes_the_rest_and_takes_the_account_back(folder: Path) -> None:
    audit("--until", RULE)
    done = audit("--json")
    found = json.loads(done.stdout)
    assert found["accounting"]["requested"] == SET * PROMPTS
    assert "made_in_rounds" not in {note["code"] for note in found["notes"]}
    assert "outdated" in {note["code"] for note in found["notes"]}
    assert (folder / "made").read_text().count("\n") == SET * PROMPTS


@pytest.mark.parametrize(
    "options", [("--until", "headline.low"), ("--until", "share.x.low > 0.5"), ("--until", RULE, "--rank", 0)]
)
def test_what_cannot_be_asked_is_refused_before_an_image(folder: Path, options: tuple[Any, ...]) -> None:
    assert audit(*options).exit_code == 2
    assert not (folder / "made").exists()
