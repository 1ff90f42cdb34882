"""The one process that those of the tests are forked from: everything is imported there, and nothing has run, so that it has no threads.

Python keeps one such process for a program, and what the first to ask for it has imported there is all that there is.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from unittest import mock

from tests.places import REPOSITORY

_PRELOADED = [
    "__main__",
    "tests.warmed",
    "tests.light_processes",
    "tests.models.generators.hosted_kills",
]


def context() -> ForkServerContext:
    """Makes processes that start at once."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_PRELOADED)
    with contextlib.chdir(REPOSITORY):
        multiprocessing.forkserver.ensure_running()
    return made


def fork_the_server() -> None:
    """Fork that process from this one, which has imported everything and has no threads, in place of a Python that begins anew."""
    multiprocessing.resource_tracker.ensure_running()
    with mock.patch.object(multiprocessing.util, "spawnv_passfds", _fork):
        context()


def _fork(path: str, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """`python -c CODE` in a fork; the standard streams of this process are its own."""
    if pid := os.fork():
        return pid
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for low, high in itertools.pairwise([2, *sorted(passed), os.sysconf("SC_OPEN_MAX")]):
        os.closerange(low + 1, high)  # one of them says whether somebody still needs that process
    try:
        exec(arguments[-1], {})
    finally:
        os._exit(0)
