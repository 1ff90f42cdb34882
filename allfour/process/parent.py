"""A command that another command has started ends with it, also where that one is killed: it would go on, and pay, for nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping

_PARENT = "ALLFOUR_PARENT"
_PR_SET_PDEATHSIG = 1


def environment_of_child() -> Mapping[str, str]:
    """What a command is started with that is to end with this process, or with the thread that starts it."""
    return {**os.environ, _PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Where such a process started this one: get SIGTERM when it ends, now if it has ended already. Elsewhere nothing.

    On Linux; other systems do not tell, and a killed process leaves this one at work.
    """
    parent = os.environ.pop(_PARENT, "")
    if not parent or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if str(os.getppid()) != parent:
        os.kill(os.getpid(), signal.SIGTERM)
