"""`allfour export`, and the files that audit, rescore and report leave for continuous integration."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from allfour.errors import UsageError
from allfour.pipeline import cli
from allfour.pipeline.commands.export import TIDY_SCHEMA, export_dataset
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.seal import sealed
from tests.light_backends import install, picture
from tests.pipeline.report.fixture_run import Options, build_run


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with a config, an archive of two prompts of four, and the run `r` over it."""
    from allfour.pipeline.commands import build as build_module

    monkeypatch.setattr(build_module, "build_classifier", build_module.build_classifier)
    install(generator=False)
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    (tmp_path / "light.yaml").write_text(
        f"classifier: {{backend: face}}\nattributes: {{file: {tmp_path}/attributes.yaml}}\n"
    )
    for prompt in ("nurse", "captain"):
        (tmp_path / "archive" / prompt).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "archive" / prompt / f"{index}.png").write_bytes(picture(index + 10 * len(prompt)))
    monkeypatch.chdir(tmp_path)
    assert run("rescore", "archive", "--config", "light.yaml", "--run", "r").exit_code == 0
    return tmp_path


def test_rescore_writes_junit_and_markdown(scored: Path) -> None:
    (scored / "summary.md").write_text("before\n")
    result = run(
        "rescore", "archive", "--config", "light.yaml", "--run", "r", "--junit", "out/gates.xml", "--markdown", "summary.md",
        "--fail-if", "summary.prompts < 5", "--fail-if", "summary.prompts > 5",
    )  # fmt: skip
    assert result.exit_code == 1
    suite = ET.parse(scored / "out" / "gates.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("2", "1", "allfour r")
    assert [case.find("failure") is not None for case in suite.findall("testcase")] == [True, False]
    text = (scored / "summary.md").read_text()
    assert text.startswith("before\n### For ")
    assert "perceived presentation" in text


def test_report_and_audit_know_the_options(scored: Path) -> None:
    assert run("report", "r", "--markdown", "m.md", "--junit", "j.xml").exit_code == 0
    assert (scored / "m.md").read_text().startswith("### For ")
    assert ET.parse(scored / "j.xml").getroot().get("tests") == "0"
    assert "--junit" in run("audit", "--help").output
    assert run("report", "r", "--junit", "light.yaml/below.xml").exit_code == 2


@pytest.mark.parametrize(
    ("kind", "start"),
    [("markdown", "### For "), ("latex", "% "), ("csv", "prompt_id,prompt,"), ("junit", "<?xml ")],
)
def test_text_formats_to_stdout_or_a_file(scored: Path, kind: str, start: str) -> None:
    result = run("export", "r", "--format", kind)
    assert (result.exit_code, result.stdout[: len(start)]) == (0, start)
    assert run("export", "r", "--format", kind, "--out", "o").exit_code == 0
    assert (scored / "o").read_text() == result.stdout


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv", "junit", "dataset"])
def test_every_format_is_written_and_leaves_with_what_the_gates_say(scored: Path, kind: str) -> None:
    export = ("export", "r", "--format", kind)
    passed = run(*export, "--out", "passed", "--fail-if", "accounting.requested > 8")
    assert (passed.exit_code, "gate passed: accounting.requested > 8" in passed.stderr) == (0, True)
    hit = run(
        *export, "--out", "hit", "--fail-if", "accounting.requested > 8", "--fail-if", "accounting.requested >= 8"
    )
    assert (hit.exit_code, "gate HIT: accounting.requested >= 8 (accounting.requested is 8)" in hit.stderr) == (1, True)
    assert (scored / "passed").exists() and (scored / "hit").exists()
    if kind != "dataset":
        plain = run(*export)
        gated = run(*export, "--fail-if", "accounting.requested >= 8")
        assert (plain.exit_code, gated.exit_code) == (0, 1)
        assert "gate" not in plain.stderr
        assert kind == "junit" or gated.stdout == plain.stdout  # gates are told on stderr
    for path in ("acounting.requested > 8", "prompts.nobody.share.woman > 0.5"):
        wrong = run(*export, "--out", "wrong", "--fail-if", path)
        assert (wrong.exit_code, (scored / "wrong").exists()) == (2, False), wrong.output


def test_the_markdown_of_an_archive_says_listed_and_found(scored: Path) -> None:
    assert "8 listed = 8 found; 8 found = 8 read by the classifier" in run("export", "r", "--format", "markdown").stdout


def test_junit_takes_gates(scored: Path) -> None:
    result = run("export", "r", "--format", "junit", "--fail-if", "accounting.requested >= 8")
    assert result.exit_code == 1
    failure = ET.fromstring(result.stdout).find(".//failure")
    assert failure is not None
    assert failure.get("message") == "accounting.requested is 8"


def test_what_cannot_be_exported_is_one_clear_error(scored: Path) -> None:
    for arguments in (("nowhere", "--format", "csv"), ("r", "--format", "csv", "--out", "r/run.json/x")):
        result = run("export", *arguments)
        assert (result.exit_code, result.output.count("error:")) == (2, 1), result.output
    assert run("export", "r", "--format", "dataset", "--out", "archive").exit_code == 2


def test_a_data_set_holds_the_archive_s_bytes_and_tidy_scores(scored: Path) -> None:
    (scored / "archive" / "nurse" / "1.png").write_bytes(picture(99))  # changed after it was scored
    (scored / "archive" / "nurse" / "2.png").unlink()
    result = run("export", "r", "--format", "dataset")
    assert result.exit_code == 0, result.output
    assert "6 images" in result.output
    assert "2 images are left out" in result.output
    root = scored / "r-dataset"
    lines = [json.loads(line) for line in (root / "images" / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    for line in lines:
        data = (root / "images" / line["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        assert data == (scored / "archive" / line["prompt_id"] / f"{line['index']}.png").read_bytes()
        assert line["perceived_gender"] in {"woman", "man", "ambiguous"}
    files = {str(path.relative_to(root / "images")) for path in (root / "images").rglob("*.png")}
    assert files == {line["file_name"] for line in lines}
    table = pq.read_table(root / "scores" / "scores.parquet")
    assert table.schema == TIDY_SCHEMA
    assert table.num_rows == 16  # every image that was scored, two labels each
    rows = list(csv.DictReader(io.StringIO((root / "scores.csv").read_text())))
    assert len(rows) == 16
    assert {row["label"] for row in rows} == {"woman", "man"}
    described = json.loads((root / "croissant.json").read_text())
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    for entry in described["distribution"]:
        assert hashlib.sha256((root / entry["contentUrl"]).read_bytes()).hexdigest() == entry["sha256"]
    assert [field["name"] for field in described["recordSet"][0]["field"]] == TIDY_SCHEMA.names
    assert "load_dataset" in (root / "README.md").read_text()


def test_a_data_set_of_generated_images_lists_the_unscored_too(tmp_path: Path) -> None:
    source = build_run(tmp_path / "r", Options(prompts=15, size=32))
    counts = export_dataset(source, tmp_path / "out")
    assert counts["images"] + counts["left_out"] == 57  # 60 less one refused, one failed, one unreadable
    assert counts["left_out"] == 0
    mixed = [json.loads(line) for line in (tmp_path / "out" / "images" / "metadata.jsonl").read_text().splitlines()]
    assert {tuple(line) for line in mixed} == {tuple(mixed[0])}  # one schema on every line
    rows = pq.read_table(tmp_path / "out" / "scores" / "scores.parquet").to_pylist()
    unreadable = [row for row in rows if row["status"] == "unreadable"]
    assert {(row["decision"], row["label"], row["probability"]) for row in unreadable} == {("unreadable", None, None)}
    with pytest.raises(UsageError, match="holds something already"):
        export_dataset(source, tmp_path / "out")


def test_hostile_ids_and_texts_write_nothing_outside(tmp_path: Path) -> None:
    source = build_run(tmp_path / "r", Options(prompts=3, oddities=False, size=32))
    images = pq.read_table(source / "images.parquet").to_pylist()
    scores = pq.read_table(source / "scores.parquet").to_pylist()
    names = {row["prompt_id"]: name for row, name in zip(images[::4], ("../../evil", "/etc/evil", "=cmd|' /C calc'!A0"), strict=True)}  # fmt: skip
    for row in (*images, *scores):
        row["prompt_id"] = names[row["prompt_id"]]
    for row in images:
        row["prompt"] = '=HYPERLINK("http://evil.example")'
    pq.write_table(pa.Table.from_pylist(images, IMAGES_SCHEMA), source / "images.parquet")
    pq.write_table(pa.Table.from_pylist(scores, SCORES_SCHEMA), source / "scores.parquet")
    counts = export_dataset(source, tmp_path / "deep" / "out")
    assert counts["images"] == 12
    written = {path.parent.name for path in (tmp_path / "deep").rglob("*.png")}
    assert written == {hashlib.sha256(name.encode()).hexdigest()[:32] for name in names.values()}
    assert {path.name for path in tmp_path.iterdir()} == {"r", "deep"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "deep" / "out" / "scores.csv").read_text())))
    assert all(row["prompt"].startswith("'=") for row in rows)
    with Image.open(next((tmp_path / "deep").rglob("*.png"))) as image:
        assert image.size == (32, 32)


def test_a_model_card_gets_figures_with_their_intervals_and_hostile_names_as_text(tmp_path: Path) -> None:
    path = build_run(tmp_path / "r", Options())
    header = json.loads((path / "run.json").read_text())
    header["generator"] = {"backend": "x", "model": "org/evil: [\u202ename"}
    (path / "run.json").write_text(json.dumps(sealed(header)))
    done = run("export", path, "--format", "model-card")
    assert done.exit_code == 0, done.output
    entry = yaml.safe_load(done.output)["model-index"][0]
    metrics = json.loads((path / "metrics.json").read_text())["summary"]
    assert entry["name"] == "evil: [\\u202ename"
    figure = entry["results"][0]["metrics"][0]
    assert figure["value"] == pytest.approx(metrics["unanimity"]["value"], abs=1e-4)
    assert f"{metrics['unanimity']['low']:.4f} to {metrics['unanimity']['high']:.4f}" in figure["args"]["interval"]
    assert "never identity" in entry["results"][0]["source"]["name"]
