"""Paths that a run's header names, or a user on the command line."""

from __future__ import annotations

from pathlib import Path

from allfour import resources
from allfour.errors import ConfigError
from allfour.models.settings import not_found


def resolve_path(path: str | Path) -> Path:
    """Where a file stands that the package, a checked config or a run's header names: a packaged resource, or the user's by its whole path.

    Raises
    ------
    ConfigError
        It stands nowhere; the message lists where it was looked for.
    """
    return _settled(path, resources.locate_recorded(path), resources.candidates(path, ours=True))


def typed_path(path: str | Path) -> Path:
    """Where a file stands that a user typed: from the working directory, or a packaged one.

    Raises
    ------
    ConfigError
        It stands nowhere; the message lists where it was looked for.
    """
    return _settled(path, resources.locate(path), resources.candidates(path))


def _settled(path: str | Path, found: Path | None, places: list[Path]) -> Path:
    if found is None:
        raise ConfigError(not_found(path, places))
    return found
