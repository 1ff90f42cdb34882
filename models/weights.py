"""Weights that are fetched once into a cache of this machine: where they are, and that they are the ones known.

Nothing here reaches for a network by itself: `allfour weights get NAME` does, and says so.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

CACHE_VARIABLE = "ALLFOUR_CACHE"
"""Environment variable that names another cache folder."""


def cache_folder() -> Path:
    """`ALLFOUR_CACHE`, else `allfour` in the user's cache folder (`XDG_CACHE_HOME`, by default ~/.cache). It need not exist."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "allfour"


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def store(name: str, data: bytes) -> Path:
    """Write a file of the cache, whole or not at all."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    path = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o644)
        path.replace(folder / name)
    finally:
        path.unlink(missing_ok=True)
    return folder / name
