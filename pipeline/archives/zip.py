"""Zips: a tree of files like a folder, read through their own list of members. One zip is one shard, a large one more.

Declared sizes are checked before, real sizes while reading; members that share bytes with others (how small zips claim
terabytes), encrypted ones and rare compressions are rows with an error. Member names are text, never paths.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import INDEX_STRIDE, ArchiveItem, ArchiveSummary, NoImagesError, Shard
from allfour.pipeline.archives.counting import Counted
from allfour.pipeline.archives.entries import SNIFF_BYTES, FileEntry
from allfour.pipeline.archives.folder import MAX_CAPTION_BYTES
from allfour.pipeline.archives.kinds import is_hidden
from allfour.pipeline.archives.options import ArchiveOptions, PromptFrom
from allfour.pipeline.archives.remote import address_path, open_binary, scheme_of, show_address, stamp_of
from allfour.pipeline.archives.text import SpellingBook, escape_name
from allfour.pipeline.archives.tree import TreeSource
from allfour.pipeline.archives.tree_reading import broken_item, find_shard

SURVEYED = 100
"""Zips that a summary looks into."""

ENCRYPTED = "encrypted: unpack the zip with its password, and give the folder"
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER = 30
_BROKEN = "broken"


class ZipTree:
    """Members of one zip as a tree of files. Opened when first needed; lives within one call of the source."""

    def __init__(self, file: str, *, open_file: Callable[[str], BinaryIO] = open_binary) -> None:
        self._file = file
        self._open_file = open_file
        self.root_name = address_path(file).rpartition("/")[2].rpartition(".")[0] or "zip"
        self.at_hand = scheme_of(file) is None
        self._opened: tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], set[str]] | None = None

    def close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
            self._stream.close()
            self._opened = None

    def show(self, path: str) -> str:
        return f"{show_address(self._file)}::{escape_name(path)}"

    def walk(self, notes: Counter[str]) -> Iterator[tuple[str, list[FileEntry]]]:
        folders: dict[str, list[FileEntry]] = {}
        members = self._open()[1]
        for name, info in members.items():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                notes[f"files that cannot be read: {ENCRYPTED}"] += 1
            folder, _, base = name.rpartition("/")
            if any(is_hidden(part) for part in folder.split("/") if part not in (".", "..")):
                notes["files in hidden or system folders, not taken for images"] += 1
            else:
                folders.setdefault(folder, []).append(FileEntry(base, info.file_size, info.CRC))
        yield from folders.items()

    def heads(self, paths: Sequence[str]) -> Iterator[bytes]:
        for path in paths:
            content = self._read(path, limit=SNIFF_BYTES, head=True)
            yield b"" if isinstance(content, str) else content

    def read_all(self, files: Sequence[tuple[str, int]], *, limit: int) -> Iterator[bytes | str]:
        for path, _ in files:
            yield self._read(path, limit=limit)

    def read_small(self, path: str) -> bytes | None:
        content = self._read(path, limit=MAX_CAPTION_BYTES)
        return None if isinstance(content, str) else content

    def _read(self, path: str, *, limit: int, head: bool = False) -> bytes | str:
        archive, members, shared = self._open()
        info = members.get(path)
        if info is None:
            return "the file is missing"
        if path in shared:
            return "it shares its bytes with another member: refused as a decompression bomb"
        if info.flag_bits & 1:
            return ENCRYPTED
        if info.compress_type not in _READ:
            return f"compression method {info.compress_type} is not supported"
        if info.file_size > limit and not head:
            return f"{info.file_size:,} bytes are over the limit of {limit:,} bytes (max_image_bytes)"
        try:
            with archive.open(info) as member:
                data = member.read(limit if head else limit + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
            OSError,
        ) as error:
            if isinstance(error, ArchiveError):
                raise
            return "damaged in the zip"
        return data if head or len(data) <= limit else f"more bytes than the limit of {limit:,} bytes (max_image_bytes)"

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo], set[str]]:
        """The zip, its members by name, and the names of those that overlap.

        Raises
        ------
        ArchiveError
            If it is not a zip, or its list of members is damaged.
        """
        if self._opened is None:
            self._stream = self._open_file(self._file)
            try:
                archive = zipfile.ZipFile(self._stream)
                infos = archive.infolist()
            except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, UnicodeError):
                self._stream.close()
                raise ArchiveError(
                    f"{show_address(self._file)} is no zip, is one part of several (.z01, .001), or is damaged or cut short, as a download that "
                    "was broken off: get it again, or unpack what can be saved (zip -FF) and give the folder"
                ) from None
            if any(0 < info.volume < _IN_ZIP64 for info in infos):
                self._stream.close()
                raise ArchiveError(
                    f"{show_address(self._file)} is the last part of a split zip: join its parts (zip -s 0 {escape_name(self.root_name)}.zip "
                    "--out WHOLE.zip), and give the whole"
                )
            members = _named(infos)
            self._opened = archive, members, _overlapping(members)
        return self._opened


def _named(infos: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Members by name. A name that comes again is kept as another member, as NAME~2.EXT."""
    members: dict[str, zipfile.ZipInfo] = {}
    given: dict[str, int] = {}
    for info in infos:
        name = _name_of(info)
        name = name.replace("\\", "/") if "/" not in name else name
        at, unique = given.get(name, 1), name  # a zip may hold one name a million times
        while unique in members:
            at += 1
            stem, dot, ext = name.rpartition(".")
            unique = f"{stem}~{at}{dot}{ext}" if dot else f"{name}~{at}"
        given[name] = at
        members[unique] = info
    return members


