"""Bits flipped in any file of a run folder: one error that says how to mend it, or the file made again; never a wrong figure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import allfour
from allfour.errors import RunFolderError
from allfour.pipeline.cli import app
from allfour.pipeline.commands import build
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.seal import sealed
from tests.light_backends import LightClassifier, LightGenerator

TABLES = ("images.parquet", "scores.parquet", "metrics.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and the finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "prompts.yaml").write_text(
        "name: p\nprompts: [{id: nurse, text: a nurse}, {id: maestro, text: a maestro}]\n"
    )
    (folder / "attributes.yaml").write_text("attributes: {gender: {margin: 0.05, labels: {woman: [w], man: [m]}}}\n")
    (folder / "config.yaml").write_text(
        f"prompts: {{file: {folder}/prompts.yaml}}\ngenerator: {{backend: portrait-renderer}}\n"
        f"classifier: {{backend: face}}\nattributes: {{file: {folder}/attributes.yaml}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        light(patch)
        assert audit(folder, folder / "run").exit_code == 3
    return folder


def light(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build, "build_generator", lambda config, run: LightGenerator())
    patch.setattr(build, "build_classifier", lambda config, attributes: LightClassifier(attributes))


def audit(folder: Path, run: Path) -> Any:
    return CliRunner().invoke(app, ["audit", "--config", str(folder / "config.yaml"), "--run", str(run)])


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    light(monkeypatch)
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def flip(path: Path, place: float) -> None:
    """Flip one bit, so that a reader that looks at no hash may well not see it."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x01
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["images.parquet", "scores.parquet"])
def test_a_flipped_bit_in_a_table_is_one_error_and_mended_by_the_same_command(
    made: Path, run: Path, name: str, place: float
) -> None:
    flip(run / name, place)
    result = CliRunner().invoke(app, ["report", str(run)])
    assert result.exit_code == 2, result.output
    assert name in result.stderr
    assert "Repeat the command that made it (`allfour audit`)" in result.stderr
    again = audit(made, run)
    assert again.exit_code == 3, again.output
    for table in TABLES[:2]:
        assert (run / table).read_bytes() == (made / "run" / table).read_bytes()
    assert len((run / "outcomes.jsonl").read_text().splitlines()) == 8  # no image was made again


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_the_metrics_is_one_error_and_mended_by_report(run: Path, place: float) -> None:
    before = (run / "metrics.json").read_bytes()
    flip(run / "metrics.json", place)
    result = CliRunner().invoke(app, ["export", str(run), "--format", "csv"])
    assert result.exit_code == 2, result.output
    assert "metrics.json" in result.stderr
    # where the flip leaves no JSON, that is what is told
    assert "allfour report" in result.stderr or "not valid JSON" in result.stderr
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 3
    assert (run / "metrics.json").read_bytes() == before


def test_a_bit_flipped_anywhere_in_the_header_is_one_error_or_nothing_at_all(made: Path, run: Path) -> None:
    whole = (run / "run.json").read_bytes()
    page = (run / "metrics.json").read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        flip(run / "run.json", place / len(whole))
        done = CliRunner().invoke(app, ["report", str(run)])
        if done.exit_code == 3:  # a space, or the key of the seal itself: what is read is what was written
            assert (run / "metrics.json").read_bytes() == page
        else:
            assert done.exit_code == 2, (place, done.output)
            assert "run.json" in done.stderr
            refused += 1
        (run / "run.json").write_bytes(whole)
    assert refused > 30
    (run / "run.json").unlink()
    assert audit(made, run).exit_code == 3  # as the error says
    assert len((run / "outcomes.jsonl").read_text().splitlines()) == 8


def test_what_the_header_says_is_checked_for_its_kind(run: Path) -> None:
    for wrong in ({"format": 1, "stages": []}, {"format": 1, "stages": {"scores": 3}}, {"format": 1, "counts": 4}):
        (run / "run.json").write_text(json.dumps(wrong))
        with pytest.raises(RunFolderError, match=r"run\.json: damaged at"):
            RunFolder(run).header()


