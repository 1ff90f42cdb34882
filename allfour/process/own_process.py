"""Whether this process is a command's own, and runs nobody else's code beside: packages need not be whole in it."""

from __future__ import annotations

import os

PLAIN_IMPORTS = "ALLFOUR_PLAIN_IMPORTS"
"""Set to anything, this variable of the environment has a command import packages as any program does."""

_own_process = False


def begin_command() -> None:
    """Say that this process is a command's own, and no notebook or program in which somebody may want whole packages."""
    global _own_process  # noqa: PLW0603
    _own_process = not os.environ.get(PLAIN_IMPORTS)


def own_process() -> bool:
    """Whether it was said."""
    return _own_process
