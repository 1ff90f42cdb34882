"""What commands do first and always alike, done once: a process that is forked from one with this module does it no more.

What is imported late is imported, schemas are built and templates compiled, the command line is made, and versions of packages
and of the code are read.
"""

from __future__ import annotations

import atexit
import functools
import gc

import joblib  # noqa: F401
import openai._base_client
import openai.resources.models  # noqa: F401
import pydantic
import scipy.optimize  # noqa: F401
import typer.main

import allfour.models.generators._openai.asking
import allfour.models.generators._openai.ordering
import allfour.models.generators.comfyui
import allfour.models.generators.images_batch
import allfour.models.generators.web_ui
import allfour.pipeline.commands.audit_ranks
import allfour.pipeline.commands.output
import allfour.pipeline.commands.rescore
import allfour.pipeline.metrics.gate
import allfour.pipeline.scoring.engines.local  # noqa: F401
from allfour.models._hosted import client
from allfour.pipeline import cli
from allfour.pipeline.commands import start
from allfour.pipeline.report.html import environment
from allfour.pipeline.run.program import package_versions

typer.main.get_command = functools.cache(typer.main.get_command)
_command = typer.main.get_command(cli.app)
for _each in (_command, *getattr(_command, "commands", {}).values()):
    for _option in _each.params:
        getattr(_option, "get_runtime_param", lambda: None)()  # which older typers do not have
package_versions()
start.git_state = functools.cache(start.git_state)
start.git_state()


def _build(kind: type[pydantic.BaseModel]) -> None:
    for model in kind.__subclasses__():
        _build(model)
        if model.__module__.startswith("allfour."):
            model.model_rebuild()  # its schema waits until somebody asks for it


_build(pydantic.BaseModel)
client._tls()  # certificates of the world, parsed
for _name in environment().list_templates(extensions=["j2"]):
    environment().get_template(_name)
atexit.register(gc.unfreeze)
gc.freeze()  # a child looks through none of it again, which would copy its pages
