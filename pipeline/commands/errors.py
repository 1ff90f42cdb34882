"""Errors that carry their own mend, as the command tells them: one clear line and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer

from allfour.errors import ConfigError
from allfour.pipeline.commands import output


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors that carry their own mend into exit code 2, without a traceback."""
    from allfour.errors import ArchiveError, BackendError, ClassifierError

    try:
        yield
    except (ConfigError, ArchiveError, ClassifierError, BackendError) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept. Repeat the same command to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _stop(
                f"the disk is full ({error.filename or 'while writing'}). Free some space and repeat the same command: it goes on"
            )
        if error.filename is None or error.strerror is None:
            raise
        _stop(f"{error.filename}: {error.strerror}. Make it readable and writable, or name another place, and repeat")


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(output.EXIT_USAGE)
