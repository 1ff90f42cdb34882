"""The one process that those of the tests are forked from: everything is imported there, and nothing has run, so that it has no threads.

Python keeps one such process for a program, and what the first to ask for it has imported there is all that there is.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
from multiprocessing.context import ForkServerContext

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
