"""Standard streams that whoever starts a command has closed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from allfour.process.standard import fill_closed_streams
from tests import light_processes


def _closed() -> None:
    """As a process begins that is started with `<&- >&- 2>&-`."""
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]


def _write_and_say() -> None:
    fill_closed_streams()
    with Path(os.environ["WRITTEN"]).open("w") as file:
        file.write(str(file.fileno()))
        for number in (1, 2):
            os.write(number, b"said by a library")
        print("said on the way", file=sys.stderr)
        print(sys.stdin.read())


def test_what_is_said_on_a_closed_stream_is_in_no_file(tmp_path: Path) -> None:
    written = tmp_path / "written"
    done = light_processes.start(before=_closed, main=_write_and_say, WRITTEN=written).wait()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert int(written.read_text()) > 2


def _without_errors() -> None:
    os.close(2)
    sys.stderr = None  # type: ignore[assignment]


def _say_two_things() -> None:
    fill_closed_streams()
    print("an error", file=sys.stderr)
    print("the result")
    sys.stdout.flush()


def test_an_error_without_standard_error_is_not_in_the_result() -> None:
    done = light_processes.start(before=_without_errors, main=_say_two_things).wait()
    assert (done.returncode, done.stdout) == (0, "the result\n")
