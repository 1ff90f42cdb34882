"""Processes that feed an encoder, forked from one that has imported everything: a start costs no import."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

from tests.forking import context


class Popen:
    """What `feeders` asks of `subprocess.Popen`: the command's last three arguments are the numbers of files that are passed."""

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        self._process = context().Process(target=_feed, args=[_Passed(int(number)) for number in command[-3:]])
        self._process.start()
        self.terminate, self.kill = self._process.terminate, self._process.kill

    def wait(self, timeout: float) -> None:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a process that feeds", timeout)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode


class _Passed:
    """An open file, which has a number of its own in the new process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _number_of, (DupFd(self._number),)


def _number_of(passed: Any) -> int:
    found: int = passed.detach()
    return found


def _feed(*numbers: int) -> None:
    from allfour.pipeline.scoring.engines.feeders import main

    main(list(map(str, numbers)))
