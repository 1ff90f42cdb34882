"""Errors that carry their own mend, as the command tells them: one clear line and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import typer

from allfour.errors import AllfourError
from allfour.pipeline.commands import output
from allfour.process.own_process import PLAIN_IMPORTS, own_process
from allfour.signals import Terminated, stops_on_signals

_ASIDE = re.compile(r"\.tmp-[0-9a-f]{12}-(?=[^/\\]+$)")
"""What the name of a file has before it while it is written: nobody asked for that one."""
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_NO_MEMORY = (
    "Free some, or raise the limit (`ulimit -v`, the job's), and repeat the same command: what was finished is kept"
)
_NO_FOLDER = "the current directory no longer exists: it was removed or replaced. Go to one that does (`cd`), and repeat the same command"
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|could not create a primitive", re.IGNORECASE)
"""What a model's library says where there is no memory."""
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the file system or a limit (`ulimit -f`) allows",
}


def _lost_folder() -> bool:
    """Whether the current directory was removed: then no relative path leads anywhere, and libraries that ask for it fail."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors that carry their own mend into exit code 2, without a traceback."""
    if _lost_folder():
        _stop(_NO_FOLDER)
    try:
        with stops_on_signals():
            yield
    except AllfourError as error:
        _stop(str(error))
    except KeyboardInterrupt as stopped:
        print("\nstopped; what was finished is kept. Repeat the same command to go on.", file=sys.stderr)
        # the codes that a shell gives to a process that the signal has ended
        code = 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
        output.print_error("stopped by a signal; what was finished is kept. Repeat the same command to go on.", code)
        raise typer.Exit(code) from None
    except MemoryError as error:
        asked = " ".join(str(error).split())[:200]
        _stop(f"there is not enough memory{f' ({asked})' if asked else ''}. {_NO_MEMORY}")
    except RuntimeError as error:
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        _stop(f"there is not enough memory ({str(error).splitlines()[0][:200]}). {_NO_MEMORY}")
    except OSError as error:
        if error.errno in _NO_ROOM:
            _stop(
                f"{_NO_ROOM[error.errno]} ({_ASIDE.sub('', str(error.filename)) if error.filename else 'while writing'}). Free some space and repeat the same command: "
                "it goes on"
            )
        if error.errno in _NO_FILES:
            _stop("too many files are open. Raise the limit (`ulimit -n`) and repeat the same command: it goes on")
        if error.errno == errno.ENOMEM:
            _stop(f"there is not enough memory. {_NO_MEMORY}")
        if error.filename is None or error.strerror is None:
            if _lost_folder():  # while the command worked
                _stop(_NO_FOLDER)
            raise
        name = _ASIDE.sub("", str(error.filename))
        _stop(f"{name}: {error.strerror}. Make it readable and writable, or name another place, and repeat")


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    output.print_error(message, output.EXIT_USAGE)
    raise typer.Exit(output.EXIT_USAGE)


def end_on(error: Exception) -> int:
    """Tell what no command has caught, and the exit code for it: wrong usage, or a fault of ours."""
    if hasattr(error, "format_message") and hasattr(error, "show"):  # the command line could not be parsed
        error.show()
        output.print_error(error.format_message(), output.EXIT_USAGE)
        return output.EXIT_USAGE
    # Python itself would exit with 1, which is the code of a gate that was hit.
    traceback.print_exception(error)
    message = "this is a fault of allfour, not of what it was given: please report it, with the lines above. What was finished is kept."
    if own_process():
        message += f" If a package named above looks incomplete, try {PLAIN_IMPORTS}=1 in the environment."
    print(f"error: {message}", file=sys.stderr)
    output.print_error(f"{type(error).__name__}: {error}"[:2000], output.EXIT_FAULT)
    return output.EXIT_FAULT
