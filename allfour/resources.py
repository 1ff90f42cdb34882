"""Files that a config names: the user's own, and those that travel inside the package.

A relative path that a user wrote is looked for beside the file that names it, then in the working directory, then among the packaged
resources, whose names begin with `configs/` or `models/` wherever the package is installed; where it hides one of those, that is said.
One that the package or a run's header wrote is a packaged resource's first: a working directory that looks like ours changes nothing.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

_PACKAGED = ("configs", "models")
_LOG = logging.getLogger(__name__)


@functools.cache
def _folder(name: str) -> Path:
    spec = importlib.util.find_spec(f"allfour.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"allfour.{name} is not installed: install allfour again")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def packaged(name: str | Path) -> Path | None:
    """Where a packaged resource of this name would stand; None where the name is none of a resource.

    Parameters
    ----------
    name
        Such as `configs/sandbox.yaml` or `models/sandbox/clip`.
    """
    parts = PurePosixPath(Path(name).as_posix()).parts
    if not parts or parts[0] not in _PACKAGED or ".." in parts:
        return None
    return _folder(parts[0]).joinpath(*parts[1:])


def packaged_name(path: Path) -> str | None:
    """The name of a packaged resource that stands at `path`; None for a file of the user's."""
    resolved = path.resolve()
    for name in _PACKAGED:
        if resolved.is_relative_to(_folder(name)):
            return (PurePosixPath(name) / resolved.relative_to(_folder(name)).as_posix()).as_posix()
    return None


def candidates(path: str | Path, *, beside: Path | None = None, ours: bool = False) -> list[Path]:
    """The places where a path is looked for, in order. `~` is expanded.

    Parameters
    ----------
    beside
        Folder of the file that names it.
    ours
        The package or a run's header wrote it, not a user: packaged resources go first.
    """
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return [expanded]
    inside = packaged(expanded)
    first, last = ([inside], []) if ours else ([], [inside])
    places = [*first, beside / expanded if beside else None, Path.cwd() / expanded, *last]
    return list(dict.fromkeys(place for place in places if place is not None))


def locate(path: str | Path, *, beside: Path | None = None) -> Path | None:
    """Where a path leads that a user wrote: the first place of `candidates` where something stands; None where nothing does.

    A file of the user's that hides a packaged one of the same name is said on the log.
    """
    found = _first(candidates(path, beside=beside))
    if found is not None:
        tell_hidden(path, found)
    return found


def locate_recorded(path: str | Path, *, beside: Path | None = None) -> Path | None:
    """Where a path leads that the package or a run's header wrote; None where nothing stands."""
    return _first(candidates(path, beside=beside, ours=True))


def _first(places: list[Path]) -> Path | None:
    for place in places:
        try:
            if place.exists():
                return place
        except (OSError, ValueError):  # a name too long, or with a NUL: of no file
            continue
    return None


def tell_hidden(path: str | Path, found: Path) -> None:
    """Say, once, that the packaged resource that goes by the name `path` is not what was found."""
    inside = packaged(path)
    if inside is not None and inside.exists() and found.resolve() != inside.resolve():
        _say_hidden(str(path), found)


@functools.cache
def _say_hidden(path: str, found: Path) -> None:
    _LOG.warning("note: %s is %s, and not what allfour brings by that name: %s", path, found, packaged(path))


def recorded_name(path: Path) -> str:
    """How a run's header names a file: a packaged resource by its name, any other by its whole path."""
    return packaged_name(path) or str(path.resolve())


def whole_paths(recorded: Any) -> Any:
    """The values of a config's blocks with the whole path in place of a packaged resource's name."""
    if isinstance(recorded, Mapping):
        return {key: whole_paths(value) for key, value in recorded.items()}
    if isinstance(recorded, list):
        return [whole_paths(value) for value in recorded]
    inside = packaged(recorded) if isinstance(recorded, str) else None
    return str(inside) if inside is not None and inside.exists() else recorded