_IN_ZIP64 = 0xFFFF
"""The number of a part, where it is written elsewhere."""
_UTF8 = 0x800
_UNICODE_PATH = 0x7075


def _name_of(info: zipfile.ZipInfo) -> str:
    """A member's name as it was meant: in UTF-8 also where the zip does not say so, as macOS and old tools write it.

    The name that some tools keep beside it (field 0x7075, after the zip format's appendix D.4.6) goes before; it holds the checksum of the
    name that it belongs to.
    """
    if info.flag_bits & _UTF8 or info.filename.isascii():
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    told = _unicode_path(info.extra, raw)
    try:
        return (raw if told is None else told).decode("utf-8")
    except UnicodeDecodeError:
        return info.filename


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """The name in a member's extra fields, where it belongs to the name in its header."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH and size > 5 and extra[5:9] == struct.pack("<I", zlib.crc32(raw)):
            return extra[9 : 4 + size]
        extra = extra[4 + size :]
    return None


def _overlapping(members: Mapping[str, zipfile.ZipInfo]) -> set[str]:
    """Names of members that begin before the one in front of them has ended."""
    order = sorted(members.items(), key=lambda item: item[1].header_offset)
    shared: set[str] = set()
    end, last = -1, ""
    for name, info in order:
        if info.is_dir():
            continue
        if info.header_offset < end:
            shared |= {name, last}
        after = info.header_offset + _LOCAL_HEADER + info.compress_size
        if after > end:
            end, last = after, name
    return shared


class ZipSource:
    """`ArchiveSource` over one zip or several, here or at addresses."""

    def __init__(self, files: Sequence[str], options: ArchiveOptions, *, location: str) -> None:
        self._location = show_address(location)
        self._options = options
        self._files = list(files)

    def identity(self) -> Mapping[str, str]:
        return {"layout": "zip", "location": self._location, **self._options.identity()}

    def shards(self) -> Iterator[Shard]:
        if len(self._files) > 1 and not any(self._holds_something(file) for file in self._files):
            raise self._no_images()
        ordinal = 0
        resolved: PromptFrom | None = None
        for number, file in enumerate(self._files):
            text = [show_address(file), *map(str, stamp_of(file)), str(number)]
            try:
                with self._tree(file, resolved) as tree:
                    resolved = tree.prompt_from()  # the first zip decides for all
                    shards = list(tree.shards())
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                shards = [Shard(id=f"000000-{_BROKEN}", ordinal=0, fingerprint="", payload=str(error).encode())]
            for shard in shards:
                yield Shard(
                    id=f"{ordinal:06d}-{number:06d}-{shard.id}",
                    ordinal=ordinal,
                    fingerprint=hashlib.sha256("\n".join([shard.fingerprint, *text]).encode()).hexdigest(),
                    images=shard.images,
                    payload=shard.payload,
                )
                ordinal += 1

    def _holds_something(self, file: str) -> bool:
        """Whether there are images in a zip, or it is damaged; either is a row."""
        try:
            with self._tree(file) as tree:
                tree.listing()
        except NoImagesError:
            return len(self._files) == 1  # a single one says itself what it holds
        except ArchiveError:
            pass
        return True

    def _no_images(self) -> NoImagesError:
        return NoImagesError(f"no images in {self._location}: none of its {len(self._files):,} zips holds any")

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        if not shard.payload:
            shard = find_shard(self, shard.id)
        _, number, inner, prompt_from = shard.id.split("-")
        file = self._files[int(number)]
        if prompt_from == _BROKEN:
            yield broken_item(shard, show_address(file), shard.payload.decode())
            return
        within = replace(shard, id=f"{inner}-{prompt_from}", ordinal=int(inner))
        # Indexes of the listing are unique within a zip, counted ones within a shard.
        base = INDEX_STRIDE * (int(number) if prompt_from == "folder" else shard.ordinal - int(inner))
        with self._tree(file) as tree:
            for item in tree.read(within):
                yield replace(item, image=replace(item.image, index=base + item.image.index)) if base else item

    def summary(self) -> ArchiveSummary:
        summaries: list[ArchiveSummary] = []
        found = Counted(self._options.spelling_book())
        notes: list[str] = []
        empty = 0
        for file in self._files[:SURVEYED]:
            try:
                with self._tree(file, book=found.book) as tree:
                    summaries.append(tree.summary())
                    found.per_prompt.update(tree.counted().per_prompt)
                    found.copies.update(tree.counted().copies)
                    notes += summaries[-1].notes
            except ArchiveError as error:
                if len(self._files) == 1:
                    raise
                notes.append(str(error))
                empty += isinstance(error, NoImagesError)
        if empty == len(self._files):
            raise self._no_images()
        complete = len(self._files) <= SURVEYED
        found.known = complete and all(summary.prompts is not None for summary in summaries)
        notes += found.book.notes()
        if not complete:
            notes.append(f"counted in the first {SURVEYED} zips alone; reading goes through all {len(self._files):,}")
        return ArchiveSummary(
            layout="zip",
            images=sum(summary.images or 0 for summary in summaries) if complete else None,
            prompts=len(found.per_prompt) if found.known else None,
            shards=max(len(self._files), sum(summary.shards for summary in summaries)),
            examples=tuple(example for summary in summaries for example in summary.examples)[:5],
            notes=tuple(dict.fromkeys(notes)),
            images_per_prompt=found.images_per_prompt,
            without_copies=found.without_copies,
            probed=dict(sum((Counter(summary.probed) for summary in summaries), Counter())),
        )

    def doubts(self) -> list[str]:
        """What a user should know before a run, of the first zips."""
        notes: list[str] = []
        for file in self._files[:SURVEYED]:
            with contextlib.suppress(ArchiveError), self._tree(file) as tree:
                notes += tree.doubts()
        return list(dict.fromkeys(notes))

    @contextlib.contextmanager
    def _tree(
        self, file: str, resolved: PromptFrom | None = None, book: SpellingBook | None = None
    ) -> Iterator[TreeSource]:
        """One zip as a tree, closed and forgotten after use: there may be thousands."""
        with contextlib.closing(ZipTree(file)) as tree:
            yield TreeSource(
                tree,
                self._options,
                location=show_address(file),
                layout="zip",
                resolved=resolved,
                book=book,
                alone=len(self._files) == 1,
            )
