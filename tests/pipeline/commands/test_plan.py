"""`allfour plan` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from allfour.pipeline import cli
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.writing import write_json
from tests.pipeline.report.fixture_run import build_run


def plan(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["plan", *(str(a) for a in arguments)])


def test_the_published_experiment_was_too_small() -> None:
    done = plan("--against", "85%", "--price", 0.04, "--seconds", 3)
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if line.endswith("McNemar"))
    assert row.split()[:5] == ["4", "40", "320", "12.80", "16"]
    assert "37%" in row


def test_a_width_is_planned_for_and_errors_of_the_classifier_widen_shares() -> None:
    rows = {}
    for name, options in (("sure", ()), ("unsure", ("--sensitivity", "90%", "--specificity", 0.9))):
        found = json.loads(plan("--width", "20%", "--json", *options).output)
        rows[name] = {(row["test"], row["images_per_prompt"]): row["prompts"] for row in found["width"]}
    key = ("interval of share", 8)
    assert rows["unsure"][key] > rows["sure"][key]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "185%"], "a share lies between"),
        (["--width", "20"], "write 20% or 0.2"),
        (["--against", "60%"], "cannot be told apart"),
        (["--unanimity", "10%"], "12.5%"),
        (["--images", "2"], "a set has 4 images"),
        (["--sensitivity", "50%", "--specificity", "50%"], "tells nothing"),
        (["--power", "20%"], "--power"),
        (["--against", "90%", "--turned", "50%"], "turn against"),
        (["--pilot", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_planned_is_said(options: list[str], message: str) -> None:
    done = plan(*options)
    assert (done.exit_code, message in done.output) == (2, True), done.output


def test_a_pilot_lends_its_spread_seconds_and_money(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    header = json.loads((run / "run.json").read_text())
    stages = header.get("stages", {})
    stages["images"] = {"fingerprint": "x", "seconds": 160.0}
    stages["scores"] = {**stages.get("scores", {}), "seconds": 80.0}
    write_json(run / "run.json", sealed({**header, "stages": stages, "spent": {"spent": 8.0}}))
    found = json.loads(plan("--pilot", run, "--width", "30%", "--json").output)
    metrics = json.loads((run / "metrics.json").read_text())
    images = metrics["accounting"]["requested"]
    assert found["question"]["seconds"] == pytest.approx(240 / images)
    assert found["question"]["price"] == pytest.approx(8 / metrics["accounting"]["generated"])
    assert found["pilot"] == str(run)
    assert 0.3 < found["question"]["unanimity"] < 1
