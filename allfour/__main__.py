"""The `allfour` command, and `python -m allfour`."""

from allfour.collecting import collect_seldom
from allfour.frames import begin_command
from allfour.signals import leave_at_once


def main() -> None:
    """Imports what the command line needs only once an interrupt is looked after."""
    leave_at_once()
    begin_command()
    collect_seldom()
    from allfour.pipeline.cli import main as run

    run()


if __name__ == "__main__":
    main()
