"""The command as a user types it: what it prints, and the exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from allfour.pipeline import cli
from allfour.pipeline.commands.output import conclude_rank
from allfour.pipeline.commands.rescore import RankSummary
from allfour.pipeline.commands.summary import describe_counts
from allfour.pipeline.run.metrics import Accounting
from allfour.pipeline.run.seal import sealed
from tests.light_backends import install, picture
from tests.places import REPOSITORY

ATTRIBUTES = "attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n"


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with a config, an archive of 2 x 4 good images, and light backends."""
    from allfour.pipeline.commands import build as build_module

    monkeypatch.setattr(build_module, "build_generator", build_module.build_generator)
    monkeypatch.setattr(build_module, "build_classifier", build_module.build_classifier)
    install()
    (tmp_path / "attributes.yaml").write_text(ATTRIBUTES)
    (tmp_path / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: captain, text: a captain}]\n"
    )
    (tmp_path / "light.yaml").write_text(
        f"prompts: {{file: {tmp_path}/prompts.yaml}}\nclassifier: {{backend: face}}\ngenerator: {{backend: portrait-renderer}}\n"
        f"attributes: {{file: {tmp_path}/attributes.yaml}}\n"
    )
    for prompt in ("nurse", "captain"):
        (tmp_path / "archive" / prompt).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "archive" / prompt / f"{index}.png").write_bytes(picture(index))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_rescore_scores_reports_and_does_no_work_twice(light: Path) -> None:
    first = run("rescore", "archive", "--config", "light.yaml", "--run", "r")
    assert first.exit_code == 0, first.output
    assert "of 2 prompts: all 4 images show one perceived gender" in first.output
    assert "images: 8 listed, 8 found, 8 scored, " in first.output
    assert {p.name for p in (light / "r").iterdir()} >= {
        "run.json", "images.parquet", "scores.parquet", "metrics.json", "prompts.csv", "report.html"
    }  # fmt: skip
    written = {p: p.stat().st_mtime_ns for p in (light / "r").rglob("*.parquet")}
    second = run("rescore", "archive", "--config", "light.yaml", "--run", "r", "--json")
    assert json.loads(second.stdout)["work"] == {"scored": 0}
    assert {p: p.stat().st_mtime_ns for p in (light / "r").rglob("*.parquet")} == written


def test_a_new_image_is_scored_and_the_archive_is_only_read(light: Path) -> None:
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (light / "archive").rglob("*.png")}
    run("rescore", "archive", "--config", "light.yaml", "--run", "r")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (light / "archive").rglob("*.png")} == before
    (light / "archive" / "nurse" / "4.png").write_bytes(picture(9))
    result = json.loads(run("rescore", "archive", "--config", "light.yaml", "--run", "r", "--json").stdout)
    assert result["accounting"]["scored"] == 9


def test_chance_is_one_figure_with_one_denominator(light: Path) -> None:
    arguments = ("rescore", "archive", "--config", "light.yaml", "--run", "r")
    assert "chance alone would give 12.5%;" in run(*arguments).output
    (light / "archive" / "nurse" / "0.png").write_bytes(b"no image")
    assert "chance alone would give 12.5% of the one set in which every image has a label;" in run(*arguments).output
    page = (light / "r" / "report.html").read_text()
    assert "12.5% of the one set in which every image has a label would show only one of them" in page
    assert "If all labels were equally likely in every image, in the one set in which every image has a label." in page
    assert "6.2%" not in page


def test_missing_images_are_exit_code_3_and_named(light: Path) -> None:
    (light / "archive" / "nurse" / "4.png").write_bytes(b"<html>not found</html>")
    result = run("rescore", "archive", "--config", "light.yaml", "--run", "r")
    assert result.exit_code == 3
    assert "1 image is missing" in result.output
    rows = pq.read_table(light / "r" / "images.parquet").to_pylist()
    bad = [r for r in rows if r["status"] == "unreadable"]
    assert len(bad) == 1
    assert bad[0]["path"].endswith("nurse/4.png")
    assert bad[0]["error"]
    (light / "archive" / "captain" / "4.png").write_bytes(b"")
    assert "2 images are missing" in run("rescore", "archive", "--config", "light.yaml", "--run", "r").output


