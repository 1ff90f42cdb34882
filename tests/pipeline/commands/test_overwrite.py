"""A run folder keeps what stands in it: images of other requests and results of another source go only where the user says so."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from allfour.pipeline import cli
from allfour.pipeline.commands import build as build_module
from tests import light_processes
from tests.light_backends import LightClassifier, LightGenerator, picture

PROMPTS = "name: p\nprompts: [{id: nurse, text: a nurse}, {id: maestro, text: a maestro}]\n"
CONFIG = """
prompts: {file: FOLDER/prompts.yaml, images_per_prompt: 4}
generator: {backend: portrait-renderer}
classifier: {backend: face}
attributes: {file: FOLDER/attributes.yaml}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return path


class Configured(LightGenerator):
    """Makes the light pictures, and is another generator where the config says another `size`."""

    def __init__(self, size: int) -> None:
        self._size = size

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "light", "size": self._size, "versions": {"light": "1"}}


@pytest.fixture
def light(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a config and light backends in place."""
    monkeypatch.setattr(build_module, "build_generator", lambda config, run: Configured(config.generator.size))
    monkeypatch.setattr(build_module, "build_classifier", lambda config, attributes: LightClassifier(attributes))
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def audit(*more: Any) -> Any:
    return run("audit", "--config", "config.yaml", "--run", "r", *more)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tables(folder: Path) -> tuple[Any, ...]:
    return (
        pq.read_table(folder / "images.parquet").to_pylist(),
        pq.read_table(folder / "scores.parquet").to_pylist(),
        json.loads((folder / "metrics.json").read_text()),
        (folder / "prompts.csv").read_text(),
        {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("images/*/*"))},
    )


def made(folder: Path) -> int:
    return len((folder / "made").read_text().split()) if (folder / "made").exists() else 0


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("seed=5", ["seed: 0 -> 5"]),
        ("generator.size=128", ["generator.size: 64 -> 128"]),
        ("prompts.file=other.yaml", ['prompt nurse: "a nurse" -> "a male nurse"']),
    ],
)
def test_images_of_other_requests_are_not_replaced(light: Path, override: str, parts: list[str]) -> None:
    assert audit().exit_code == 3
    (light / "other.yaml").write_text(PROMPTS.replace("text: a nurse", "text: a male nurse"))
    before, count = contents(light / "r"), made(light)
    refused = audit("--set", override.replace("other.yaml", str(light / "other.yaml")))
    assert refused.exit_code == 2
    lost = 4 if "prompts" in override else 7  # one of maestro was refused
    for part in [f"run folder r: {lost} images were made there for other requests", *parts, "--run", "--overwrite"]:
        assert part in refused.output
    assert contents(light / "r") == before
    assert made(light) == count
    assert audit().exit_code == 3  # and the run is what it was


def test_five_differences_are_named(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit()
    other = {"backend": "other", "versions": {"light": "2"}, **{f"k{n}": n for n in range(6)}}
    monkeypatch.setattr(Configured, "identity", lambda self: other)
    output = audit("--set", "seed=1").output
    assert (
        'What differs: seed: 0 -> 1; generator.backend: "light" -> "other"; generator.versions.light: "1" -> "2"; '
        in output
    )
    assert "generator.k0: null -> 0; generator.k1: null -> 1; and 5 more." in output


def test_overwrite_replaces_them(light: Path) -> None:
    audit()
    assert audit("--set", "seed=5", "--overwrite").exit_code == 3
    assert run("audit", "--config", "config.yaml", "--run", "whole", "--set", "seed=5").exit_code == 3
    assert tables(light / "r") == tables(light / "whole")
    assert audit("--set", "seed=5", "--json").exit_code == 3  # nothing is left to lose
    assert audit().exit_code == 2


def test_more_images_and_prompts_lose_nothing(light: Path) -> None:
    audit()
    count = made(light)
    assert audit("--set", "prompts.images_per_prompt=6").exit_code == 3
    assert made(light) == count + 4
    (light / "prompts.yaml").write_text(PROMPTS.replace("prompts: [", "prompts: [{id: captain, text: a captain}, "))
    assert audit("--set", "prompts.images_per_prompt=6").exit_code == 3
    assert made(light) == count + 4 + 6


def test_what_is_no_longer_asked_for_stays_on_disk(light: Path) -> None:
    audit()
    whole, count = tables(light / "r"), made(light)
    (light / "prompts.yaml").write_text(PROMPTS.replace(", {id: maestro, text: a maestro}", ""))
    fewer = audit()
    assert fewer.exit_code == 0, fewer.output
    assert "3 images in r/images are of prompts or indexes that this command does not ask for" in fewer.output
    assert {row["prompt_id"] for row in pq.read_table(light / "r" / "images.parquet").to_pylist()} == {"nurse"}
    (light / "prompts.yaml").write_text(PROMPTS)
    assert audit().exit_code == 3
    assert tables(light / "r") == whole
    assert made(light) == count


def test_an_image_stays_until_its_successor_stands(light: Path) -> None:
    """With --overwrite too: where the new settings give nothing, the old ones have their images back at no cost."""
    audit()
    whole, count = tables(light / "r"), made(light)
    (light / "other.yaml").write_text(PROMPTS.replace("a nurse", "a broken one").replace("a maestro", "a broken one"))
    failed = audit("--set", f"prompts.file={light}/other.yaml", "--overwrite", "--json")
    assert json.loads(failed.stdout)["accounting"]["failed"] == 7  # one is refused
    assert audit("--overwrite").exit_code == 3
    assert tables(light / "r") == whole
    assert made(light) == count


def test_the_generator_is_known_from_ranks_alone(light: Path) -> None:
    ranks = ("--rank", 0, "--world-size", 2)
    assert audit(*ranks).exit_code == 0
    before = {name: data for name, data in contents(light / "r").items() if not name.startswith(".lock")}
    for more in (ranks, ("--rank", 1, "--world-size", 2), ()):
        refused = audit("--set", "generator.size=128", *more)
        assert refused.exit_code == 2
        assert "4 images were made there for other requests" in refused.output
        assert "What differs: generator.size: 64 -> 128. " in refused.output
    assert {name: data for name, data in contents(light / "r").items() if not name.startswith(".lock")} == before


def test_ranks_replace_only_with_overwrite(light: Path) -> None:
    audit()
    before = contents(light / "r")
    for rank in range(2):
        assert audit("--set", "seed=5", "--rank", rank, "--world-size", 2).exit_code == 2
    assert {name: data for name, data in contents(light / "r").items() if not name.startswith(".")} == {
        name: data for name, data in before.items() if not name.startswith(".")
    }
    assert audit("--set", "seed=5", "--rank", 0, "--world-size", 2, "--overwrite").exit_code == 0
    assert "is being made anew" in run("report", "r").output
    refused = audit("--set", "seed=5", "--rank", 1, "--world-size", 2)
    assert refused.exit_code == 2
    assert "3 images were" in refused.output
    assert audit("--set", "seed=5", "--rank", 1, "--world-size", 2, "--overwrite").exit_code == 3
    run("audit", "--config", "config.yaml", "--run", "whole", "--set", "seed=5")
    assert tables(light / "r") == tables(light / "whole")


# --- lines that cannot be read ---------------------------------------------------------------------------------------

DAMAGE = [b"{}", b"[]", b"null", b"\x00\x00", b"{" * 5000, b'{"status": "generated"}',
          b'{"prompt_id": "nurse", "index": "1", "fingerprint": "", "status": "generated"}',
          b'{"prompt_id": "nurse", "index": 0, "fingerprint": "", "status": "generated", "path": "../../x.png", '
          b'"sha256": "", "size": 1}']  # fmt: skip


def test_damaged_lines_are_said_once_and_stop_nothing(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    command = ("audit", "--config", config, "--run", tmp_path / "run", "--json")
    assert allfour(*command).returncode == 3
    journal, whole, count = tmp_path / "run" / "outcomes.jsonl", tables(tmp_path / "run"), made(tmp_path)
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*DAMAGE, *lines, b'{"torn']))
    done = allfour(*command)
    assert done.returncode == 3, done.stderr
    assert (
        done.stderr.count(f"{len(DAMAGE)} lines of outcomes.jsonl cannot be read: their images are made again, unless")
        == 1
    )
    assert tables(tmp_path / "run") == whole
    assert made(tmp_path) == count


@pytest.mark.parametrize("quiet", [(), ("--json",)])
def test_stderr_says_how_many(light: Path, quiet: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    audit()
    journal = light / "r" / "outcomes.jsonl"
    audit(*quiet)
    with journal.open("ab") as file:
        file.write(b'{"torn')
    audit(*quiet)
    assert caplog.text == ""  # a torn last line is what a kill leaves
    with journal.open("ab") as file:
        file.write(b"{}\nno json\n")
    assert audit(*quiet).exit_code == 3
    assert caplog.text.count("2 lines of outcomes.jsonl cannot be read") == 1


@pytest.mark.parametrize("damage", ["a line", "the journal"])
def test_images_parquet_vouches_for_images_whose_line_is_lost(light: Path, damage: str) -> None:
    audit()
    whole, count = tables(light / "r"), made(light)
    journal = light / "r" / "outcomes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([b"{}\n", *lines[1:3], b"x" * 90 + b"\n", *lines[4:]]) if damage == "a line" else b"")
    assert audit("--set", "prompts.images_per_prompt=5").exit_code == 3
    assert made(light) == count + 2
    assert audit().exit_code == 3  # and the lines are back, so that this needs no table
    (light / "r" / "images.parquet").unlink()
    assert audit().exit_code == 3
    assert tables(light / "r")[:4] == whole[:4]
    assert made(light) == count + 2


def test_a_file_that_changed_is_not_taken_over(light: Path) -> None:
    audit()
    whole, count = tables(light / "r"), made(light)
    (light / "r" / "outcomes.jsonl").unlink()
    changed = light / "r" / "images" / "nurse" / "2.png"
    changed.write_bytes(b"x" * changed.stat().st_size)
    assert audit().exit_code == 3
    assert tables(light / "r") == whole
    assert made(light) == count + 1


# --- tables that are being made anew ---------------------------------------------------------------------------------


def allfour(*arguments: Any, kill_at: int = 0, fsyncs: Path | None = None) -> light_processes.Done:
    return light_processes.run(*arguments, KILL_AT=kill_at, FSYNCS=fsyncs or "")


@pytest.mark.slow
def test_overwrite_is_killed_and_finished(tmp_path: Path, config: Path) -> None:
    """Without --overwrite again it is finished too, or refused with what it would lose; `report` never mixes the two."""
    old, whole = tmp_path / "old", tmp_path / "whole"
    new = ("--config", config, "--set", "seed=5")
    assert allfour("audit", "--config", config, "--run", old).returncode == 3
    shutil.copytree(old, tmp_path / "count")
    done = allfour("audit", *new, "--run", tmp_path / "count", "--overwrite", fsyncs=tmp_path / "fsyncs")
    assert done.returncode == 3, done.stderr
    commits = int((tmp_path / "fsyncs").read_text())
    assert allfour("audit", *new, "--run", whole).returncode == 3
    reported = []
    for number, kill_at in enumerate(range(1, commits + 1, max(1, commits // 4))):
        run = tmp_path / f"run{number}"
        shutil.copytree(old, run)
        assert allfour("audit", *new, "--run", run, "--overwrite", kill_at=kill_at).returncode == -signal.SIGKILL
        report = CliRunner().invoke(cli.app, ["report", str(run)])
        reported.append(report.exit_code)
        if report.exit_code == 3:
            header = json.loads((run / "run.json").read_text())
            right = old if header["config"]["seed"] == 0 else whole
            assert tables(run)[:4] == tables(right)[:4]
        else:
            assert report.exit_code == 2
            assert "is being made anew" in report.stderr
        again = allfour("audit", *new, "--run", run)
        assert again.returncode in (2, 3)
        if again.returncode == 2:
            assert "would be lost. What differs: seed: another -> 5. " in again.stderr or "seed: 0 -> 5" in again.stderr
            assert allfour("audit", *new, "--run", run, "--overwrite").returncode == 3
        assert tables(run) == tables(whole)
    assert 2 in reported


def test_a_run_that_is_made_anew_is_read_by_no_command(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit()
    shutil.copytree(light / "r", light / "other")

    def stopped(self: Any, requests: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Configured, "generate", stopped)
        assert audit("--set", "seed=5", "--overwrite").exit_code == 130
    before = contents(light / "r")
    for command in (
        ("report", "r"),
        ("report", "other", "--against", "r"),
        ("compare", "r", "other"),
        ("export", "r", "--format", "csv"),
        ("review", "r"),
        ("relabel", "r", "--attributes", "attributes.yaml"),
    ):
        refused = run(*command)
        assert refused.exit_code == 2, command
        assert "is being made anew" in refused.output, command
    assert contents(light / "r") == before
    assert audit("--overwrite").exit_code == 3
    assert run("report", "r").exit_code == 3
    assert tables(light / "r") == tables(light / "other")


def test_a_changed_wording_that_is_killed_is_no_report_of_the_old_scores(tmp_path: Path, config: Path) -> None:
    run = tmp_path / "run"
    assert allfour("audit", "--config", config, "--run", run).returncode == 3
    (tmp_path / "attributes.yaml").write_text("attributes: {gender: {margin: 0.4, labels: {woman: [w], man: [m]}}}\n")
    assert allfour("audit", "--config", config, "--run", run, kill_at=3).returncode == -signal.SIGKILL
    assert json.loads((run / "run.json").read_text())["attributes"]["attributes"]["gender"]["margin"] == 0.4
    assert "is being made anew" in allfour("report", run).stderr
    assert allfour("audit", "--config", config, "--run", run).returncode == 3
    assert allfour("audit", "--config", config, "--run", tmp_path / "fresh").returncode == 3
    assert tables(run) == tables(tmp_path / "fresh")


def test_a_name_that_changes_takes_nothing_back(light: Path) -> None:
    audit()
    again = json.loads(audit("--set", "name=other", "--set", "statistics.confidence=0.9", "--json").stdout)
    assert again["work"] == {"generated": 0, "scored": 0}


# --- archives --------------------------------------------------------------------------------------------------------


@pytest.fixture
def archives(light: Path) -> Path:
    for name, seed in (("first", 0), ("second", 50)):
        (light / name / "nurse").mkdir(parents=True)
        for index in range(4):
            (light / name / "nurse" / f"{index}.png").write_bytes(picture(seed + index))
    return light


def rescore(source: Any, *more: Any) -> Any:
    return run("rescore", source, "--config", "config.yaml", "--run", "r", *more)


@pytest.mark.parametrize("rank", [(), ("--rank", 0, "--world-size", 1)])
def test_the_result_of_another_source_is_not_replaced(archives: Path, rank: tuple[Any, ...]) -> None:
    assert rescore("first").exit_code == 0
    before = contents(archives / "r")
    refused = rescore("second", *rank)
    assert refused.exit_code == 2
    for part in ("it holds the result of", str(archives / "first"), str(archives / "second"), "--run", "--overwrite"):
        assert part in refused.output
    assert contents(archives / "r") == before
    # the same source by another name, under other options and wording
    assert rescore(archives / "first", "--set", "archive.shard_size=2", "--set", "archive.layout=folder").exit_code == 0
    assert rescore("second", *rank, "--overwrite").exit_code == 0
    assert rescore("second", *rank).exit_code == 0
    run("rescore", "second", "--config", "config.yaml", "--run", "whole")
    assert tables(archives / "r") == tables(archives / "whole")


@pytest.mark.parametrize("place", ["first", "first/deeper/run", "first/nurse"])
def test_an_archive_is_only_read(archives: Path, place: str) -> None:
    before = contents(archives / "first")
    for more in ((), ("--rank", 0, "--world-size", 1)):
        refused = run("rescore", "first", "--config", "config.yaml", "--run", place, *more)
        assert refused.exit_code == 2
        assert "it lies in the archive first, and nothing may be written into an archive" in refused.output
    assert contents(archives / "first") == before


def test_a_folder_of_runs_is_named_before_the_run_folder_in_it(archives: Path) -> None:
    assert run("rescore", "first", "--config", "config.yaml", "--run", "runs/one").exit_code == 0
    refused = run("rescore", "runs", "--config", "config.yaml", "--run", "runs/two")
    assert refused.exit_code == 2
    assert "runs holds runs of allfour, such as runs/one" in refused.output


def test_a_folder_that_holds_a_manifest_is_no_run_folder(archives: Path) -> None:
    (archives / "first" / "list.csv").write_text("path,prompt\nnurse/0.png,a nurse\n")
    before = contents(archives / "first")
    refused = run("rescore", "first/list.csv", "--config", "config.yaml", "--run", "first")
    assert refused.exit_code == 2
    assert (
        "run folder first: it holds the archive first/list.csv, and nothing may be written into an archive"
        in refused.output
    )
    assert contents(archives / "first") == before
    assert run("rescore", "first/list.csv", "--config", "config.yaml", "--run", "first/run").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit", "--config", "config.yaml", "--run", ""),
        ("rescore", "first", "--config", "config.yaml", "--run", " "),
        ("relabel", "first", "--attributes", "attributes.yaml", "--run", ""),
        ("rescore", "", "--config", "config.yaml"),
        ("rescore", "", "--config", "config.yaml", "--dry-run"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(archives: Path, arguments: tuple[str, ...]) -> None:
    before = contents(archives)
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "empty" in refused.output
    assert contents(archives) == before
