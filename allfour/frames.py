"""Data frames, which no command makes: pyarrow imports pandas at its first array wherever that is installed, a third of a start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

PLAIN_IMPORTS = "ALLFOUR_PLAIN_IMPORTS"
"""Set to anything, this variable of the environment has a command import packages as any program does."""

_own_process = False


def begin_command() -> None:
    """Say that this process is a command's own, and no notebook or program in which somebody may want data frames."""
    global _own_process  # noqa: PLW0603
    _own_process = not os.environ.get(PLAIN_IMPORTS)


class _NoPandas:
    """A finder of modules to which pandas is not there."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """None for all others, which are looked for elsewhere then."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def own_process() -> bool:
    """Whether this process is a command's, and runs nobody else's code beside: packages need not be whole in it."""
    return _own_process


def leave_out_pandas() -> None:
    """Let pyarrow look for pandas now and find none, in a command's own process; for commands that run no code of others.

    From then on its tables make no data frames in this process. Everything else finds pandas where it is.
    """
    if not _own_process or "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas())
    try:
        pa.array([0])
    finally:
        del sys.meta_path[0]
