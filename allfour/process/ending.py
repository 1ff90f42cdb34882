"""The end of a command's process: at once, where Python would first visit every object there is to find what nobody holds any more.

After an audit that takes longer than its report: torch, transformers and diffusers have made a million objects, and the system takes their
memory back whole. What is registered to be done at the end is done; what is left out is `__del__` of what still stands.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

_as_usual = False


def end_as_usual() -> None:
    """Say that code of others runs in this process, which may count on more than `atexit`."""
    global _as_usual  # noqa: PLW0603
    _as_usual = True


def end(code: object) -> None:
    """End the process with an exit code, after what `atexit` holds; or return, where Python is to end it in its own way.

    That is where there are threads to wait for, where a profiler, a debugger or a prompt has its turn after the command, where
    `end_as_usual` was called, and where the standard streams take nothing more, which Python says in its own words.
    """
    if type(code) is not int or _as_usual or _watched() or _waits():
        return
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by whoever started us
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(code & 0xFF)


def _watched() -> bool:
    """Whether something is to run after the command in its process, or to hear of what it did."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12, in place of the other two
    tools = monitoring is not None and any(monitoring.get_tool(number) for number in range(6))
    return bool(tools or sys.getprofile() or sys.gettrace() or sys.flags.inspect or os.environ.get("PYTHONINSPECT"))


def _waits() -> bool:
    """Whether there are threads that Python waits for at its end, those of pools among them."""
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
