"""Errors that carry their own mend, as the command tells them: one clear line and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer

from allfour.errors import AllfourError
from allfour.pipeline.commands import output
from allfour.signals import Terminated, stops_on_signals

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the file system or a limit (`ulimit -f`) allows",
}


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors that carry their own mend into exit code 2, without a traceback."""
    try:
        with stops_on_signals():
            yield
    except AllfourError as error:
        _stop(str(error))
    except KeyboardInterrupt as stopped:
        print("\nstopped; what was finished is kept. Repeat the same command to go on.", file=sys.stderr)
        # the codes that a shell gives to a process that the signal has ended
        raise typer.Exit(128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)) from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            _stop(
                f"{_NO_ROOM[error.errno]} ({error.filename or 'while writing'}). Free some space and repeat the same command: "
                "it goes on"
            )
        if error.filename is None or error.strerror is None:
            raise
        _stop(f"{error.filename}: {error.strerror}. Make it readable and writable, or name another place, and repeat")


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    if output.for_machines():
        print(json.dumps({"error": message, "exit_code": output.EXIT_USAGE}, indent=1))
    raise typer.Exit(output.EXIT_USAGE)
