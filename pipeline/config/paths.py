"""Paths that a user or a run's header names."""

from __future__ import annotations

from pathlib import Path

from allfour import resources
from allfour.errors import ConfigError
from allfour.models.settings import not_found


def resolve_path(path: str | Path) -> Path:
    """Where a file stands that a user or a run's header names.

    Raises
    ------
    ConfigError
        It stands nowhere; the message lists where it was looked for.
    """
    found = resources.locate(path)
    if found is None:
        raise ConfigError(not_found(path, resources.candidates(path)))
    return found
