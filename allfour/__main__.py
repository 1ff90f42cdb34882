"""`python -m allfour` is the command."""

from allfour.pipeline.cli import main

main()
