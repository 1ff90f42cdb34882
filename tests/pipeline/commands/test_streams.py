"""Standard output on a full disk, in a broken pipe, or closed: one error, and never the code of a gate or of a fault."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer

from allfour.pipeline.commands.errors import clear_errors
from allfour.pipeline.commands.streams import _errors
from tests import light_processes

WORK = """
import sys
import tempfile
from allfour.pipeline import cli
from allfour.pipeline.cli import app
from allfour.pipeline.commands.errors import clear_errors

@app.command()
def work(much: bool = False, gate: bool = False) -> None:
    with clear_errors():
        print("on the way", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes" * (100_000 if much else 1))
        print("lines")
    open({done!r}, "w").close()
    sys.exit(int(gate))

cli.main()
"""


def run(tmp_path: Path, *arguments: str, stdout: int, stderr: int = subprocess.PIPE, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", WORK.format(done=str(tmp_path / "done")), "work", *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **env},
    )
    return done.returncode, done.stderr or ""


@pytest.fixture
def full() -> int:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [("--much",), ("--gate",)])
def test_a_full_disk_behind_standard_output_is_one_error(
    tmp_path: Path, full: int, arguments: tuple[str, ...], unbuffered: str
) -> None:
    code, said = run(tmp_path, *arguments, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert code == 2
    assert said.splitlines()[0] == "on the way"
    assert said.splitlines()[1].startswith("error: standard output cannot be written: no space left on device")
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("arguments", [("--much",), ("--gate",), ()])
def test_a_reader_that_went_away_is_the_shells_code_and_not_a_gate(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    assert run(tmp_path, *arguments, stdout=theirs) == (141, "on the way\n")


def test_lost_standard_error_stops_nothing(tmp_path: Path, full: int) -> None:
    code, _ = run(tmp_path, stdout=subprocess.DEVNULL, stderr=full)
    assert code == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("encoding", "errors", "printed"),
    [
        ("ascii", "surrogateescape", rb"\u2212 \xfc \udcff"),
        ("iso8859-1", "strict", b"\\u2212 \xfc \\udcff"),
        ("utf-8", "strict", "\u2212 ü ".encode() + b"\xff"),
    ],
)
def test_what_an_encoding_lacks_is_printed_as_an_escape(encoding: str, errors: str, printed: bytes) -> None:
    errors = _errors(io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors))
    assert "\u2212 ü \udcff".encode(encoding, errors) == printed


def _in_a_folder_that_is_gone() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    Path(folder).rmdir()


@pytest.mark.parametrize(
    "arguments", [("report", "/nowhere"), ("init", "--out", "/nowhere/mine.yaml"), ("weights", "list")]
)
def test_a_current_directory_that_is_gone_is_one_error(arguments: tuple[str, ...]) -> None:
    done = light_processes.run(*arguments, before=_in_a_folder_that_is_gone)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current directory no longer exists")
    assert len(done.stderr.splitlines()) == 1


def test_a_current_directory_that_goes_while_a_command_works_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit), clear_errors():
        tmp_path.rmdir()
        Path("x").absolute()
    assert "the current directory no longer exists" in capsys.readouterr().err
