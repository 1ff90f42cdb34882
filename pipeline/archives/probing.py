"""A look at some images of an archive before it is read: what their own metadata say, and whether they are copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from allfour.pipeline.archives.decoding import UnreadableImage, decode, sniff_format
from allfour.pipeline.archives.metadata import find_prompt
from allfour.pipeline.archives.seams import find_grid
from allfour.pipeline.archives.text import PromptBook, clean_text, escape_name
from allfour.pipeline.words import quantity

PROBED = 20
"""Images that are looked at."""
EXAMPLES = 5
_RUN = 4
"""Images looked at that follow on one another."""
_SEARCHED = 2
"""Images looked at for seams, each the first of a run; all of them once one has some."""
_MAX_DECODED_BYTES = 2 * 2**20
"""Larger files are not decoded for a look."""
_REDUCED = 256
"""Pixels of the shortest side that suffice for that."""


@dataclass(slots=True)
class Probe:
    """What the images say that were looked at."""

    images: int = 0
    unread: int = 0
    in_metadata: int = 0
    copies: int = 0
    example: str | None = None
    """A prompt that one of them holds."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """Prompts, in the way that the archive is read, with where."""
    ids: set[str] = field(default_factory=set)
    likely_grids: int = 0
    searched: int = 0
    """Images that were looked at for seams."""
    missing: int = 0
    faults: list[str] = field(default_factory=list)
    """Why images cannot be read, of those that were looked at."""
    _seen: set[bytes] = field(default_factory=set)

    def look(self, data: bytes | None, *, missing: bool = False) -> str | None:
        """Take account of one image; returns the prompt in its metadata."""
        self.images += 1
        if data is None:
            self.unread += 1
            self.missing += missing
            return None
        if (why := _fault(data)) is not None:
            self.faults.append(why)
        if (self.images % _RUN == 1 and self.searched < _SEARCHED) or self.likely_grids:
            self.searched += 1
            self.likely_grids += _is_grid(data)
        digest = hashlib.sha256(data).digest()
        self.copies += digest in self._seen
        self._seen.add(digest)
        text = find_prompt(data).text
        if text is not None:
            self.in_metadata += 1
            self.example = self.example or clean_text(text)
        return text

    def take(self, text: str | None, path: str, book: PromptBook, *, is_name: bool = False) -> None:
        """Take account of the prompt that an image is read with."""
        if text is None:
            return
        prompt = book.from_name(text) if is_name else book.from_text(text)
        self.take_prompt(prompt.id, prompt.text, path)

    def take_prompt(self, id_: str, text: str, path: str) -> None:
        """As `take`, of an image that was read."""
        if id_ not in self.ids or len(self.found) < EXAMPLES:
            self.found.append((text, path))
        self.ids.add(id_)

    @property
    def examples(self) -> tuple[str, ...]:
        """`prompt <- path`, different prompts first."""
        first: dict[str, str] = {}
        for text, path in self.found:
            first.setdefault(text, path)
        chosen = list(first.items()) + [pair for pair in self.found if first[pair[0]] != pair[1]]
        return tuple(f"{text} <- {path}" for text, path in chosen[:EXAMPLES])

    def numbers(self, with_prompt: int, missing: int | None = None) -> dict[str, int]:
        """For a summary; `missing` is how many files are not there of the whole archive, where that is known."""
        return {
            "images": self.images,
            "with_prompt": with_prompt,
            "distinct": len(self.ids),
            "in_metadata": self.in_metadata,
            "copies": self.copies,
            "likely_grids": self.likely_grids,
            "missing": self.missing if missing is None else missing,
        }

    def fault_notes(self) -> list[str]:
        """A word on images that were looked at and cannot be read."""
        if not self.faults:
            return []
        count = len(self.faults)
        such = "" if len(set(self.faults)) == 1 else "such as "
        return [
            f"{count} of the {self.images} images looked at cannot be read ({such}{self.faults[0]}): rows with an error, which are not scored"
        ]

    def notes(self) -> list[str]:
        """What a user should know of the images, however they are read."""
        notes = []
        if self.copies:
            notes.append(
                f"{self.copies} of the {self.images} images looked at are byte for byte copies of others among them: copies fill sets "
                "without saying more than one image does"
            )
        return notes


def _fault(data: bytes) -> str | None:
    """Why an image cannot be read; of a large one only what its first bytes say."""
    if len(data) > _MAX_DECODED_BYTES and sniff_format(data) is not None:
        return None
    try:
        decode(data, reduce_to=_REDUCED)
    except UnreadableImage as error:
        return str(error)
    return None


def _is_grid(data: bytes) -> bool:
    try:
        return find_grid(decode(data, reduce_to=_REDUCED)) is not None
    except UnreadableImage:
        return False


def lone_note(count: int, example: str) -> str:
    """What a source says of captions whose images are missing."""
    has = "has no image beside it" if count == 1 else "have no image beside them"
    return (
        f"{quantity(count, 'caption file')} {has}, such as {escape_name(example)}: what it was written for is missing"
    )


def reach_note(what: str, count: str, example: str | None, taken: str, option: str) -> str:
    """What a source says where prompts are in reach and it reads names."""
    such = f", such as {example[:80]!r}" if example else ""
    return f"{count} {what}{such}; prompts are taken from {taken}. {option}"


def spread(total: int, wanted: int = PROBED) -> Iterable[int]:
    """Positions spread over a listing: runs of four, as sets are."""
    if total <= wanted:
        return range(total)
    runs = wanted // _RUN
    return sorted(
        {
            start + step
            for run in range(runs)
            for start in [run * (total - _RUN) // max(1, runs - 1)]
            for step in range(_RUN)
        }
    )