@pytest.mark.parametrize(
    ("gate", "code"), [("unanimity >= 0", 1), ("unanimity > 99%", 0), ("accounting.requested < 8", 0)]
)
def test_gates_set_the_exit_code(light: Path, gate: str, code: int) -> None:
    result = run("rescore", "archive", "--config", "light.yaml", "--run", "r", "--fail-if", gate)
    assert result.exit_code == code
    assert ("gate HIT" in result.output) == (code == 1)


@pytest.mark.parametrize(
    ("gate", "part"),
    [("unanimty > 0.5", "did you mean 'unanimity'?"), ("unanimity > 50", "Write 0.5 or 50%")],
)
def test_a_gate_that_cannot_be_meant_is_refused_before_any_image_is_made(light: Path, gate: str, part: str) -> None:
    for command in (["audit"], ["rescore", "archive"]):
        result = run(*command, "--config", "light.yaml", "--run", "new", "--fail-if", gate)
        assert result.exit_code == 2
        assert part in result.output
    assert not (light / "new").exists()
    assert part in run("report", "nowhere", "--fail-if", gate).output


def test_an_audit_of_which_nothing_could_be_made_says_so_and_passes_no_gate(light: Path) -> None:
    (light / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: a, text: a broken one}, {id: b, text: a broken one}]\n"
    )
    audit = ("audit", "--config", "light.yaml", "--run", "a")
    assert run(*audit).exit_code == 3
    result = run(*audit, "--fail-if", "unanimity.low > 0.5", "--junit", "gates.xml", "--markdown", "m.md")
    assert result.exit_code == 1
    assert "No image of 2 prompts could be read: unanimity cannot be told.\n" in result.output
    assert "images: 8 requested, 8 failed, 0 scored\n" in result.output
    assert "gate HIT: unanimity.low > 0.5 (unanimity.low has no value in this run" in result.output
    assert "%" not in result.output
    assert 'failures="1"' in (light / "gates.xml").read_text()
    message = "No image of 2 prompts could be read, so nothing can be said about all four at once."
    assert (light / "m.md").read_text().startswith(f"### {message}\n")
    page = (light / "a" / "report.html").read_text()
    assert f'<h1 id="headline">{message}</h1>' in page
    assert "Every missing image is listed with its reason" in page
    found = json.loads((light / "a" / "metrics.json").read_text())
    assert found["summary"]["unanimity"]["low"] is None
    assert run(*audit, "--fail-if", "scored_share < 95%").exit_code == 1


def test_a_corrected_unanimity_is_printed_with_its_interval(light: Path) -> None:
    """Two colours that the light classifier always reads right, 40 images of each, are its calibration."""
    for name, red in (("woman", 250), ("man", 5)):
        (light / "labelled" / name).mkdir(parents=True)
        for index in range(40):
            picture_of(red).save(light / "labelled" / name / f"{index}.png")
    done = run("calibrate", "labelled", "--config", "light.yaml", "--out", "c.json")
    assert done.exit_code == 0, done.output
    assert "note:" not in done.output
    result = run("rescore", "labelled", "--config", "light.yaml", "--run", "r", "--calibration", "c.json")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "measured errors taken out" in line]
    summary = json.loads((light / "r" / "metrics.json").read_text())["summary"]
    top = summary["unanimity_corrected"]
    assert line == (
        f"{top['value']:.1%} of sets of 4 images show one perceived gender (95% interval for prompts like these {top['low']:.1%} to {top['high']:.1%}), "
        "with the classifier's measured errors taken out: too few prompts for a verdict (2 prompts, 80 images)"
    )
    assert summary["headline"]["evidence"] == "corrected" and summary["headline"]["verdict"] == "too_few_prompts"
    assert "  as the classifier read them: 2 of 2 prompts" in result.output


