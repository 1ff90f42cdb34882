"""Images in a tree of files: a folder here, a prefix in an object store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS, caption_in_file
from allfour.pipeline.archives.listing import (
    ChunkPart,
    Listing,
    Tree,
    chunk_of,
    cut,
    list_tree,
    prompt_name,
    shard_of,
)
from allfour.pipeline.archives.metadata import LACKING, find_prompt, prompt_in_image
from allfour.pipeline.archives.options import ArchiveOptions, PromptFrom
from allfour.pipeline.archives.text import Prompt, alike_note

EXAMPLES = 5
PROBED = 20
"""Images whose metadata a summary looks at."""


class TreeSource:
    """`ArchiveSource` over one `Tree`. Prompts are the names of the folders, or captions, or metadata."""

    def __init__(self, tree: Tree, options: ArchiveOptions, *, location: str, layout: str = "folder") -> None:
        if options.prompt_from == "column":
            raise ArchiveError(f"{location}: files have no columns; take prompt_from: folder, caption or metadata")
        self._tree = tree
        self._options = options
        self._location = location
        self._layout = layout
        self._listing: Listing | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_listing": None}

    def identity(self) -> Mapping[str, str]:
        return {"layout": self._layout, "location": self._location, **self._options.identity()}

    def listing(self) -> Listing:
        """The whole listing, made once per process.

        Raises:
            ArchiveError: when the root cannot be listed or holds no image.
        """
        if self._listing is None:
            listing = list_tree(self._tree, self._options.book())
            if not listing.images:
                seen = "; ".join(listing.notes) or "it is empty"
                raise NoImagesError(
                    f"no images in {self._location} ({seen}). Expected PROMPT/INDEX.png or any depth of folders, "
                    "with the prompt taken from the folder that an image lies in"
                )
            self._listing = listing
        return self._listing

    def prompt_from(self) -> PromptFrom:
        """Where prompts come from, with auto resolved; needs the listing."""
        if self._options.prompt_from != "auto":
            return self._options.prompt_from
        listing = self.listing()
        return "caption" if listing.flat and listing.captioned == listing.images else "folder"

    def shards(self) -> Iterator[Shard]:
        prompt_from = self.prompt_from()
        for ordinal, piece in enumerate(cut(self.listing(), self._options.shard_size)):
            salt = f"{prompt_from}\n{self._options.salt()}"
            yield shard_of(piece, id_=shard_id(ordinal, prompt_from), ordinal=ordinal, salt=salt)

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        if not shard.payload:
            shard = find_shard(self, shard.id)
        prompt_from = shard.id.partition("-")[2]
        base = shard.ordinal * INDEX_STRIDE
        yield from read_chunk(self._tree, chunk_of(shard), self._options, prompt_from=prompt_from, base=base)

    def summary(self) -> ArchiveSummary:
        listing = self.listing()
        prompt_from = self.prompt_from()
        notes = list(listing.notes)
        by_folder = prompt_from == "folder"
        if by_folder and (alike := alike_note(self._prompts(listing))):
            notes.append(alike)
        if by_folder and listing.captioned:
            notes.append(
                f"{listing.captioned:,} images have a caption file beside them; prompts are taken from the folders. "
                "prompt_from: caption takes them from the captions"
            )
        if not by_folder:
            notes.append(f"prompts are taken from each image's {prompt_from}, and counted when it is read")
        if prompt_from == "caption" and (lacking := listing.images - listing.captioned):
            notes.append(
                f"{lacking:,} of {listing.images:,} images have no caption file beside them: rows without a prompt, which are not scored"
            )
        if prompt_from == "metadata":
            notes += self._probed(listing)
        histogram = Counter(listing.images_per_prompt.values()) if by_folder else None
        return ArchiveSummary(
            layout=self._layout,
            images=listing.images,
            prompts=len(listing.images_per_prompt) if by_folder else None,
            shards=-(-listing.images // self._options.shard_size),
            examples=tuple(self._examples(listing)) if by_folder else (),
            notes=tuple(notes),
            images_per_prompt=histogram,
        )

    def _prompts(self, listing: Listing) -> Iterator[Prompt]:
        book = self._options.book()
        for name in dict.fromkeys(prompt_name(part.path, self._tree.root_name) for part in listing.directories):
            yield book.from_name(name)

    def _probed(self, listing: Listing) -> list[str]:
        """What the metadata of the first images say."""
        first = [
            (part.join(name), size)
            for part in listing.directories[:PROBED]
            for name, size in zip(part.names[:PROBED], part.sizes, strict=False)
        ][:PROBED]
        contents = self._tree.read_all(first, limit=self._options.max_image_bytes)
        found = [isinstance(content, bytes) and prompt_in_image(content) is not None for content in contents]
        return metadata_note(found.count(False), len(found))

    def _examples(self, listing: Listing) -> Iterator[str]:
        book = self._options.book()
        for directory in listing.directories[:EXAMPLES]:
            prompt = book.from_name(prompt_name(directory.path, self._tree.root_name))
            yield f"{prompt.text} <- {self._tree.show(directory.join(directory.names[0]))}"


def metadata_note(lacking: int, seen: int) -> list[str]:
    """What a summary says where images that were looked at have no prompt in their metadata."""
    if not lacking:
        return []
    return [
        f"{lacking} of the first {seen} images have no prompt in their metadata: rows without a prompt, which are not scored"
    ]


def broken_item(shard: Shard, path: str, error: str) -> ArchiveItem:
    """The row that stands for a container, or the rest of one, that cannot be read."""
    image = ArchivedImage(prompt_id=NO_PROMPT_ID, prompt="", index=shard.ordinal * INDEX_STRIDE, path=path)
    return ArchiveItem(image, None, error)


def shard_id(ordinal: int, prompt_from: str) -> str:
    return f"{ordinal:06d}-{prompt_from}"


def find_shard(source: Any, id_: str) -> Shard:
    """The shard of a source by its id alone.

    Raises:
        ArchiveError: if the source has no such shard (any more).
    """
    for shard in source.shards():
        if shard.id == id_:
            return shard  # type: ignore[no-any-return]
    raise ArchiveError(
        f"no shard {id_} in {source.identity()['location']}: the archive has changed since it was listed"
    )


def read_chunk(
    tree: Tree, chunk: list[ChunkPart], options: ArchiveOptions, *, prompt_from: str, base: int
) -> Iterator[ArchiveItem]:
    """The images of one shard with their bytes. Indexes are the listing's, or counted from `base` where prompts are
    only known once the image is read."""
    book = options.book()
    counted: Counter[str] = Counter()
    files = [
        (f"{part.path}/{name}" if part.path else name, size)
        for part in chunk
        for name, size in zip(part.names, part.sizes, strict=True)
    ]
    contents = tree.read_all(files, limit=options.max_image_bytes)
    at = 0
    for part in chunk:
        of_folder = book.from_name(prompt_name(part.path, tree.root_name))
        for index in part.indexes:
            path = files[at][0]
            content = next(contents)
            at += 1
            data, error = (None, content) if isinstance(content, str) else (content, None)
            prompt, number = of_folder, index
            extra: dict[str, str] = {}
            if prompt_from != "folder":
                found, extra, lacks = _read_prompt(tree, path, data, prompt_from)
                if found is None:
                    prompt = Prompt(NO_PROMPT_ID, "")
                    data, error = None, error or f"no prompt: {lacks}"
                else:
                    prompt = book.from_text(found)
                number = base + counted[prompt.id]
                counted[prompt.id] += 1
            image = ArchivedImage(
                prompt_id=prompt.id,
                prompt=prompt.text,
                index=number,
                path=tree.show(path),
                group=prompt.group,
                extra=prompt.said(extra),
            )
            yield ArchiveItem(image, data, error)


_NO_CAPTION = "no caption file (.txt, .caption, .cap or .json) beside it"


def _read_prompt(
    tree: Tree, path: str, data: bytes | None, prompt_from: str
) -> tuple[str | None, dict[str, str], str | None]:
    """The prompt of an image, further fields, and what it lacks where there is none."""
    if prompt_from == "metadata":
        if data is None:
            return None, {}, LACKING
        seen = find_prompt(data)
        return seen.text, {}, seen.lacks
    stem = path.rpartition(".")[0]
    for ext in CAPTION_EXTENSIONS:
        caption = tree.read_small(f"{stem}.{ext}")
        if caption is not None:
            text, extra = caption_in_file(f"{stem}.{ext}", caption)
            if text is not None:
                return text, extra, None
    return None, {}, _NO_CAPTION
