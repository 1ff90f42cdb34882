"""What every command does first and always alike, done once: a process that is forked from one with this module does it no more.

Templates are compiled, the command line is built, versions of packages are read, and what is imported late is imported.
"""

from __future__ import annotations

import atexit
import functools
import gc

import scipy.optimize  # noqa: F401
import typer.main

from allfour.pipeline import cli
from allfour.pipeline.report.html import environment
from allfour.pipeline.run.folder import package_versions

typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(cli.app)
package_versions()
for _name in environment().list_templates(extensions=["j2"]):
    environment().get_template(_name)
atexit.register(gc.unfreeze)
gc.freeze()  # a child looks through none of it again, which would copy its pages
