"""Files that a config names: the user's own, and those that travel inside the package.

A relative path is looked for beside the file that names it, then in the working directory, then among the packaged resources,
whose names begin with `configs/` or `models/` wherever the package is installed.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path, PurePosixPath

_PACKAGED = ("configs", "models")


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


def candidates(path: str | Path, *, beside: Path | None = None) -> list[Path]:
    """The places where a path is looked for, in order. `~` is expanded.

    Parameters
    ----------
    beside
        Folder of the file that names it.
    """
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return [expanded]
    inside = packaged(expanded)
    places = [*([beside / expanded] if beside else []), Path.cwd() / expanded, *([inside] if inside else [])]
    return list(dict.fromkeys(places))


def locate(path: str | Path, *, beside: Path | None = None) -> Path | None:
    """The first place of `candidates` where something stands; None where nothing does."""
    for place in candidates(path, beside=beside):
        try:
            if place.exists():
                return place
        except (OSError, ValueError):  # a name too long, or with a NUL: of no file
            continue
    return None


def recorded_name(path: Path) -> str:
    """How a run's header names a file: a packaged resource by its name, any other by its whole path."""
    return packaged_name(path) or str(path.resolve())
