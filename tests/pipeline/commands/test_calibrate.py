"""`allfour calibrate` as a user types it: what it prints of what was measured, and of what could not be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from typer.testing import CliRunner

from allfour.models.generators.base import Generated, GenerationRequest
from allfour.models.generators.portrait_renderer import PortraitRenderer
from allfour.pipeline.cli import app
from tests.places import REPOSITORY


def portrait(who: str, seed: int) -> bytes:
    """A drawn person, as a PNG."""
    renderer = PortraitRenderer(planted=REPOSITORY / "configs" / "references" / "sandbox-planted.yaml")
    (drawn,) = renderer.generate([GenerationRequest("p", 0, f"a photo of a {who}", seed)])
    assert isinstance(drawn, Generated)
    return drawn.data


def test_what_was_measured_and_what_was_not_are_told_apart(tmp_path: Path) -> None:
    """The sandbox's CLIP on 12 portraits: both genders occur, no age and no skin tone, and one word means no label."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "gender", "age"])
        for number in range(12):
            (tmp_path / f"{number}.png").write_bytes(portrait(("woman", "man")[number % 2], number))
            rows.writerow([f"{number}.png", ("Female", "Male")[number % 2] if number else "unknown", "young"])
    arguments = ["calibrate", tmp_path / "labels.csv", "--config", REPOSITORY / "configs" / "sandbox.yaml"]
    done = CliRunner().invoke(app, [str(a) for a in (*arguments, "--out", tmp_path / "c.json")])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert any(line.startswith("gender: accuracy") and line.endswith("of 11 images that got a label") for line in lines)
    for name in ("skin_tone", "age"):
        assert f"{name}: not calibrated, because some of its labels occur in none of the images" in lines
    assert "note: images whose word for gender is not one of its labels are left out of it: unknown (1)" in lines
    assert lines[-1] == f"calibration: {tmp_path / 'c.json'}"
    written = json.loads((tmp_path / "c.json").read_text())
    assert list(written["attributes"]) == ["gender"]
    assert set(written["binding"]["margins"]) == {"gender", "skin_tone", "age"}
