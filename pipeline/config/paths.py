"""Paths in a config: where they are looked for, and how a run's header records them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from allfour import resources
from allfour.errors import ConfigError

BESIDE = "beside"
"""Key of the validation context: the folder of the file that is read. Without it paths are left as they are."""


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


def not_found(path: str | Path, places: list[Path]) -> str:
    """The error of a file that stands in none of the places."""
    return f"{path}: no such file. Looked for: {', '.join(map(str, places))}{_closest(path, places)}"


def _closest(path: str | Path, places: list[Path]) -> str:
    """A hint: the closest name in one of the folders."""
    for folder in (place.parent for place in places):
        names = sorted(p.name for p in folder.iterdir() if p.suffix == Path(path).suffix) if folder.is_dir() else []
        if close := difflib.get_close_matches(Path(path).name, names, n=1):
            return f". Did you mean {Path(path).parent / close[0]}?"
    return ""


def _beside(info: ValidationInfo) -> tuple[bool, Path | None]:
    context: dict[str, Any] = info.context or {}
    return BESIDE in context, context.get(BESIDE)


def _local(path: str, info: ValidationInfo) -> str:
    wanted, beside = _beside(info)
    if not wanted:
        return path
    found = resources.locate(path, beside=beside)
    if found is None:
        raise ValueError(not_found(path, resources.candidates(path, beside=beside)))
    return resources.recorded_name(found)


def _folder_or_name(name: str, info: ValidationInfo) -> str:
    wanted, beside = _beside(info)
    found = resources.locate(name, beside=beside) if wanted else None
    return resources.recorded_name(found) if found is not None else name


LocalPath = Annotated[str, AfterValidator(_local)]
"""A file or folder that must stand: recorded as a packaged resource's name, or as an absolute path."""
FolderOrName = Annotated[str, AfterValidator(_folder_or_name)]
"""The same, where the word may also be a tag or a hub id."""
