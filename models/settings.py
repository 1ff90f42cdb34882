"""What the settings of every backend share: the frozen block, paths that a config names, and how a backend says that it is ready.

A backend's settings are one model beside its class. They import nothing heavy, so that a config is read in no time; what they
`build` imports what it needs. What is built differs by kind: see `base.py` of generators, classifiers and detectors.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from allfour import resources
from allfour.errors import ConfigError

BESIDE = "beside"
"""Key of the validation context: the folder of the file that is read. Without it paths are left as they are."""
WRITTEN = "written"
"""Key of the validation context: the texts that a user wrote. A path that is none of them is the package's, or a run's header's. Without it
all are the user's."""


class Block(BaseModel):
    """A block of a config: frozen, and an unknown key in it is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)


class BackendSettings(Block):
    """The block that names a backend and sets it up."""

    needs: ClassVar[str] = "allfour"
    """What `pip install` is given where a package is missing that the backend imports, such as `allfour[face]`."""

    def files(self) -> list[Path] | None:
        """Every local file that what the backend does depends on, beside its settings and the versions of packages.

        None where it depends on more: on a hub, on a cache, on a machine. Where files and settings are those of a finished run, its
        identity is taken from that run, and neither weights nor the packages that read them are loaded.
        """
        return None


def named_files(*recorded: str | None) -> list[Path] | None:
    """The files behind paths of a config, those of folders among them; None where one is a tag or a hub id."""
    found: list[Path] = []
    for name in recorded:
        place = resources.locate_recorded(name) if name is not None else None
        if place is None:
            return None
        found += sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    return found


def _off(value: Any) -> Any:
    return "off" if value is False else value


PreflightMode = Annotated[Literal["strict", "warn", "off"], BeforeValidator(_off)]
"""What a model that a server does not list means. YAML 1.1 reads a bare `off` as false."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a backend can start."""

    ok: bool
    message: str
    """What was found, in one sentence."""
    mend: str | None = None
    """What to do about it, where `ok` is false or something is warned of."""
    warnings: tuple[str, ...] = ()
    """What may go wrong later though the run can start."""


_NO_MEMORY = re.compile("failed to map segment|cannot allocate memory|failed to allocate", re.IGNORECASE)
"""What the loader of libraries says where there is no room for one that is installed."""


@contextlib.contextmanager
def named_if_missing(settings: BackendSettings, where: str) -> Iterator[None]:
    """Turn a failing import inside into a `ConfigError` that names the command which mends it.

    Parameters
    ----------
    where
        The key that chose the backend, with its value.
    """
    try:
        yield
    except ImportError as error:
        if _NO_MEMORY.search(str(error)):
            raise ConfigError(
                f"{where}: what it needs does not fit into the memory that this process may have ({error}). Raise the limit "
                "(`ulimit -v`, the job's) or free some, and repeat the same command"
            ) from error
        raise ConfigError(f"{where}: {error}. Install what it needs: pip install '{settings.needs}'") from error


def not_found(path: str | Path, places: list[Path]) -> str:
    """The error of a file that stands in none of the places."""
    return f"{path}: no such file. Looked for: {', '.join(map(str, places))}{_closest(path, places)}"


def _closest(path: str | Path, places: list[Path]) -> str:
    """A hint: the closest name in one of the folders."""
    for folder in (place.parent for place in places):
        beside = sorted(p.stem for p in folder.iterdir() if p.suffix == Path(path).suffix) if folder.is_dir() else []
        if close := difflib.get_close_matches(Path(path).stem, beside, n=1):  # endings alike are no likeness
            return f". Did you mean {Path(path).parent / (close[0] + Path(path).suffix)}?"
    return ""


def texts_in(data: Any) -> frozenset[str]:
    """Every text that stands as a value in blocks and lists."""
    if isinstance(data, str):
        return frozenset({data})
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return frozenset().union(*map(texts_in, parts))


def _find(path: str, info: ValidationInfo) -> Path | None:
    """Where a path of the file that is read leads."""
    locate = resources.locate if _by_user(path, info) else resources.locate_recorded
    return locate(path, beside=(info.context or {})[BESIDE])


def _by_user(text: str, info: ValidationInfo) -> bool:
    return text in (info.context or {}).get(WRITTEN, (text,))


def local_path(path: str, info: ValidationInfo) -> str:
    """The validator of `LocalPath`."""
    if BESIDE not in (info.context or {}):
        return path
    found = _find(path, info)
    if found is None:
        raise ValueError(not_found(path, resources.candidates(path, beside=(info.context or {})[BESIDE])))
    return resources.recorded_name(found)


def _folder_or_name(name: str, info: ValidationInfo) -> str:
    if BESIDE not in (info.context or {}):
        return name
    found = _find(name, info)
    if found is not None and found.is_dir() and not _by_user(name, info) and resources.packaged_name(found) is None:
        return name  # a tag of ours stays one, whatever the working directory holds
    return resources.recorded_name(found) if found is not None else name


LocalPath = Annotated[str, AfterValidator(local_path)]
"""A file or folder that must stand: recorded as a packaged resource's name, or as an absolute path."""
FolderOrName = Annotated[str, AfterValidator(_folder_or_name)]
"""The same, where the word may also be a tag or a hub id."""


def on_disk(recorded: str) -> str:
    """Where a recorded path stands, or the word itself where it is no path that stands."""
    found = resources.locate_recorded(recorded)
    return str(found) if found is not None else recorded
