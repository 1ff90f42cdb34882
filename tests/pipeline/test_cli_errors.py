"""What a user sees when something fails that is neither usage nor data: a damaged table, a place that cannot be written, a fault."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from allfour.errors import RunFolderError
from allfour.pipeline import cli
from allfour.pipeline.cli import app
from allfour.pipeline.commands.errors import clear_errors
from allfour.pipeline.run.folder import RunFolder, reading_table
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.tables import connect
from tests.pipeline.report.fixture_run import Options, build_run


def test_a_fault_of_ours_is_never_the_code_of_a_gate(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail(path: Path, overrides: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(cli, "load_config", fail)
    monkeypatch.setattr("sys.argv", ["allfour", "audit"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 70
    message = capsys.readouterr().err
    assert "ZeroDivisionError: a fault" in message
    assert "a fault of allfour, not of what it was given" in message


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["audit", "--nonsense"], 2, "--nonsense"),
        (["compare"], 2, "Missing argument"),
        (["plan", "--price", "x"], 2, "--price"),
        (["nonsense"], 2, "No such command"),
        (["audit"], 70, "ZeroDivisionError: a fault"),
    ],
)
def test_with_json_an_error_is_json_also_where_no_command_came_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: list[str], code: int, part: str
) -> None:
    def fail(path: Path, overrides: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(cli, "load_config", fail)
    monkeypatch.setattr("sys.argv", ["allfour", *arguments, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert stopped.value.code == found["exit_code"] == code
    assert part in found["error"]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EACCES, "/x/page.html: Permission denied. Make it"), (errno.ENOSPC, "(/x/page.html). Free some space")]
)  # fmt: skip
def test_an_error_of_the_disk_names_the_file_that_was_asked_for(
    number: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), clear_errors():
        raise OSError(number, os.strerror(number), "/x/.tmp-0123456789ab-page.html")
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("table", ["images.parquet", "scores.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense PAR1", None])
def test_a_damaged_table_is_one_error_that_names_it(tmp_path: Path, table: str, content: bytes | None) -> None:
    run = build_run(tmp_path / "run", Options(prompts=3, pictures=False))
    header = json.loads((run / "run.json").read_text())
    header["config"] = {"classifier": {"backend": "face"}, "attributes": {"file": "configs/attributes/face.yaml"}}
    header["attributes"] = {"attributes": {"gender": {"labels": {"woman": ["a"], "man": ["b"]}}}}
    (run / "run.json").write_text(json.dumps(sealed(header)))
    data = (run / table).read_bytes()
    # None: the end, which is all that is read first, is whole, and the rows are not
    damaged = b"PAR1" + b"\xff" * 400 + data[404:] if content is None else content
    (run / table).write_bytes(damaged)
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 2, done.output
    assert table in done.stderr
    assert "repeat the command" in done.stderr.lower()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    run = build_run(tmp_path / "run", Options(prompts=3, pictures=False))
    done = CliRunner().invoke(
        app, ["compare", str(run), "--reference", "uniform", "--out", str(tmp_path / "shut" / "o")]
    )
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_a_read_only_system_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, overrides: Any) -> None:
        raise OSError(30, "Read-only file system", "/somewhere/x")

    monkeypatch.setattr(cli, "load_config", fail)
    done = CliRunner().invoke(app, ["audit"])
    assert done.exit_code == 2
    assert "/somewhere/x: Read-only file system. Make it readable and writable" in done.stderr


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "larger than")]
)
@pytest.mark.parametrize("name", ["/run/scores.parquet", None])
def test_no_room_is_one_error_however_the_system_calls_it(
    number: int, message: str, name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped, clear_errors():
        raise OSError(number, os.strerror(number), name)
    assert stopped.value.exit_code == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Free some space and repeat the same command" in stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "/a/0.png"),
            "too many files are open. Raise the limit (`ulimit -n`)",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory. Free some"),
        (MemoryError(), "there is not enough memory. Free some"),
        (MemoryError("Unable to allocate 9 GiB"), "there is not enough memory (Unable to allocate 9 GiB). Free some"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "there is not enough memory ([enf",
        ),
    ],
)
def test_a_limit_of_the_process_is_one_error(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped, clear_errors():
        raise error
    assert stopped.value.exit_code == 2
    assert message in capsys.readouterr().err


def test_other_errors_of_a_library_are_faults() -> None:
    with pytest.raises(RuntimeError, match="shapes"), clear_errors():
        raise RuntimeError("shapes do not fit")


def test_ctrl_c_while_the_command_line_is_imported_has_its_own_code() -> None:
    """And not 1, which is the code of a gate that was hit, with a traceback."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test runner in the background has it ignored
        "class Press:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from allfour.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            duckdb.OutOfMemoryException,
            "Out of Memory Error: failed to offload data block of size 256.0 KiB (max_temp_directory_size)",
        ),
        (duckdb.IOException, 'IO Error: Could not write all bytes to file "x": No space left on device'),
    ],
)
def test_a_disk_that_is_full_while_tables_are_read_is_no_damaged_table(
    tmp_path: Path, kind: type[duckdb.Error], text: str
) -> None:
    run = build_run(tmp_path / "run", Options(prompts=3, pictures=False))
    with pytest.raises(RunFolderError, match="no room for temporary files"), connect(RunFolder(run)):
        raise kind(text)


def test_tables_that_a_process_may_not_open_are_not_said_to_be_damaged(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", Options(prompts=3, pictures=False))
    with pytest.raises(RunFolderError, match="nothing shows that they are damaged") as stopped, connect(RunFolder(run)):
        raise duckdb.IOException('IO Error: Cannot open file "scores.parquet": Too many open files')
    assert "Delete" not in str(stopped.value)


def test_a_table_that_a_process_cannot_read_for_want_of_threads_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nothing shows that it is damaged") as stopped, reading_table(tmp_path):
        raise pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable")
    assert "Delete" not in str(stopped.value)
    with pytest.raises(MemoryError), reading_table(tmp_path):
        raise pa.ArrowMemoryError("malloc of size 64 failed")
