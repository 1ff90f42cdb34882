"""How an archive is to be read."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
    """For prompt_from: path, such as `{model}/{prompt}/{seed}`: what the end of a path says, without the file's extension; with a
    prompt_table it holds `{key}` in place of `{prompt}`."""
    prompt_table: str | None = None
    """A file on this machine with the prompts by key: a number, an id or a row, which images bear in their names or folders."""
    key_column: str | None = None
    """The column of these keys; `row-0` or `row-1` for the number of the row, counted from there."""
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
        if self.prompt_table is not None:
            if self.prompt_from not in ("auto", "table"):
                raise ArchiveError(
                    f"archive.prompt_table is where prompts come from, so that prompt_from: {self.prompt_from} cannot be set beside it"
                )
            object.__setattr__(self, "prompt_from", "table")
        elif self.key_column is not None:
            raise ArchiveError("archive.key_column is of a prompt_table: give that too")
        if self.prompt_from == "path" and self.path_pattern is None:
            raise ArchiveError(
                "prompt_from: path needs archive.path_pattern, such as {model}/{prompt}/{seed}: what the end of a path says"
            )
        if self.path_pattern is not None:
            PathPattern(self.path_pattern, needs="prompt" if self.prompt_table is None else "key")
        if self.tiles is not None:
            layout_of(self.tiles)

    def asked_for(self) -> str:
        """What says where prompts come from, as a user wrote it."""
        return "prompt_table" if self.prompt_table is not None else str(self.prompt_from)

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
        if self.prompt_table is not None:
            stated["prompt_table_sha256"] = _sha256_of(self.prompt_table)
        if self.key_column is not None:
            stated["key_column"] = self.key_column
        if self.prompts:
            text = json.dumps(sorted((key, *value) for key, value in self.prompts.items()))
            stated["prompts_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return stated


def _sha256_of(file: str) -> str:
    """Of a table's bytes; empty where it is not there, which whoever reads it says."""
    try:
        status = Path(file).stat()
        return _sha256(file, status.st_size, status.st_mtime_ns)
    except OSError:
        return ""


@functools.lru_cache(maxsize=8)
def _sha256(file: str, size: int, stamp: int) -> str:
    """Read once as long as size and time stand: every shard's fingerprint asks for it."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
