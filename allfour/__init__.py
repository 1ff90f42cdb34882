"""Measures demographic bias of text-to-image models without human labelling, with honest uncertainty.

>>> import allfour
>>> sorted(set(allfour.__all__) & set(dir(allfour)))
['Comparison', 'Run', 'audit', 'compare', 'open_run', 'rescore']

Nothing heavy is imported before one of these is used.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allfour.api import Comparison, Run, audit, compare, open_run, rescore

__all__ = ["Comparison", "Run", "audit", "compare", "open_run", "rescore"]

NOT_INSTALLED = (
    "allfour is not installed for this Python: what was found is its source alone. In the folder of the source, `make setup` installs it into "
    ".venv (then .venv/bin/allfour), `pip install .` anywhere else"
)


def __getattr__(name: str) -> Any:
    """Names of the public API, imported when they are first used (PEP 562)."""
    if name in __all__:
        if importlib.util.find_spec("allfour.pipeline") is None:
            raise ImportError(NOT_INSTALLED)
        return getattr(importlib.import_module("allfour.api"), name)
    raise AttributeError(f"module 'allfour' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
