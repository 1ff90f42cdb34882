"""What a whole listing says of its prompts: how many images each has, how they are spelled, and which images are copies of others."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from allfour.pipeline.archives.text import Prompt, SpellingBook
from allfour.pipeline.words import quantity

MAX_COMPARED = 200_000
"""Images that are compared by their sizes."""
MAX_CAPTIONS = 20_000
"""Caption files that a summary reads."""
_MAX_READ, _MAX_READ_BYTES = 256, 64 * 2**20
"""Images, and bytes of them, that are read to tell copies from images of the same size."""

Reader = Callable[[Sequence[tuple[str, int]]], Iterator[bytes | str]]
"""Contents of files, given as path and size, or the reasons why there are none."""


@dataclass(slots=True)
class Counted:
    """Prompts of all images of an archive."""

    book: SpellingBook
    known: bool = True
    """Whether prompts are known before the images are read."""
    per_prompt: Counter[str] = field(default_factory=Counter)
    """Images by prompt id."""
    copies: Counter[str] = field(default_factory=Counter)
    """By prompt id, images that are byte for byte copies of others of the prompt."""
    cut: set[str] = field(default_factory=set)
    """Ids of prompts that are too long for the tables."""
    lacking: int = 0
    """Samples without a prompt."""
    _seen: set[tuple[str, bytes]] = field(default_factory=set)
    _sized: list[tuple[str, int, str]] = field(default_factory=list)
    """Prompt id, size and path of images that may be copies of one another."""

    def count(self, prompt: Prompt | None, images: int = 1) -> None:
        """Take account of images of one prompt or of none."""
        if prompt is None:
            self.lacking += images
            return
        self.per_prompt[prompt.id] += images
        if prompt.cut_from is not None:
            self.cut.add(prompt.id)

    def add(self, prompt: Prompt | None, path: str, size: int) -> None:
        """As `count`, of one image whose path and size are known: those of one size may be copies."""
        self.count(prompt)
        if prompt is not None and size > 0 and len(self._sized) < MAX_COMPARED:
            self._sized.append((prompt.id, size, path))

    def compare(self, prompt: Prompt, content: bytes) -> None:
        """Take account of what an image of a prompt is; `content` may be a digest of it."""
        key = (prompt.id, content)
        self.copies[prompt.id] += key in self._seen
        self._seen.add(key)

    def look_for_copies(self, read: Reader) -> None:
        """Read images of one prompt and size, as far as that is soon done, and count those that are copies."""
        wanted: list[tuple[str, str, int]] = []
        total = 0
        sized: dict[tuple[str, int], list[str]] = {}
        for prompt, size, path in self._sized:
            sized.setdefault((prompt, size), []).append(path)
        for (prompt, size), paths in sized.items():
            if len(paths) < 2:
                continue
            total += size * len(paths)
            if len(wanted) + len(paths) > _MAX_READ or total > _MAX_READ_BYTES:
                break
            wanted += [(prompt, path, size) for path in paths]
        contents = read([(path, size) for _, path, size in wanted]) if wanted else iter(())
        for (prompt, _, _), content in zip(wanted, contents, strict=True):
            if isinstance(content, bytes):
                key = (prompt, hashlib.sha256(content).digest())
                self.copies[prompt] += key in self._seen
                self._seen.add(key)
        self._sized.clear()

    @property
    def images_per_prompt(self) -> Counter[int] | None:
        """So many images -> so many prompts that have them."""
        return Counter(self.per_prompt.values()) if self.known else None

    @property
    def without_copies(self) -> Counter[int] | None:
        """As `images_per_prompt`, of images that differ; None where no copies were found."""
        if not self.known or not self.copies.total():
            return None
        return Counter(count - self.copies[prompt] for prompt, count in self.per_prompt.items())


def copies_note(copies: Mapping[str, int]) -> list[str]:
    """What a source says of copies, given how many each prompt has."""
    number, prompts = sum(copies.values()), sum(count > 0 for count in copies.values())
    if not number:
        return []
    what = (
        "is a byte for byte copy of another image of its prompt"
        if number == 1
        else "are byte for byte copies of other images of their prompt"
    )
    return [
        f"{quantity(number, 'image')} {what}, in {quantity(prompts, 'prompt')}: sets that copies fill say no more than one image does"
    ]
