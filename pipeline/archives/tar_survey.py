"""What the headers (and captions) of tars say before their images are read."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from allfour.pipeline.archives.beside_rows import is_customary
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS
from allfour.pipeline.archives.counting import Counted
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.kinds import Kind, extension, kind_of
from allfour.pipeline.archives.naming import is_download_name, may_be_caption, names_no_prompt
from allfour.pipeline.archives.remote import open_binary, show_address
from allfour.pipeline.archives.tar_aside import Judge, is_table
from allfour.pipeline.archives.tar_names import caption_of, folder_of, keep_caption, key_of
from allfour.pipeline.archives.tar_opening import open_tar, plain_and_here
from allfour.pipeline.archives.tar_stream import BrokenTarError, TarMember, TarStream
from allfour.pipeline.archives.text import Prompt, SpellingBook, escape_name

MAX_CAPTION_BYTES = 2**20
MAX_MEMBERS = 100_000
_MAX_STREAMED = 1_000
"""Members that are looked at of a tar that cannot be stepped through."""
EXAMPLES = 5


class Seen(NamedTuple):
    """An image by its header."""

    name: str
    size: int
    caption: str | None
    start: int
    """Where its bytes begin in the tar, where that can be stepped through; else -1."""
    digest: bytes | None
    """Of its bytes, where these pass by in any case."""


@dataclass(slots=True)
class Survey:
    """What tars say, one after the other."""

    book: SpellingBook
    max_image_bytes: int
    images: int = 0
    in_folders: int = 0
    by_stem: int = 0
    """Images whose prompt is the tar's own name."""
    captioned: int = 0
    complete: bool = True
    damaged: int = 0
    """Tars that could not be read on."""
    counted: Counted = field(init=False)
    examples: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    aside: int = 0
    """Images that are no samples."""
    downloads: int = 0
    """Images named as DALL-E's site names downloads."""
    tables: list[str] = field(default_factory=list)
    """Members that may be tables of prompts."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Of the images that were seen in each tar."""
    lone_captions: list[str] = field(default_factory=list)
    """Captions without an image of their key."""
    captions: dict[str, bytes] = field(default_factory=dict)
    """Those of the last tar that could be stepped through."""

    def __post_init__(self) -> None:
        self.counted = Counted(self.book)

    def look(self, file: str, *, images: int | None = None) -> list[Seen]:
        """Go through a tar's headers, until the budget ends or, where it cannot be stepped through, so many images are seen."""
        here = plain_and_here(file)
        budget = MAX_MEMBERS if here else _MAX_STREAMED
        looked = _Looked(self, here)
        try:
            with open_tar(file, by_seek=here) as stream:
                for number, member in enumerate(stream):
                    if number >= budget or (images is not None and not here and len(looked.found) > images):
                        self.complete = False
                        break
                    looked.take(stream, member)
                else:
                    stream.check_end()
        except BrokenTarError as error:
            self.damaged += 1
            self.notes[f"tars that are damaged, such as {show_address(file)} ({error})"] += 1
        looked.settle()
        self.captions = looked.captions if here else {}
        if self.complete:
            keys = {key_of(each.name) for each in looked.found}
            lone = {key for key, base in looked.keys.items() if key not in keys and may_be_caption(base)}
            self.lone_captions += sorted(lone)
        return looked.found

    def judge(self, file: str, found: Sequence[Seen], judge: Judge, prompt: Callable[[Seen], Prompt | None]) -> None:
        """Take account of images by their prompts, those aside that are no samples."""
        keys = Counter(key_of(name) for name in {each.name for each in found})
        if several := sum(count for count in keys.values() if count > 1):
            self.notes["images share their key (the name up to its first dot) with others: all of them are read"] += (
                several
            )
        if doubles := len(found) - len({each.name for each in found}):
            self.notes["images of a name that an earlier one in the tar has: both are read"] += doubles
        for each in found:
            self.images += 1
            if (what := judge(each.name)) is not None:
                self.notes[f"without a prompt, not scored: {what}"] += 1
                self.aside += 1
                continue
            folder = folder_of(each.name)
            self.captioned += each.caption is not None
            self.downloads += is_download_name(each.name.rpartition("/")[2])
            self.in_folders += bool(folder) and not names_no_prompt(folder)
            self._count(file, each, prompt(each))

    def _count(self, file: str, image: Seen, prompt: Prompt | None) -> None:
        if prompt is not None and prompt.id not in self.counted.per_prompt and len(self.examples) < EXAMPLES:
            self.examples.append(f"{prompt.text} <- {show_address(file)}::{escape_name(image.name)}")
        self.counted.add(prompt, f"{image.start} {file}", image.size if image.start >= 0 else -1)
        if prompt is not None and image.digest is not None:
            self.counted.compare(prompt, image.digest)

    def look_for_copies(self, limit: int) -> None:
        """Read images of one prompt and size in tars that can be stepped through, and count those that are copies."""
        self.counted.look_for_copies(lambda images: _contents(images, limit))


class _Looked:
    """One tar as it is gone through."""

    def __init__(self, survey: Survey, here: bool) -> None:
        self._survey = survey
        self._here = here
        self._key = ""
        self._waiting: list[tuple[TarMember, int, bytes | None]] = []
        self.found: list[Seen] = []
        self.captions: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        """Keys of captions, and what these are called."""

    def take(self, stream: TarStream, member: TarMember) -> None:
        if not self._here and key_of(member.name) != self._key:
            self._key = key_of(member.name)
            self.settle()
            self.captions = {}
        base = member.name.rpartition("/")[2]
        kind = kind_of(base)
        if kind is Kind.IMAGE and not member.name.endswith("/"):
            self._waiting.append((member, stream.offset if self._here else -1, None))
            if not self._here and 0 < member.size <= self._survey.max_image_bytes:
                self._waiting[-1] = (member, -1, hashlib.sha256(stream.read()).digest())
        elif kind is Kind.UNKNOWN and member.regular and member.size:
            if sniff_format(stream.read() if member.size <= self._survey.max_image_bytes else b""):
                self._waiting.append((member, -1, None))
        elif kind is Kind.HIDDEN:
            if member.regular:
                self._survey.notes["hidden or system files, not taken for images"] += 1
        elif is_customary(base) or (is_table(base) and extension(base) not in CAPTION_EXTENSIONS):
            self._survey.tables.append(member.name)
        elif extension(base) in CAPTION_EXTENSIONS and member.size <= MAX_CAPTION_BYTES:
            keep_caption(self.captions, member.name, stream.read())
            self.keys[key_of(member.name)] = base
        elif member.regular:
            self._survey.notes[f".{escape_name(extension(base))[:20]} files, not taken for images"] += 1

    def settle(self) -> None:
        """Give images that wait for it their caption."""
        self.found += [
            Seen(member.name, member.size, caption_of(member.name, self.captions)[0], start, digest)
            for member, start, digest in self._waiting
        ]
        self._waiting.clear()


def _contents(images: Sequence[tuple[str, int]], limit: int) -> Iterator[bytes | str]:
    """Contents of members, given as `START FILE` and size, of tars that can be stepped through."""
    with contextlib.ExitStack() as stack:
        opened: dict[str, BinaryIO] = {}
        for place, size in images:
            start, _, file = place.partition(" ")
            if file not in opened:
                opened[file] = stack.enter_context(open_binary(file))
            opened[file].seek(int(start))
            yield opened[file].read(size) if size <= limit else "not read"
