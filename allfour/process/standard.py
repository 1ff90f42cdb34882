"""Standard streams that were closed by whoever started the command (`2>&-`, some daemons and schedulers): they become /dev/null.

Else the next files that are opened get their numbers, and what a C library says on standard error is written into a table or a lock;
and Python, where a stream is None, prints to the other one, so that an error would stand in what `--json` is read from.
"""

from __future__ import annotations

import os
import sys


def fill_closed_streams() -> None:
    """To be called before any file stays open."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)  # for programs that the command starts too
            if nowhere != number:
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="surrogateescape", closefd=False))  # noqa: SIM115
