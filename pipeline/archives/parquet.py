"""Parquet with the images inside: Hugging Face's struct {bytes, path}, or a plain column of bytes.

A shard is a run of row groups of about `shard_size` rows in one file (at least one row group). Only the columns that
are used are read, a few rows at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from allfour.errors import ArchiveError
from allfour.pipeline.archives.arrow_values import rows_of
from allfour.pipeline.archives.base import (
    INDEX_STRIDE,
    NO_PROMPT_ID,
    ArchivedImage,
    ArchiveItem,
    ArchiveSummary,
    NoImagesError,
    Shard,
)
from allfour.pipeline.archives.columns import whole_number
from allfour.pipeline.archives.counting import Counted, copies_note
from allfour.pipeline.archives.naming import no_sample_notes
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.parquet_file import ParquetFile
from allfour.pipeline.archives.probing import EXAMPLES
from allfour.pipeline.archives.remote import show_address, stamp_of
from allfour.pipeline.archives.text import cut_note
from allfour.pipeline.archives.tree_reading import broken_item, find_shard

_SUMMARY_ROWS = 1_000_000
_BROKEN = "broken"


class ParquetSource:
    """`ArchiveSource` over parquet files, here or at addresses."""

    def __init__(self, files: Sequence[str], options: ArchiveOptions, *, location: str) -> None:
        if options.prompt_from not in ("auto", "column", "metadata"):
            raise ArchiveError(
                f"{show_address(location)}: a parquet's prompts come from its column, or from the images with prompt_from: metadata; "
                f"{options.asked_for()} is for files and folders"
            )
        self._files = list(files)
        self._options = options
        self._location = show_address(location)

    def identity(self) -> Mapping[str, str]:
        return {"layout": "parquet", "location": self._location, **self._options.identity()}

    def shards(self) -> Iterator[Shard]:
        shard = None
        for shard in self._found():
            yield shard
        if shard is None:
            raise self._no_rows()

    def _no_rows(self) -> NoImagesError:
        files = "it has" if len(self._files) == 1 else f"its {len(self._files):,} files have"
        return NoImagesError(f"no images in {self._location}: {files} no rows")

    def _found(self) -> Iterator[Shard]:
        ordinal = 0
        for number, file in enumerate(self._files):
            stated = [show_address(file), *map(str, stamp_of(file)), self._options.salt()]
            try:
                with ParquetFile(file, self._options) as table:
                    pieces: list[tuple[int, int, int | None]] = []
                    pieces += _pieces(table.rows_of_groups(), self._options.shard_size)
                    per_row = table.images_per_row
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                pieces, per_row = [(0, 0, None)], 1
                broken = str(error).encode()
            for first, last, rows in pieces:
                if rows == 0:
                    continue
                name = _BROKEN if rows is None else f"{first:06d}.{last:06d}"
                text = "\n".join([*stated, str(ordinal), name])
                yield Shard(
                    id=f"{ordinal:06d}-{number:06d}-{name}",
                    ordinal=ordinal,
                    fingerprint=hashlib.sha256(text.encode()).hexdigest(),
                    images=None if rows is None or per_row is None else rows * per_row,
                    payload=broken if rows is None else b"",
                )
                ordinal += 1

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        _, number, name = shard.id.split("-")
        file = self._files[int(number)]
        if name == _BROKEN:
            shard = shard if shard.payload else find_shard(self, shard.id)
            yield broken_item(shard, show_address(file), shard.payload.decode())
            return
        first, last = (int(part) for part in name.split("."))
        counted: Counter[str] = Counter()
        with ParquetFile(file, self._options) as table:
            row = sum(table.rows_of_groups()[:first])
            try:
                for batch in table.batches(range(first, last + 1)):
                    for values in rows_of(batch):
                        found = table.images(values)
                        for which, (data, error) in enumerate(found):
                            prompt, data, error, extra = table.row(values, data, error)  # noqa: PLW2901
                            seed = whole_number(extra.get("seed"))
                            if seed is not None:
                                del extra["seed"]
                            group = extra.pop("group", None)
                            image = ArchivedImage(
                                prompt_id=prompt.id,
                                prompt=prompt.text,
                                index=shard.ordinal * INDEX_STRIDE + counted[prompt.id],
                                path=f"{show_address(file)}::{row}" + (f".{which}" if table.several else ""),
                                group=prompt.group or group,
                                seed=seed,
                                extra=prompt.with_cut(extra),
                            )
                            counted[prompt.id] += 1
                            yield ArchiveItem(image, data, error)
                        row += 1
            except (pa.ArrowException, OSError, ValueError) as error:
                if isinstance(error, ArchiveError | MemoryError):
                    raise
                image = ArchivedImage(
                    prompt_id=NO_PROMPT_ID,
                    prompt="",
                    index=shard.ordinal * INDEX_STRIDE + counted[NO_PROMPT_ID],
                    path=f"{show_address(file)}::{row}",
                )
                reason = f"the parquet is damaged; no row from {row:,} on in this part can be read"
                yield ArchiveItem(image, None, reason)

    def summary(self) -> ArchiveSummary:
        images = shards = no_bytes = 0
        found = Counted(self._options.spelling_book())
        probed, known = False, True
        notes: list[str] = []
        names: list[str] = []
        examples: list[str] = []
        for file in self._files:
            try:
                with ParquetFile(file, self._options, book=found.book) as table:
                    rows = table.rows_of_groups()
                    per_row = table.images_per_row
                    known = known and per_row is not None
                    images += sum(rows) * (per_row or 1)
                    shards += sum(count > 0 for *_, count in _pieces(rows, self._options.shard_size))
                    notes += table.notes()
                    if images <= _SUMMARY_ROWS:
                        no_bytes += table.without_bytes()
                        names += table.names()
                    if table.prompt_column is None and not probed:
                        probed = True
                        notes += table.probed()
                    if table.prompt_column is None or per_row is None or images > _SUMMARY_ROWS:
                        found.known = False
                        if per_row is None:
                            examples += [f"{text} <- {show_address(file)}" for text in table.first_prompts()]
                        continue
                    _count(table, show_address(file), found, examples)
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                notes.append(str(error))
                shards += 1
        if not shards:
            raise self._no_rows()
        if found.lacking:
            notes.append(f"{found.lacking:,} of {images:,} rows have an empty prompt: they are not scored")
        if no_bytes:
            notes.append(
                f"{no_bytes:,} of {images:,} rows hold no image (a path at most, or nothing): they cannot be scored; embed the images, or "
                "write their paths as a manifest"
            )
        if found.cut:
            notes.append(cut_note(len(found.cut)))
        notes += [*found.book.notes(), *no_sample_notes(names, images), *copies_note(found.copies)]
        return ArchiveSummary(
            layout="parquet",
            images=images if known else None,
            prompts=len(found.per_prompt) if found.known else None,
            shards=shards,
            examples=tuple(examples),
            notes=tuple(dict.fromkeys(notes)),
            images_per_prompt=found.images_per_prompt,
            without_copies=found.without_copies,
            probed={"missing": no_bytes},
        )


def _count(table: ParquetFile, shown: str, found: Counted, examples: list[str]) -> None:
    """Count the prompts of a file; and the copies among its images, where these are soon read."""
    for row, (prompt, digests) in enumerate(table.prompts()):
        none = prompt.id == NO_PROMPT_ID
        if prompt.id not in found.per_prompt and not none and len(examples) < EXAMPLES:
            examples.append(f"{prompt.text} <- {shown}::{row}")
        found.count(None if none else prompt, table.images_per_row or 1)
        for digest in digests if not none else ():
            found.compare(prompt, digest)


def _pieces(rows: Sequence[int], size: int) -> Iterator[tuple[int, int, int]]:
    """Runs of row groups (first, last, rows) of about `size` rows, never fewer than one group."""
    first = total = 0
    for group, count in enumerate(rows):
        if total and total + count > size:
            yield first, group - 1, total
            first, total = group, 0
        total += count
    if rows:
        yield first, len(rows) - 1, total
