"""Tar shards, as WebDataset lays them out: an image and its caption share a key, one tar is one shard.

Tars are streamed: nothing but the images of one key is held. Captions may stand before or after their image. In a plain
tar on this machine they may stand anywhere; in a compressed or remote one they must be next to it, as WebDataset writes
them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import (
    INDEX_STRIDE,
    NO_PROMPT_ID,
    ArchivedImage,
    ArchiveItem,
    ArchiveSummary,
    NoImagesError,
    Shard,
)
from allfour.pipeline.archives.beside import Beside
from allfour.pipeline.archives.beside_rows import is_customary
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS
from allfour.pipeline.archives.counting import copies_note
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.kinds import Kind, extension, kind_of
from allfour.pipeline.archives.metadata import LACKING, find_prompt, prompt_in_image
from allfour.pipeline.archives.named_table import named_table
from allfour.pipeline.archives.naming import names_no_prompt, prompt_in_name
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.probing import PROBED, lone_note
from allfour.pipeline.archives.remote import scheme_of, show_address, stamp_of
from allfour.pipeline.archives.tar_aside import Aside, images_inside, tables_inside
from allfour.pipeline.archives.tar_names import caption_of, folder_of, keep_caption, key_of, stem_of
from allfour.pipeline.archives.tar_opening import ReportedError, open_tar, plain_and_here
from allfour.pipeline.archives.tar_stream import BrokenTarError, TarMember, TarStream
from allfour.pipeline.archives.tar_survey import MAX_CAPTION_BYTES, Seen, Survey
from allfour.pipeline.archives.text import Prompt, PromptBook, clean_text, cut_note, escape_name
from allfour.pipeline.archives.tree_reading import metadata_note, prompt_in_path

MAX_KEY_IMAGES = 64
MAX_KEY_BYTES = 2**29
"""Images of one key that are held while its caption is awaited; a caption behind more than these is not theirs."""

_PROBED_TARS = 3
_PROBED_IMAGES = 50


@dataclass(slots=True)
class _Key:
    """What a tar holds of one key."""

    name: str = ""
    images: list[tuple[str, bytes | None, str | None]] = field(default_factory=list)
    """Member name, its bytes or the reason why there are none. A nameless one stands for what is lost."""
    captions: dict[str, bytes] = field(default_factory=dict)

    def bytes_kept(self) -> int:
        return sum(len(data) for _, data, _ in self.images if data is not None)


class TarSource:
    """`ArchiveSource` over tars (.tar, .tar.gz), here or at addresses."""

    def __init__(self, files: Sequence[str], options: ArchiveOptions, *, location: str) -> None:
        inside = options.prompt_from == "table" and options.prompt_table is None
        if options.prompt_from == "column" or (inside and scheme_of(files[0]) is not None):
            where = "tars" if options.prompt_from == "column" else "tars at an address: fetch them first"
            raise ArchiveError(
                f"{show_address(location)}: prompt_from: {options.prompt_from} is not for {where}; take caption, folder, metadata, name or path"
            )
        self._files = list(files)
        self._options = options
        self._location = show_address(location)
        self._prompt_from: str | None = None
        self._aside = Aside(self._files, cuts=options.cuts)
        self._tables: tuple[str, Beside] | None = None
        self._surveyed: dict[str, dict[str, bytes]] = {}
        """Captions of tars that a summary went through, for whoever reads them next."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_surveyed": {}, "_tables": None}

    def identity(self) -> Mapping[str, str]:
        return {"layout": "tar", "location": self._location, **self._options.identity()}

    def prompt_from(self) -> str:
        """Where prompts come from, with auto resolved by the first images of the first tar that has any.

        Raises
        ------
        ArchiveError
            If none of the first tars holds an image, or nothing names the prompts of many tars.
        """
        if self._prompt_from is None:
            chosen = self._options.prompt_from
            self._prompt_from = self._probe(None if chosen == "auto" else str(chosen))
        return self._prompt_from

    def shards(self) -> Iterator[Shard]:
        prompt_from = self.prompt_from()
        workers = 16 if scheme_of(self._files[0]) else 1
        with ThreadPoolExecutor(max_workers=workers) as pool:
            for ordinal, (size, stamp) in enumerate(pool.map(stamp_of, self._files)):
                shown = show_address(self._files[ordinal])
                name = hashlib.sha256(shown.encode()).hexdigest()[:8]
                text = "\n".join([shown, str(size), stamp, str(ordinal), prompt_from, self._options.salt()])
                yield Shard(
                    id=f"{ordinal:06d}-{name}-{prompt_from}",
                    ordinal=ordinal,
                    fingerprint=hashlib.sha256(text.encode()).hexdigest(),
                )

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        file = self._files[shard.ordinal]
        prompt_from = shard.id.rpartition("-")[2]
        counted: Counter[str] = Counter()
        for name, data, error, prompt, fields in self._rows(file, prompt_from):
            number = shard.ordinal * INDEX_STRIDE + counted[prompt.id]
            counted[prompt.id] += 1
            extra = dict(fields)
            seed = extra.get("seed", "")
            image = ArchivedImage(
                prompt_id=prompt.id,
                prompt=prompt.text,
                index=number,
                path=f"{show_address(file)}::{escape_name(name)}",
                group=prompt.group or (extra.pop("group", None) if prompt_from == "path" else None),
                seed=int(extra.pop("seed")) if seed.isascii() and seed.isdigit() and len(seed) <= 18 else None,
                extra=prompt.with_cut({clean_text(key): clean_text(value) for key, value in extra.items()}),
            )
            yield ArchiveItem(image, data, error)

    def summary(self) -> ArchiveSummary:
        prompt_from = self.prompt_from()
        survey = Survey(self._options.spelling_book(), self._options.max_image_bytes)
        for file in self._files:
            self._survey(file, prompt_from, survey)
            if not survey.complete:
                break
        counted = survey.counted
        counted.known = survey.complete and prompt_from != "metadata"
        survey.look_for_copies(self._options.max_image_bytes)
        where = "the tables inside" if self._options.prompt_table is None else "archive.prompt_table"
        what = {"name": "file name", "table": f"row in {where}"}.get(prompt_from, prompt_from)
        notes = [f"prompts are taken from each image's {what}", *self._lacking(survey, prompt_from)]
        if prompt_from == "metadata":
            notes += self._probed_metadata()
        if counted.cut:
            notes.append(cut_note(len(counted.cut)))
        notes += counted.book.notes()
        notes += [f"{count:,} {what}" for what, count in sorted(survey.notes.items())]
        notes += copies_note(counted.copies)
        if not survey.complete:
            notes.append(f"counted in the first members alone: {survey.images:,} images; reading goes through all")
        missing = self._missing(survey, prompt_from)
        return ArchiveSummary(
            layout="tar",
            images=survey.images if survey.complete else None,
            prompts=len(counted.per_prompt) if counted.known else None,
            shards=len(self._files),
            examples=tuple(survey.examples),
            notes=(*notes, *self.doubts()),
            images_per_prompt=counted.images_per_prompt,
            without_copies=counted.without_copies,
            probed={"missing": missing} if missing else {},
        )

    def doubts(self) -> list[str]:
        """What a user should know before a run: images that img2dataset could not download."""
        accounts = Beside()
        for file in self._files:
            if scheme_of(file) is None and file.endswith(".tar"):
                content = read_file(f"{file.removesuffix('.tar')}_stats.json", limit=MAX_CAPTION_BYTES)
                accounts.take("", "_stats.json", content if isinstance(content, bytes) else b"")
        return accounts.failed()

    def _lacking(self, survey: Survey, prompt_from: str) -> list[str]:
        """Images without a prompt, captions without an image, and tables that are not taken."""
        notes = []
        if prompt_from == "caption" and (lacking := survey.images - survey.aside - survey.captioned):
            notes.append(
                f"{lacking:,} of {survey.images:,} images have no caption of their key: rows without a prompt, which are not scored"
            )
        if prompt_from == "caption" and (lone := survey.lone_captions):
            notes.append(lone_note(len(lone), lone[0]))
        if survey.by_stem:
            notes.append(
                f"nothing inside says what {survey.by_stem:,} images were made for: the tar's own name is taken for their prompt; numbers of "
                "classes (.cls) are no prompts"
            )
        if prompt_from == "table":
            if lacking := survey.counted.lacking:
                notes.append(
                    f"{lacking:,} of {survey.images:,} images are in no table inside: rows without a prompt, which are not scored"
                )
            for file in self._files[:_PROBED_TARS]:
                notes += self._beside(file).notes(survey.names.get(file, ()))
        elif survey.tables:
            notes += self._not_taken(survey)
        return notes

    def _not_taken(self, survey: Survey) -> list[str]:
        """A word on tables inside that prompts are not taken from."""
        if scheme_of(self._files[0]) is None:
            tables, how = self._beside(self._files[0]), "prompt_from: table takes them"
            if not tables.tables:
                return tables.unread_notes(0)
            name = tables.tables[0]
        else:
            name = next(filter(is_customary, (each.rpartition("/")[2] for each in survey.tables)), "")
            how = "fetch the tar, and prompt_from: table takes them"
        said = f"{escape_name(name)} inside may say the prompts of images; they are taken from elsewhere. {how}"
        return [said] if name else []

    def _missing(self, survey: Survey, prompt_from: str) -> int:
        """How many images are named by what says the prompts, and are not there."""
        if prompt_from == "table":
            return sum(len(self._beside(file).missing(names)) for file, names in survey.names.items())
        return len(survey.lone_captions) if prompt_from == "caption" else 0

    def _beside(self, file: str) -> Beside:
        """The tables in a tar; those of the last one asked for are kept."""
        if self._options.prompt_table is not None:
            if self._tables is None:  # how names bear its keys is one question for all tars
                names = [name for each in self._files[:_PROBED_TARS] for name in images_inside(each)]
                self._tables = (self._files[0], named_table(self._options, names))
        elif self._tables is None or self._tables[0] != file:
            self._tables = (file, tables_inside(file))
        return self._tables[1]

    def _probed_metadata(self) -> list[str]:
        """What the metadata of the first tar's first images say."""
        found: list[bool] = []
        with contextlib.closing(self._keys(self._files[0], hold=False)) as keys:
            for key in itertools.islice(keys, PROBED):
                found += [data is not None and prompt_in_image(data) is not None for _, data, _ in key.images]
        return metadata_note(found.count(False), len(found))

    # --- reading -----------------------------------------------------------------------------------------------------

    def _rows(
        self, file: str, prompt_from: str
    ) -> Iterator[tuple[str, bytes | None, str | None, Prompt, dict[str, str]]]:
        """Every image of a tar: name, bytes or reason, prompt, further fields."""
        book = self._options.book()
        captions = self._captions_anywhere(file) if prompt_from == "caption" else {}
        judge = self._aside.judge(file)
        for key in self._keys(file, hold=prompt_from == "caption" and captions is None):
            for name, data, error in key.images:
                if name and (what := judge(name)) is not None:
                    yield name, None, error or f"no prompt: {what}", Prompt(NO_PROMPT_ID, ""), {}
                    continue
                found, extra, lacks = self._prompt(
                    book, (name, data), prompt_from, file, key.captions if captions is None else captions
                )
                if found is not None:
                    yield name, data, error, found, extra
                else:
                    reason = error or f"no prompt: {lacks}"
                    yield name, None, reason, Prompt(NO_PROMPT_ID, ""), {}

    def _prompt(
        self,
        book: PromptBook,
        image: tuple[str, bytes | None],
        prompt_from: str,
        file: str,
        captions: Mapping[str, bytes],
    ) -> tuple[Prompt | None, dict[str, str], str | None]:
        """The prompt of an image, further fields, and what it lacks where there is none."""
        name, data = image
        text: str | None = None
        extra: dict[str, str] = {}
        lacks: str | None = _MISSING.get(prompt_from)
        if prompt_from == "folder":
            return (self._named(book, name, file) if name else None), {}, lacks
        if prompt_from in ("name", "path"):
            text, extra, lacks = (
                (prompt_in_name(name.rpartition("/")[2]), {}, lacks)
                if prompt_from == "name"
                else prompt_in_path(name, self._options.path_pattern or "")
            )
            return (book.from_name(text) if text else None), extra, lacks
        if prompt_from == "metadata" and data is not None:
            seen = find_prompt(data)
            text, lacks = seen.text, seen.lacks or lacks
        elif prompt_from == "caption":
            text, extra = caption_of(name, captions)
        elif prompt_from == "table":
            text = self._beside(file).prompt(name)
        return (book.from_text(text) if text else None), extra, lacks

    def _named(self, book: PromptBook, name: str, file: str) -> Prompt | None:
        """The prompt that a member's folder names, or the tar itself; None for names that are none, unless they were asked for."""
        folder = folder_of(name) or stem_of(file)
        if self._options.prompt_from == "auto" and names_no_prompt(folder) and not book.knows(folder):
            return None
        return book.from_name(folder)

    def _keys(self, file: str, *, hold: bool) -> Generator[_Key]:
        """Images in the tar's order, each with the captions of its key where they are held for."""
        key = _Key()
        try:
            with open_tar(file) as stream:
                for member in stream:
                    name = key_of(member.name)
                    if name != key.name or len(key.images) >= MAX_KEY_IMAGES or key.bytes_kept() > MAX_KEY_BYTES:
                        if key.images:
                            yield key
                        key = _Key(name)
                    self._take(stream, member, key, captions=hold)
                    if not hold and key.images:
                        yield key
                        key = _Key(name)
                stream.check_end()
        except BrokenTarError as error:
            # A row that stands for all that is lost behind it, so that nothing is lost in silence.
            key.images.append(("", None, f"{error}; nothing behind this can be read"))
        if key.images:
            yield key

    def _take(self, stream: TarStream, member: TarMember, key: _Key, *, captions: bool) -> None:
        base = member.name.rpartition("/")[2]
        kind = kind_of(base)
        limit = self._options.max_image_bytes
        if not member.regular:
            if kind is Kind.IMAGE and not member.name.endswith("/"):
                key.images.append((member.name, None, "a link or special file in the tar, not followed"))
        elif kind is Kind.IMAGE and member.size > limit:
            error = f"{member.size:,} bytes are over the limit of {limit:,} bytes (max_image_bytes)"
            key.images.append((member.name, None, error))
        elif kind is Kind.IMAGE:
            try:
                key.images.append((member.name, stream.read(), None))
            except BrokenTarError as error:
                key.images.append((member.name, None, f"{error} inside this image; nothing behind it can be read"))
                raise ReportedError from None
        elif kind is Kind.UNKNOWN and 0 < member.size <= limit:
            data = stream.read()
            if sniff_format(data):
                key.images.append((member.name, data, None))
        elif captions and extension(base) in CAPTION_EXTENSIONS and member.size <= MAX_CAPTION_BYTES:
            keep_caption(key.captions, member.name, stream.read())

    def _captions_anywhere(self, file: str) -> dict[str, bytes] | None:
        """All captions of a plain tar on this machine, by a pass over its headers; None for any other."""
        if not plain_and_here(file):
            return None
        if (known := self._surveyed.pop(file, None)) is not None:
            return known
        captions: dict[str, bytes] = {}
        with contextlib.suppress(BrokenTarError), open_tar(file, by_seek=True) as stream:
            for member in stream:
                if member.regular and extension(member.name) in CAPTION_EXTENSIONS and member.size <= MAX_CAPTION_BYTES:
                    keep_caption(captions, member.name, stream.read())
        return captions

    # --- looking ahead -----------------------------------------------------------------------------------------------

    def _probe(self, chosen: str | None) -> str:
        survey = Survey(self._options.spelling_book(), self._options.max_image_bytes)
        for file in self._files[:_PROBED_TARS]:
            self._survey(file, "caption", survey, images=_PROBED_IMAGES)
            if survey.images:
                break
        seen_all = survey.complete and len(self._files) <= _PROBED_TARS
        if chosen is not None and (survey.images or survey.damaged or not seen_all):
            return chosen  # what cannot be read there is a row
        if not survey.images:
            seen = "; ".join(f"{count:,} {what}" for what, count in survey.notes.items()) or "empty"
            where = self._location if len(self._files) <= _PROBED_TARS else f"the first tars of {self._location}"
            raise NoImagesError(f"no images in {where} ({seen})")
        told = survey.tables or survey.lone_captions
        if told and scheme_of(file) is None and 2 * survey.captioned < survey.images:
            beside = self._beside(file)
            names = survey.names[file][:_PROBED_IMAGES]
            if 2 * sum(beside.prompt(name) is not None for name in names) >= len(names):
                return "table"
        if survey.captioned and (2 * survey.captioned >= survey.images or 2 * survey.in_folders < survey.images):
            return "caption"
        if 2 * survey.downloads > survey.images:
            return "name"
        if 2 * survey.in_folders >= survey.images:
            return "folder"
        for key in self._keys(file, hold=False):
            data = key.images[0][1]
            if data is not None and prompt_in_image(data):
                return "metadata"
            break
        if len(self._files) == 1 and not names_no_prompt(stem_of(file)):
            return "folder"  # the tar's own name
        raise ArchiveError(
            f"nothing in {self._location} says which prompt an image was made for: no caption files, folders or "
            "metadata. Set prompt_from: folder to take each tar's own name"
        )

    def _survey(self, file: str, prompt_from: str, survey: Survey, *, images: int | None = None) -> None:
        """Add what a tar's headers and captions say; `images` alone are judged for a probe."""
        found = survey.look(file, images=images)
        if images is not None or prompt_from == "table":
            survey.names[file] = [each.name for each in found]
        if images is not None:
            survey.judge(file, found[:images], lambda name: None, lambda each: None)
            return
        if file == self._files[0]:
            self._surveyed = {file: survey.captions} if survey.captions else {}
        judge = self._aside.judge(file)

        def prompt(each: Seen) -> Prompt | None:
            if prompt_from == "metadata":
                return None
            if prompt_from == "caption":
                return survey.book.from_text(each.caption) if each.caption else None
            survey.by_stem += prompt_from == "folder" and not folder_of(each.name)
            return self._prompt(survey.book, (each.name, None), prompt_from, file, {})[0]

        survey.judge(file, found, judge, prompt)


_MISSING = {
    "folder": "the folder's name is none (archive.prompt_from: folder takes it for one)",
    "caption": "no caption (.txt, .caption or .json) of its key",
    "metadata": LACKING,
    "name": "its name holds none",
    "table": "no table inside has its prompt",
}
