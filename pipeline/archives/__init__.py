"""Images that exist already, whatever they lie in: `open_source(location)` gives an `ArchiveSource`.

A name is imported when it is first used: whoever needs to know what a shard is need not load every reader.

Common
    base (the interface), opening (location -> source), options, kinds (what a file is), remote (addresses), decoding (bytes -> RGB), budget
Trees of files
    tree, tree_reading, tree_notes, listing, listing_shards, entries, folder, zip; whose prompt an image has: naming, captions,
    caption_folders, beside and beside_rows (tables beside images), keyed, key_tables and named_table (prompts by key), text
Tars
    tar, tar_opening, tar_stream, tar_survey, tar_names, tar_aside
Tables
    manifest, manifest_parsing, manifest_reading, manifest_lines, manifest_rows; parquet, parquet_file, parquet_columns, arrow, arrow_kinds, arrow_values, json_pictures; columns (by customary names)
Runs of allfour
    run_images
Prompts in pictures
    metadata, carriers (where texts lie), dialects (who wrote them), stealth, comfy, comfy_text, comfy_drawn
Grids of pictures
    tiles (cut), seams, seam_gutters, seam_lines, seam_pixels, seam_places, seam_rules, seam_strips
Around any source
    limited (a first look), marked (groups of people), probing and probed (looks before reading), counting, unprompted, camera_raw
Single images again
    fetch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "open_source",
    "prompt_id_for",
]

_HOMES = {
    "ArchiveError": "allfour.errors",
    "Budget": "allfour.pipeline.archives.budget",
    "open_source": "allfour.pipeline.archives.opening",
    "ArchiveOptions": "allfour.pipeline.archives.options",
    "RunImages": "allfour.pipeline.archives.run_images",
    "prompt_id_for": "allfour.pipeline.config.ids",
}
"""Where a name is defined that is not of `allfour.pipeline.archives.base`."""


def __getattr__(name: str) -> Any:
    """A name of this package, imported when it is first used (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "allfour.pipeline.archives.base")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
