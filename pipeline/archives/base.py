"""One interface for images that exist already, whatever they lie in.

A source is cut into shards, the units of work: a shard is read, scored and committed as a whole, on any machine, so it
must be readable from its description alone. Sources are picklable (they hold paths and options, never open files).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from allfour.errors import ArchiveError

DEFAULT_SHARD_SIZE = 10_000

INDEX_STRIDE = 1_000_000_000
"""Where indexes are counted while a shard is read, those of shard n begin at n * INDEX_STRIDE: unique and increasing
within a prompt that lies in many shards, without any shard knowing of the others."""

NO_PROMPT_ID = ""
"""In place of a prompt's id, of listed images that no prompt could be found for: it is the id of no prompt. They carry an error, never
bytes."""


class NoImagesError(ArchiveError):
    """It can be read, and holds no image."""


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One listed image. Whatever was listed gets a row, readable or not."""

    prompt_id: str
    prompt: str
    """The prompt as found (a folder's name, a caption, a column, metadata); data, never trusted as markup or path."""
    index: int
    """Position within the prompt. Unique per prompt and increasing in reading order; not always gapless."""
    path: str
    """Where the bytes lie, for people and for reports: a file path or URL; `archive.tar::member` inside a container."""
    group: str | None = None
    seed: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further columns of a manifest or metadata found inside the image, kept as text."""


@dataclass(frozen=True, slots=True)
class ArchiveItem:
    """An image with its bytes, or with the reason why there are none."""

    image: ArchivedImage
    data: bytes | None
    error: str | None = None
    single: bool = False
    """Whether it is known to be one picture. Others are looked at for seams, and kept out of sets where they are grids of several."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One unit of work of a source."""

    id: str
    """Stable and safe as a file name: the same shard of the same source has the same id in every process."""
    ordinal: int
    """Position in the source: final tables are in the order of ordinals."""
    fingerprint: str
    """Changes when the shard's input changes (names, sizes, modification times or etags)."""
    images: int | None = None
    """How many images, where the listing knows; for progress alone."""
    payload: bytes = field(default=b"", repr=False, compare=False)
    """The part of the source's listing that this shard is, in the source's own form: with it another process reads the
    shard without listing the source again. Without it (a shard known by its id) the source lists again."""


@dataclass(frozen=True, slots=True)
class ArchiveSummary:
    """What `--dry-run` shows."""

    layout: str
    """folder, manifest, tar, parquet, zip, run."""
    images: int | None
    prompts: int | None
    shards: int
    examples: tuple[str, ...] = ()
    """A few `prompt <- path` lines."""
    notes: tuple[str, ...] = ()
    """Anything a user should know: files that were not taken for images, prompts that were guessed, and why."""
    images_per_prompt: Mapping[int, int] | None = None
    """Histogram: so many images -> so many prompts that have them; how many sets of any size there are."""
    without_copies: Mapping[int, int] | None = None
    """The same of images that differ; None where no copies were found."""
    probed: Mapping[str, int] = field(default_factory=dict)
    """What the images that were looked at are, in numbers: `images`, `with_prompt`, `distinct` prompts, `in_metadata` (hold a
    prompt inside), `copies` (of another one looked at), `likely_grids`, `missing` files."""


@runtime_checkable
class HasDoubts(Protocol):
    """A source that says before a run what its user should know: prompts in reach that are not taken, files that are missing."""

    def doubts(self) -> list[str]: ...


@runtime_checkable
class ArchiveSource(Protocol):
    """Images that exist, in shards."""

    def identity(self) -> Mapping[str, str]:
        """Layout, location and reading options: what the run's header says of the source. No credentials."""
        ...

    def shards(self) -> Iterator[Shard]: ...

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        """Every listed image of a shard in its fixed order. Never raises for one image."""
        ...

    def summary(self) -> ArchiveSummary: ...
