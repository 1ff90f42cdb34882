"""The `allfour` command, and `python -m allfour`."""

import sys

from allfour import NOT_INSTALLED
from allfour.process.collecting import collect_seldom
from allfour.process.ending import end
from allfour.process.own_process import begin_command
from allfour.process.parent import end_with_parent
from allfour.process.standard import fill_closed_streams
from allfour.signals import leave_at_once


def main() -> None:
    """The whole life of a command's process."""
    try:
        command()
    except SystemExit as stopped:
        end(stopped.code)
        raise


def command() -> None:
    """Imports what the command line needs only once an interrupt is looked after.

    Raises
    ------
    SystemExit
        The command is done.
    """
    fill_closed_streams()
    end_with_parent()
    leave_at_once()
    begin_command()
    collect_seldom()
    try:
        from allfour.pipeline.cli import main as run
    except ModuleNotFoundError as error:
        if error.name != "allfour.pipeline":
            raise
        print(f"error: {NOT_INSTALLED}", file=sys.stderr)  # noqa: T201
        sys.exit(2)

    run()


if __name__ == "__main__":
    main()
