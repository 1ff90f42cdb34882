"""A CSV or JSONL manifest: a row per image with the columns path and prompt; index, group, seed, prompt_id if wanted.

Paths are relative to the manifest. One that somebody wrote on this machine may name any file on it; one at an address
may only name what lies beside or below it. The manifest itself must be right: whatever is wrong with a row of it is one
error that names the line. A file that is missing is an image with an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import INDEX_STRIDE, NO_PROMPT_ID, ArchivedImage, ArchiveItem, ArchiveSummary, Shard
from allfour.pipeline.archives.columns import DOWNLOAD_FIRST
from allfour.pipeline.archives.counting import Counted, copies_note
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.manifest_parsing import RowParser
from allfour.pipeline.archives.manifest_reading import ManifestReader
from allfour.pipeline.archives.manifest_rows import (
    MISSING,
    Columns,
    FirstSaid,
    Piece,
    as_json,
    extra_of,
    file_stamp,
    is_inside,
    key_of,
    near,
)
from allfour.pipeline.archives.naming import may_be_no_sample, no_sample_notes
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.probing import spread
from allfour.pipeline.archives.remote import RemoteTree, scheme_of, show_address, stamp_of
from allfour.pipeline.archives.text import PromptBook, cut_note, escape_name
from allfour.pipeline.archives.tree_reading import find_shard
from allfour.pipeline.words import quantity

MAX_ASKED = 256
"""Files at an address that a summary asks for."""


def _twice(keys: array[int]) -> NDArray[np.uint64]:
    """Keys that an earlier one equals, each as often as it does. They are sorted in place: a manifest may have a hundred million rows."""
    values: NDArray[np.uint64] = np.frombuffer(keys, dtype=np.uint64)
    values.sort()
    twice: NDArray[np.uint64] = values[1:][values[1:] == values[:-1]]
    return twice


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one pass over the manifest finds."""

    columns: Columns
    shards: tuple[Shard, ...]
    images: int
    counted: Counted
    examples: tuple[str, ...]
    missing: int
    """Rows whose file is not there."""
    addresses: int
    """Rows that name addresses, which are not fetched."""
    doubles: int
    """Rows that name a file that an earlier one names."""
    derived: int
    """Rows whose file's name may be that of a grid, a mask or the like."""
    kept: tuple[str, ...]
    texts: Mapping[str, str]
    """Prompts by their id that rows give several texts: one that is not the first."""
    groups: Mapping[str, str]
    """Prompts that rows put into several groups: one that is not the first."""