def test_a_header_of_before_has_no_hashes_and_is_read(run: Path) -> None:
    header = json.loads((run / "run.json").read_text())
    assert {name for stage in header["stages"].values() for name in stage.get("tables", ())} == set(TABLES)
    without_hashes(run)
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def zeroed(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(len(data) // 3) + data[4 + len(data) // 3 :])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """An error where a pipe is waited on."""

    def passed(*_: object) -> None:
        raise AssertionError(f"it waits for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, passed)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def without_hashes(run: Path) -> None:
    """As an earlier version left it."""
    header = json.loads((run / "run.json").read_text())
    for stage in header["stages"].values():
        stage.pop("tables", None)
    del header["sha256"]
    (run / "run.json").write_text(json.dumps(header))


@pytest.mark.parametrize("name", ["images.parquet", "scores.parquet"])
@pytest.mark.parametrize(
    ("known", "damage"), [(True, pipe), (True, folder), (False, cut), (False, pipe), (False, zeroed)]
)
def test_every_reader_of_a_table_that_is_none_ends_in_one_error(
    made: Path, run: Path, tmp_path: Path, *, known: bool, name: str, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(run, tmp_path / "second")
    if not known:
        without_hashes(run)
    damage(run / name)
    out = str(tmp_path / "out")
    for command in (
        ["report", str(run)],
        ["compare", str(run), str(tmp_path / "second"), "--out", out],
        ["review", str(run), "--sample", "2", "--out", f"{out}.html"],
        ["export", str(run), "--format", "dataset", "--out", f"{out}-dataset"],
        ["rescore", str(run), "--config", str(made / "config.yaml"), "--run", f"{out}-run"],
    ):
        if command[0] == "rescore" and name == "scores.parquet":
            continue  # it reads none
        with deadline(60):
            done = CliRunner().invoke(app, command)
        assert (done.exit_code, type(done.exception)) == (2, SystemExit), (command, done.output, done.exception)
        assert name in done.stderr, (command, done.stderr)
    with deadline(60), pytest.raises(RunFolderError, match=name):
        _ = getattr(allfour.open_run(run), name.removesuffix(".parquet"))


def test_a_flipped_bit_in_a_journal_line_is_a_line_that_cannot_be_read(run: Path) -> None:
    journal = run / "outcomes.jsonl"
    whole = journal.read_bytes()
    outcomes, unreadable = Journal(journal).read()
    assert unreadable == 0
    at = whole.index(b'"seed": ') + 8
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]  # a digit stays a digit
    journal.write_bytes(flipped)
    assert Journal(journal).read() == (outcomes[1:], 1)
    journal.write_bytes(re.sub(rb', "crc32": \d+', b"", whole))  # of an earlier version
    assert Journal(journal).read() == (outcomes, 0)


@pytest.mark.parametrize("kind", ["images.parquet", "scores.parquet", "json"])
def test_a_flipped_bit_in_a_part_is_scored_again(made: Path, run: Path, kind: str) -> None:
    (part,) = (run / "parts").glob(f"part-*.{kind}" if kind != "json" else "part-*.json")
    flip(part, 0.5)
    (run / "scores.parquet").unlink()
    assert audit(made, run).exit_code == 3
    assert (run / "scores.parquet").read_bytes() == (made / "run" / "scores.parquet").read_bytes()
    assert part.read_bytes() == (made / "run" / "parts" / part.name).read_bytes()


def test_a_damaged_run_is_not_rescored(made: Path, run: Path, tmp_path: Path) -> None:
    flip(run / "images.parquet", 0.5)
    config = made / "config.yaml"
    rescored = CliRunner().invoke(app, ["rescore", str(run), "--config", str(config), "--run", str(tmp_path / "again")])
    assert rescored.exit_code == 2, rescored.output
    assert "images.parquet: not the file that was written" in rescored.stderr


def test_a_kept_calibration_that_is_damaged_is_an_error(run: Path) -> None:
    (run / "calibration.json").write_text(
        json.dumps(sealed({"format": 1, "attributes": {}})).replace("format", "farmat")
    )
    result = CliRunner().invoke(app, ["report", str(run)])
    assert result.exit_code == 2
    assert "calibration.json" in result.stderr
