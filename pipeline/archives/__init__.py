"""Images that exist already, whatever they lie in."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.archives.base import (
    INDEX_STRIDE,
    NO_PROMPT_ID,
    ArchivedImage,
    ArchiveError,
    ArchiveItem,
    ArchiveSource,
    ArchiveSummary,
    Shard,
    prompt_id_for,
)
from pipeline.archives.options import ArchiveOptions

__all__ = [
    "INDEX_STRIDE",
    "NO_PROMPT_ID",
    "ArchiveError",
    "ArchiveItem",
    "ArchiveOptions",
    "ArchiveSource",
    "ArchiveSummary",
    "ArchivedImage",
    "Shard",
    "open_source",
    "prompt_id_for",
]


def open_source(location: str | os.PathLike[str], *, options: ArchiveOptions | None = None) -> ArchiveSource:
    """The archive at a path, pattern or URL.

    Args:
        location: a folder, a manifest, tar, zip or parquet file, several of them (`*`, `{0000..0012}`), a run folder,
            or an s3://, gs:// or https:// address of the same.
        options: reading options; the defaults fit the customary layouts.

    Raises:
        ArchiveError: if there is nothing there, or nothing that can be read; says how to mend it.
    """
    options = options or ArchiveOptions()
    text = os.fspath(location)
    path = Path(text).expanduser()
    if path.is_dir():
        from pipeline.archives.folder import LocalTree
        from pipeline.archives.tree import TreeSource

        return TreeSource(LocalTree(path), options, location=str(path.resolve()))
    raise ArchiveError(f"no archive at {text}: expected a folder of PROMPT/INDEX.png")
