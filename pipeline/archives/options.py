"""How an archive is to be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import DEFAULT_SHARD_SIZE
from allfour.pipeline.archives.naming import PathPattern
from allfour.pipeline.archives.text import PromptBook, SpellingBook
from allfour.pipeline.archives.tiles import ONE, layout_of

Layout = Literal["auto", "folder", "manifest", "tar", "zip", "parquet", "run"]
PromptFrom = Literal["auto", "folder", "caption", "column", "metadata", "table", "name", "path"]

DEFAULT_MAX_IMAGE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """Reading options; every one has a default that fits the customary layouts."""

    layout: Layout = "auto"
    prompt_from: PromptFrom = "auto"
    """auto: folders and zips by the folders' names, unless a table beside the images names their prompts, the folders' names
    are none (dates, numbers, `samples`) or one flat folder has mostly captions; a tar by caption files, else folders, else the
    images' own metadata, whichever its first images have; a table by its prompt column."""
    path_pattern: str | None = None
    """For prompt_from: path, such as `{model}/{prompt}/{seed}`: what the end of a path says, without the file's extension."""
    prompt_column: str | None = None
    image_column: str | None = None
    prompts: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    """A known prompt set: prompt id -> (text, group). Folders named by an id and captions equal to a text are of it."""
    tiles: str | None = None
    """`2x2`, `1x4`, ...: every picture is a grid of so many images; `auto`: those that their seams show to be one; `1x1`: none is. Without
    it pictures that look like grids are in no set."""
    shard_size: int = DEFAULT_SHARD_SIZE
    """Images per shard, where the source can be cut anywhere."""
    max_image_bytes: int = DEFAULT_MAX_IMAGE_BYTES
    """Larger files get a row with an error; they are not read."""

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.max_image_bytes < 1:
            raise ValueError("shard_size and max_image_bytes must be at least 1")
        if self.prompt_from == "path" and self.path_pattern is None:
            raise ArchiveError(
                "prompt_from: path needs archive.path_pattern, such as {model}/{prompt}/{seed}: what the end of a path says"
            )
        if self.path_pattern is not None:
            PathPattern(self.path_pattern)
        if self.tiles is not None:
            layout_of(self.tiles)

    @property
    def cuts(self) -> bool:
        """Whether grids are cut."""
        return self.tiles not in (None, ONE)

    def spelling_book(self) -> SpellingBook:
        """As `book`, for whoever sums up what the archive says."""
        return SpellingBook(self.prompts)

    def book(self) -> PromptBook:
        return PromptBook(self.prompts)

    def salt(self) -> str:
        """Part of every shard's fingerprint: options under which the same files give other rows."""
        text = self.identity()
        del text["shard_size"]
        return json.dumps(text, sort_keys=True)

    def identity(self) -> dict[str, str]:
        """What of the options changes the rows."""
        stated = {"prompt_from": self.prompt_from, "shard_size": str(self.shard_size)}
        stated |= {"max_image_bytes": str(self.max_image_bytes)}
        if self.path_pattern is not None:
            stated["path_pattern"] = self.path_pattern
        if self.cuts:
            stated["tiles"] = str(self.tiles)
        if self.prompt_column is not None:
            stated["prompt_column"] = self.prompt_column
        if self.image_column is not None:
            stated["image_column"] = self.image_column
        if self.prompts:
            text = json.dumps(sorted((key, *value) for key, value in self.prompts.items()))
            stated["prompts_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return stated
