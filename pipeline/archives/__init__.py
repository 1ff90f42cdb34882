"""Images that exist already, whatever they lie in: `open_source(location)` gives an `ArchiveSource`."""

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import (
    INDEX_STRIDE,
    NO_PROMPT_ID,
    ArchivedImage,
    ArchiveItem,
    ArchiveSource,
    ArchiveSummary,
    Shard,
)
from allfour.pipeline.archives.budget import Budget
from allfour.pipeline.archives.fetch import fetch
from allfour.pipeline.archives.opening import open_source
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.run_images import RunImages
from allfour.pipeline.config.ids import prompt_id_for

__all__ = [
    "INDEX_STRIDE",
    "NO_PROMPT_ID",
    "ArchiveError",
    "ArchiveItem",
    "ArchiveOptions",
    "ArchiveSource",
    "ArchiveSummary",
    "ArchivedImage",
    "Budget",
    "RunImages",
    "Shard",
    "fetch",
    "open_source",
    "prompt_id_for",
]