def test_a_calibration_that_shows_nothing_says_so_and_corrects_nothing(light: Path) -> None:
    """The same pictures under both labels: the classifier cannot be right."""
    for name in ("woman", "man"):
        (light / "labelled" / name).mkdir(parents=True)
        for index in range(40):
            picture_of(250 if index % 2 else 5).save(light / "labelled" / name / f"{index}.png")
    done = run("calibrate", "labelled", "--config", "light.yaml", "--out", "c.json")
    assert done.exit_code == 0
    message = "The calibration does not show that the classifier tells the labels of gender apart (J = 0.00, 95% interval -0.2"
    assert f"note: {message}" in done.output and "no figure of gender is corrected" in done.output
    result = run("rescore", "archive", "--config", "light.yaml", "--run", "r", "--calibration", "c.json")
    assert f"note: {message}" in result.output
    assert "  corrected for" not in result.output
    assert json.loads((light / "r" / "metrics.json").read_text())["summary"]["unanimity_corrected"] is None


def picture_of(red: int) -> Image.Image:
    return Image.new("RGB", (20, 20), (red, 0, 0))


def test_counts_that_are_printed_add_up() -> None:
    accounting = Accounting(
        requested=70,
        generated=70,
        refused=0,
        failed=0,
        unreadable=10,
        scored=60,
        labelled=52,
        ambiguous=0,
        no_person=8,
        mixed=1,
    )
    message = "unreadable, 60 scored, 52 labelled (1 of them mixed), 8 no person"
    assert describe_counts(accounting, archive=True) == f"70 listed, 70 found, 10 {message}"
    assert describe_counts(accounting, archive=False) == f"70 requested, 70 generated, 10 {message}"


def test_audit_generates_scores_and_resumes(light: Path) -> None:
    first = run("audit", "--config", "light.yaml", "--run", "a", "--json")
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    assert result["work"] == {"generated": 8, "scored": 8}
    assert len(list((light / "a" / "images").rglob("*.png"))) == 8
    again = json.loads(run("audit", "--config", "light.yaml", "--run", "a", "--json").stdout)
    assert again["work"] == {"generated": 0, "scored": 0}
    header = json.loads((light / "a" / "run.json").read_text())
    assert header["format"] == 1
    assert header["generator"] == {"backend": "light"}
    assert set(header["stages"]) == {"images", "scores", "metrics", "report"}


def test_an_image_damaged_after_generation_is_told(light: Path) -> None:
    run("audit", "--config", "light.yaml", "--run", "a")
    (light / "a" / "images" / "nurse" / "0.png").write_bytes(b"changed")
    result = run("audit", "--config", "light.yaml", "--run", "a", "--json")
    assert (
        json.loads(result.stdout)["work"]["generated"] == 1
    )  # made again, for its bytes are not those that were committed


def test_report_again_from_tables_alone(light: Path) -> None:
    run("rescore", "archive", "--config", "light.yaml", "--run", "r")
    (light / "r" / "report.html").unlink()
    before = (light / "r" / "metrics.json").read_text()
    result = run("report", "r")
    assert result.exit_code == 0, result.output
    assert (light / "r" / "report.html").exists()
    assert (light / "r" / "metrics.json").read_text() == before


