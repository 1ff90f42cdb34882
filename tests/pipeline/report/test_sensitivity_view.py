"""The section on sensitivity, over runs that were scored, relabelled under a grid and given a second opinion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from allfour.pipeline.cli import app
from allfour.pipeline.commands import rescore as rescore_module
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig
from allfour.pipeline.report import ReportError, exports, write_report
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.words import percent
from tests.pipeline.report.test_report import Page

HOSTILE = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1"> {}'


def score(root: Path, name: str, archive: Path, weights: Path, woman: str) -> Path:
    asked = {
        "templates": ["{}", "a {}", HOSTILE],
        "attributes": {"gender": {"margin": 0.0, "labels": {"woman": [woman], "man": ["woman"]}}},
    }
    (root / f"{name}.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
    config = RunConfig.model_validate(
        {
            "name": name,
            "classifier": {"backend": "clip", "pretrained": str(weights)},
            "attributes": {"file": str(root / f"{name}.yaml")},
        }
    )
    rescore_module.rescore(config, str(archive), RunFolder(root / name), Reporter(quiet=True))
    return root / name


def analysed_runs(root: Path, tiny_clip: Path) -> tuple[Path, Path]:
    """A run without the section's figures, and the same with a grid and a second opinion."""
    random = np.random.default_rng(3)
    for number in range(24):
        folder = root / "archive" / f"p{number % 6}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (40, 40, 3) if number % 2 else (3, 3, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40, 40)).save(folder / f"{number}.png")
    absent = score(root, "absent", root / "archive", tiny_clip, "boy")
    other = score(root, "other", root / "archive", tiny_clip, "cat")
    shutil.copytree(absent, root / "present")
    command = ["relabel", str(root / "present"), "--grid", "default", "--second-opinion", str(other)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return absent, root / "present"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> tuple[Path, Path]:
    return analysed_runs(tmp_path_factory.mktemp("runs"), tiny_clip)


def section(run: Path) -> tuple[str, Page]:
    html = write_report(run).read_text(encoding="utf-8")
    start = html.index('id="sensitivity"')
    found = html[start : html.index("</section>", start)]
    return found, Page(f"<section {found}")


def test_every_setting_and_the_second_opinion_are_shown(runs: tuple[Path, Path]) -> None:
    html, page = section(runs[1])
    document: dict[str, Any] = json.loads((runs[1] / "sensitivity.json").read_text())
    own = document["baseline"]["unanimity"]["value"]
    assert f"for {percent(own)} of 6 prompts" in page.text
    settings = [setting for factor in document["factors"] for setting in factor["settings"]]
    assert f"over {1 + len(settings)} settings" in page.text
    assert html.count('<tr role="row"><th scope="row"') == len(settings) + 4
    mark = f'x1="{own * 100:.3f}'.rstrip("0").rstrip(".") + '%"'
    assert all(mark in part[: part.index("/>")] for part in html.split("<line ") if "reftick" in part.split("/>")[0])
    assert html.count("reftick") == len(settings)
    for factor in document["factors"]:
        assert f"{len(factor['settings'])} other setting" in page.text
    opinion = json.loads((runs[1] / "metrics.json").read_text())["second_opinion"]
    assert "Agreement does not show who is right" in page.text
    assert "These two share an encoder" in page.text
    assert f"Agreement Share of the images labelled by both to which they gave the same label. {percent(opinion['agreement']['value'])}" in page.text  # fmt: skip
    kappa = opinion["kappa"]
    shown = "–" if kappa["value"] is None else f"{kappa['value']:.2f} {kappa['low']:.2f} to {kappa['high']:.2f}"
    assert f"1 everywhere. {shown}" in page.text
    assert not any("style" in attributes for _, attributes in page.tags)


def test_names_of_settings_are_inert(runs: tuple[Path, Path]) -> None:
    html, page = section(runs[1])
    assert "&lt;script&gt;window.pwned=1" in html
    assert "<script>window.pwned=1</script>" in page.text
    assert not any(tag in ("script", "img") for tag, _ in page.tags)


def test_where_nothing_was_computed_the_command_is_named(runs: tuple[Path, Path]) -> None:
    html, page = section(runs[0])
    assert "was not computed: allfour relabel RUN --grid default does it" in page.text
    assert "<table" not in html


def test_metrics_fit_the_schema(runs: tuple[Path, Path]) -> None:
    schema = json.loads((Path(exports.__file__).parents[1] / "run" / "metrics.schema.json").read_text())
    for run in runs:
        metrics = json.loads((run / "metrics.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(metrics)
    metrics["second_opinion"]["kappa"]["low"] = -2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(metrics)


def test_a_broken_document_ends_in_one_clear_error(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[1], tmp_path / "run")
    (run / "sensitivity.json").write_text('{"confidence": "much"}')
    with pytest.raises(ReportError, match=r"sensitivity\.json: at .*Repeat `allfour relabel RUN --grid default`"):
        write_report(run)
    (run / "sensitivity.json").unlink()
    with pytest.raises(ReportError, match="cannot be read"):
        write_report(run)
