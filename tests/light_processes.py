"""`allfour` in processes of its own that can be killed, forked from one that has imported everything: a start costs no import.

The light generator and classifier stand in place of the configured ones (`tests.light_backends`)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import light_backends
from tests.forking import context
from tests.places import REPOSITORY


@dataclasses.dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Running:
    """A command that was started: it can be sent a signal, and waited for."""

    def __init__(self, process: Any, folder: Path) -> None:
        self._process, self._folder = process, folder

    @property
    def pid(self) -> int:
        found: int = self._process.pid
        return found

    def wait(self, timeout: float = 120) -> Done:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            raise TimeoutError(f"the command still ran after {timeout} s")
        out, err = (self._folder.joinpath(name).read_text() for name in ("stdout", "stderr"))
        shutil.rmtree(self._folder)
        return Done(code, out, err)


def _allfour() -> None:
    from allfour.pipeline.cli import main

    main()


def start(
    *arguments: Any,
    before: Callable[[], None] = light_backends.install_from_environment,
    main: Callable[[], None] = _allfour,
    **environment: Any,
) -> Running:
    """`allfour ARGUMENTS`, or another `main`, with these environment variables beside the present ones.

    `before` runs first, in the process itself.
    """
    folder = Path(tempfile.mkdtemp(prefix="allfour-process-"))
    merged = dict(os.environ) | {key: str(value) for key, value in environment.items()}
    process = context().Process(target=_command, args=(list(map(str, arguments)), merged, folder, before, main))
    process.start()
    return Running(process, folder)


def run(
    *arguments: Any, before: Callable[[], None] = light_backends.install_from_environment, **environment: Any
) -> Done:
    """`allfour ARGUMENTS` to its end."""
    return start(*arguments, before=before, **environment).wait()


def _command(
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: Path,
    before: Callable[[], None],
    main: Callable[[], None],
) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["allfour", *arguments]
    before()
    try:
        main()
    finally:
        light_backends.report_fsyncs()