def test_a_run_of_an_earlier_version_is_read_by_every_command(light: Path) -> None:
    for name in ("r", "other"):
        run("rescore", "archive", "--config", "light.yaml", "--run", name)
        header = json.loads((light / name / "run.json").read_text())
        header["config"]["statistics"]["bootstrap"] = 2000
        (light / name / "run.json").write_text(json.dumps(sealed(header)))
    commands = [
        ["report", "r"],
        ["report", "r", "--against", "other"],
        ["compare", "r", "other"],
        ["review", "r", "--sample", "4"],
        ["export", "r", "--format", "dataset"],
        ["rescore", "archive", "--config", "light.yaml", "--run", "r"],
    ]
    for command in commands:
        done = run(*command)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rescore", "nowhere", "--config", "light.yaml"], "nowhere"),
        (["rescore", "archive", "--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["rescore", "archive", "--config", "light.yaml", "--set", "classifier.backend=clop"], "Did you mean 'clip'?"),
        (["rescore", "archive", "--config", "light.yaml", "--fail-if", "unanimity"], "PATH OPERATOR NUMBER"),
        (["rescore", "archive", "--config", "light.yaml", "--run", "r", "--fail-if", "unanimty > 1"], "unanimty"),
        (["audit", "--config", "light.yaml", "--set", "prompts.images_per_prompt=3"], "images_per_prompt is 3"),
        (["audit", "--config", "light.yaml", "--set", "prompts.file=null"], "prompts.file is not set"),
        (["report", "nowhere"], "no scored run"),
        (["rescore", "archive", "--config", "light.yaml", "--run", "light.yaml/x"], "cannot be written"),
    ],
)
def test_what_a_user_can_mend_is_one_error_and_exit_code_2(light: Path, arguments: list[str], part: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert part in result.output
    assert "Traceback" not in result.output


def test_a_run_folder_keeps_its_kind(light: Path) -> None:
    run("rescore", "archive", "--config", "light.yaml", "--run", "r")
    result = run("audit", "--config", "light.yaml", "--run", "r")
    assert result.exit_code == 2
    assert "is a run of `allfour rescore`" in result.output


def test_dry_run_says_what_is_there_and_writes_nothing(light: Path) -> None:
    result = run("rescore", "archive", "--config", "light.yaml", "--run", "r", "--dry-run")
    assert result.exit_code == 0, result.output
    for part in ("layout:  folder", "images:  8", "prompts: 2", "sets:    2 prompts"):
        assert part in result.output
    assert not (light / "r").exists()


@pytest.mark.parametrize("config", ["rescore.yaml", "rescore-local-clip.yaml"])
def test_weights_that_cannot_be_had_are_one_clear_error(
    tmp_path: Path, light: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.undo()  # the real classifiers
    result = run("rescore", light / "archive", "--config", REPOSITORY / "configs" / config, "--run", tmp_path / "r")
    assert result.exit_code == 2
    assert "classifier.backend=face" in result.output
    assert result.output.count("error:") == 1


def test_doctor(light: Path) -> None:
    result = run("doctor", "--json")
    checks = {c["name"]: c for c in json.loads(result.stdout)}
    assert checks["torch"]["state"] == checks["Python"]["state"] == "ok"
    result = run("doctor", "--config", REPOSITORY / "configs" / "rescore.yaml")
    assert result.exit_code == 2
    assert "missing" in result.output


def test_every_command_has_help() -> None:
    for command in ("audit", "rescore", "report", "doctor", "compare", "plan", "review"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert "<list[" not in shown.output and "<path>" not in shown.output and "<str>" not in shown.output


@pytest.mark.parametrize(("left", "part"), [(1, "1 shard of other ranks is"), (2, "2 shards of other ranks are")])
def test_what_other_ranks_have_left_is_counted_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, left: int, part: str
) -> None:
    conclude_rank(RankSummary(run=tmp_path, rank=0, world_size=2, scored=1, shards_left=left), as_json=False)
    message = capsys.readouterr().out
    assert (
        message
        == f"rank 0 of 2: 1 image scored; {part} not done; the last rank to finish writes the tables and the report\n"
    )


def test_the_version_and_the_repositorys_configs_are_there_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = CliRunner().invoke(cli.app, ["--version"])
    assert version.exit_code == 0
    assert version.output == f"allfour {importlib.metadata.version('allfour')}\n"
    assert cli.load_config(Path("configs/sandbox.yaml"), []).name == "sandbox"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sandbox.yaml").write_text("name: mine\nclassifier: {backend: face}\n")
    assert cli.load_config(Path("configs/sandbox.yaml"), []).name == "mine"  # the one that is here goes first


def test_a_calibration_without_a_label_is_said_not_a_fault(light: Path) -> None:
    (light / "attributes.yaml").write_text(ATTRIBUTES.replace("margin: 0.05", "margin: 0.999"))
    for name in ("woman", "man"):
        (light / "labelled" / name).mkdir(parents=True)
        picture_of(128).save(light / "labelled" / name / "0.png")
    done = run("calibrate", "labelled", "--config", "light.yaml", "--out", "c.json")
    assert done.exit_code == 0, done.output
    assert "gender: none of 2 images got a label, so its errors are unknown" in done.output
    result = run("rescore", "labelled", "--config", "light.yaml", "--run", "r", "--calibration", "c.json", "--json")
    assert json.loads(result.stdout)["summary"]["unanimity_corrected"] is None


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys\nsys.argv = ['allfour', '--help']\nfrom allfour.pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('numpy', 'pydantic', 'torch', 'pyarrow', 'rich', 'yaml') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout[-300:]