class ManifestSource:
    """`ArchiveSource` over one manifest, here or at an address."""

    def __init__(self, file: str, options: ArchiveOptions) -> None:
        if options.prompt_from in ("caption", "metadata", "table"):
            raise ArchiveError(
                f"{show_address(file)}: a manifest's prompts come from its column, or from the paths in it with prompt_from: folder, name or "
                f"path; {options.asked_for()} is for folders, zips and tars"
            )
        self._options = options
        self._remote = scheme_of(file) is not None
        self._file = file if self._remote else str(Path(file).resolve())
        self._shown = show_address(self._file)
        self._folder = os.path.join(os.path.dirname(self._file), "")  # noqa: PTH118, PTH120
        self._reader = ManifestReader(self._file)
        self._parser = RowParser(self._file, options, self._reader)
        self._scanned: _Scan | None = None
        self._asked: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scanned": None, "_asked": None}

    def identity(self) -> Mapping[str, str]:
        return {"layout": "manifest", "location": self._shown, **self._options.identity()}

    def shards(self) -> Iterator[Shard]:
        yield from self._scan().shards

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        if not shard.payload:
            shard = find_shard(self, shard.id)
        start = json.loads(shard.payload)
        columns = Columns(**start["columns"])
        book = self._options.book()
        counted: Counter[str] = Counter()
        pending: list[tuple[ArchivedImage, str]] = []
        rows = self._reader.rows(start["names"], offset=start["offset"], line=start["line"])
        for _, row in zip(range(start["rows"]), rows, strict=False):
            prompt, index, group, seed = self._parser.parsed(row, columns, book)
            if index is None or prompt.id == NO_PROMPT_ID:
                index = shard.ordinal * INDEX_STRIDE + counted[prompt.id]
                counted[prompt.id] += 1
            named = row.values[columns.path]
            image = ArchivedImage(
                prompt_id=prompt.id,
                prompt=prompt.text,
                index=index,
                path=self._show(named),
                group=group or prompt.group,
                seed=seed,
                extra=prompt.with_cut({**self._parser.fields(named), **extra_of(row, columns)}),
            )
            pending.append((image, named))
            if len(pending) >= 256:
                yield from self._items(pending)
                pending = []
        yield from self._items(pending)

    def summary(self) -> ArchiveSummary:
        scan = self._scan()
        notes = [f"images from column {escape_name(scan.columns.path)}"]
        if scan.columns.prompt is None:
            what = {"name": "the files' names", "path": "what the paths say"}.get(
                self._options.prompt_from, "the folders that the paths name"
            )
            notes.append(f"prompts are {what}")
        else:
            notes.append(f"prompts from column {escape_name(scan.columns.prompt)}")
        if scan.columns.index is None:
            notes.append("no column index: images are counted within their prompt, in the order of the rows")
        if scan.kept:
            notes.append(f"further columns, kept as text: {', '.join(escape_name(name) for name in scan.kept[:20])}")
        if scan.counted.cut:
            notes.append(cut_note(len(scan.counted.cut)))
        notes += scan.counted.book.notes()
        if not self._remote:
            scan.counted.look_for_copies(self._contents)
        missing, tried = self._missing(scan)
        if missing and tried < scan.images - scan.addresses:
            notes.append(f"{missing:,} of {tried:,} files that were asked for are not there: they cannot be scored")
        notes += [*self.doubts(), *self._no_samples(scan), *copies_note(scan.counted.copies)]
        return ArchiveSummary(
            layout="manifest",
            images=scan.images,
            prompts=len(scan.counted.per_prompt),
            shards=len(scan.shards),
            examples=scan.examples,
            notes=tuple(dict.fromkeys(notes)),
            images_per_prompt=scan.counted.images_per_prompt,
            without_copies=scan.counted.without_copies,
            probed={"missing": missing},
        )

    def doubts(self) -> list[str]:
        """What a user should know before a run: files that are not there or named twice, words for nothing as prompts."""
        scan = self._scan()
        notes = []
        missing, tried = self._missing(scan)
        if missing and tried >= scan.images - scan.addresses:
            notes.append(
                f"{missing:,} of {scan.images:,} rows name files that are not there: they cannot be scored{self._looked_for(scan)}"
            )
        if scan.addresses:
            notes.append(
                f"{scan.addresses:,} of {scan.images:,} rows name addresses, from which images are not fetched: they cannot be scored. Download them first, as "
                "img2dataset does"
            )
        if scan.doubles:
            notes.append(
                f"{scan.doubles:,} of {scan.images:,} rows name a file that an earlier row names: copies fill sets without saying more "
                "than one image does"
            )
        if scan.texts:
            id_, text = next(iter(scan.texts.items()))
            notes.append(
                f"{quantity(len(scan.texts), 'prompt id stands', 'prompt ids stand')} for several prompts, such as "
                f"{escape_name(id_)[:80]!r}, also of {text[:80]!r}: the images of one id are one prompt, under its first text"
            )
        if scan.groups:
            group = next(iter(scan.groups.values()))
            notes.append(
                f"{quantity(len(scan.groups), 'prompt is', 'prompts are')} in several groups, such as one also in {group[:80]!r}: the first counts"
            )
        if lacking := scan.counted.lacking:
            notes.append(
                f"{lacking:,} of {scan.images:,} rows have no prompt: {self._parser.lacks()}; they are not scored"
            )
        return notes

    def _missing(self, scan: _Scan) -> tuple[int, int]:
        """How many files are not there, and how many were looked for: all on this machine, some of many at an address."""
        if not self._remote:
            return scan.missing, scan.images - scan.addresses
        if self._asked is None:
            wanted = set(spread(scan.images, MAX_ASKED))
            rows = (row.values[scan.columns.path] for at, row in enumerate(self._reader.rows()) if at in wanted)
            named = [path for path in rows if is_inside(path)]
            self._asked = RemoteTree(self._file.rpartition("/")[0]).missing(named), len(named)
        return self._asked

    def _looked_for(self, scan: _Scan) -> str:
        """Where the first file was looked for that is not there, and where it seems to be."""
        if self._remote:
            return ""
        named = (row.values[scan.columns.path] for row in self._reader.rows())
        missing = next(
            (path for path in named if "://" not in path and file_stamp(self._local_path(path))[1] == MISSING), None
        )
        return (
            ""
            if missing is None
            else f". {escape_name(missing)} was looked for at {self._show(missing)}{near(self._folder, missing)}"
        )

    def _contents(self, files: Sequence[tuple[str, int]]) -> Iterator[bytes | str]:
        return (read_file(path, limit=self._options.max_image_bytes) for path, _ in files)

    def _no_samples(self, scan: _Scan) -> list[str]:
        """A word on files that by their names are no samples: they are read, since the manifest names them."""
        if not scan.derived:
            return []
        return no_sample_notes((row.values[scan.columns.path] for row in self._reader.rows()), scan.images)

    # --- the pass over all rows --------------------------------------------------------------------------------------

    def _scan(self) -> _Scan:
        """Read every row once: check it, cut shards, count.

        Raises
        ------
        ArchiveError
            For the first thing that is wrong, with its line.
        """
        if self._scanned is None:
            self._scanned = self._scan_rows()
        return self._scanned

    def _scan_rows(self) -> _Scan:
        book = self._options.spelling_book()
        size, stamp = stamp_of(self._file)
        salt = self._options.salt()
        if self._remote:  # the files themselves are not asked for their stamps, one by one
            salt += f"\n{self._shown}\n{size}\n{stamp}"
        columns: Columns | None = None
        names: list[str] = []
        shards: list[Shard] = []
        keys = array("Q")
        found = Counted(book)
        examples: list[str] = []
        piece = Piece(hashlib.sha256(salt.encode()))
        named = array("Q")
        texts, groups = FirstSaid(), FirstSaid()
        missing, addresses, derived, last = 0, 0, 0, -1
        for row in self._reader.rows():
            if columns is None:
                names = list(row.values)
                columns = self._parser.columns(names)
            prompt, index, group, _ = self._parser.parsed(row, columns, book)
            if columns.prompt_id is not None:
                texts.add(prompt.id, prompt.text)
            if group is not None and prompt.id != NO_PROMPT_ID:
                groups.add(prompt.id, group)
            path = row.values[columns.path]
            if index is not None and prompt.id != NO_PROMPT_ID:
                keys.append(key_of(prompt.id, index))
            if prompt.id not in found.per_prompt and prompt.id != NO_PROMPT_ID and len(examples) < 5:
                examples.append(f"{prompt.text} <- {self._show(path)}")
            if piece.rows >= self._options.shard_size and row.offset != last:  # the images of one line stay together
                shards.append(piece.shard(len(shards), columns, names))
                piece = Piece(hashlib.sha256(salt.encode()))
            last = row.offset
            piece.first = piece.first or row
            piece.rows += 1
            read = as_json(row.values).encode()
            named.append(key_of(path))
            derived += may_be_no_sample(path)
            size, local = -1, path
            if "://" in path and scheme_of(path) not in (None, "file"):
                addresses += 1
                read += MISSING
            elif not self._remote:
                local = self._local_path(path)
                size, stamped = file_stamp(local)
                missing += stamped == MISSING
                read += stamped
            piece.digest.update(read)
            found.add(None if prompt.id == NO_PROMPT_ID else prompt, local, size)
        if columns is None:
            raise ArchiveError(f"{self._shown} has no rows")
        if addresses == len(named):
            raise ArchiveError(
                f"{self._shown}: column {escape_name(columns.path)} holds addresses alone. {self._addressed(local)}"
            )
        if piece.rows:
            shards.append(piece.shard(len(shards), columns, names))
        self._check_unique(keys, columns, book)
        used = {columns.path, columns.prompt, columns.index, columns.group, columns.seed, columns.prompt_id}
        return _Scan(
            columns=columns,
            shards=tuple(shards),
            images=len(named),
            counted=found,
            examples=tuple(examples),
            missing=missing,
            addresses=addresses,
            doubles=len(_twice(named)),
            derived=derived,
            kept=tuple(name for name in names if name not in used),
            texts=texts.others,
            groups=groups.others,
        )

    def _addressed(self, example: str) -> str:
        """What to do about a manifest that names addresses alone."""
        if scheme_of(example) in ("http", "https"):
            return DOWNLOAD_FIRST
        above = show_address(example).rpartition("/")[0]
        return f"Put the manifest beside the images, with paths relative to it, and give its own address: {above}/..."

    def _check_unique(self, keys: array[int], columns: Columns, book: PromptBook) -> None:
        if not keys:
            return
        doubles = set(_twice(keys).tolist())
        if not doubles:
            return
        seen: dict[tuple[str, int], int] = {}
        for row in self._reader.rows():
            prompt, index, _, _ = self._parser.parsed(row, columns, book)
            assert index is not None
            if key_of(prompt.id, index) not in doubles:
                continue
            earlier = seen.setdefault((prompt.id, index), row.line)
            if earlier != row.line:
                raise self._reader.error(
                    row.line,
                    f"is image {index} of the prompt {prompt.text!r}, and so is line {earlier}. Give each image its "
                    f"own {columns.index}, or leave that column out: images are then counted in the order of the rows",
                )

    # --- files -------------------------------------------------------------------------------------------------------

    def _items(self, pending: Sequence[tuple[ArchivedImage, str]]) -> Iterator[ArchiveItem]:
        limit = self._options.max_image_bytes
        contents: dict[str, bytes | str] = {}
        if self._remote:
            inside = list(dict.fromkeys(named for _, named in pending if is_inside(named)))
            tree = RemoteTree(self._file.rpartition("/")[0])
            found = tree.read_all([(named, -1) for named in inside], limit=limit)
            contents = dict(zip(inside, found, strict=True))
        for image, named in pending:
            if self._remote:
                content = contents.get(named, "the path leads out of the manifest's folder: not followed")
            elif scheme_of(named) not in (None, "file"):
                content = "an address in a manifest on this machine is not fetched; put the manifest beside the images"
            else:
                content = read_file(self._local_path(named), limit=limit)
            data, error = (None, content) if isinstance(content, str) else (content, None)
            if image.prompt_id == NO_PROMPT_ID:
                data, error = None, error or f"no prompt: {self._parser.lacks()}"
            yield ArchiveItem(image, data, error)

    def _local_path(self, named: str) -> str:
        if "://" in named and scheme_of(named) == "file":
            named = unquote(urlsplit(named).path)
        path = named if named.startswith("/") else self._folder + named  # kept as it is written
        if "\\" in named and not os.path.lexists(path):  # as Windows writes it
            path = os.path.join(self._folder, named.replace("\\", "/"))  # noqa: PTH118
        return path

    def _show(self, named: str) -> str:
        if self._remote:
            return f"{show_address(self._file.rpartition('/')[0])}/{escape_name(named)}"
        return escape_name(
            named if scheme_of(named) not in (None, "file") else os.path.normpath(self._local_path(named))
        )
