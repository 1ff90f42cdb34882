"""Data frames, which no command makes: pyarrow imports pandas at its first array wherever that is installed, a third of a start."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from allfour.process.own_process import own_process


class _NoPandas:
    """A finder of modules to which pandas is not there."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """None for all others, which are looked for elsewhere then."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def leave_out_pandas() -> None:
    """Let pyarrow look for pandas now and find none, in a command's own process; for commands that run no code of others.

    From then on its tables make no data frames in this process. Everything else finds pandas where it is.
    """
    if not own_process() or "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas())
    try:
        pa.array([0])
    finally:
        del sys.meta_path[0]
