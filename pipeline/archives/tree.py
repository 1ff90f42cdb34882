"""Images in a tree of files: a folder here, a prefix in an object store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import (
    INDEX_STRIDE,
    ArchiveItem,
    ArchiveSummary,
    NoImagesError,
    Shard,
)
from allfour.pipeline.archives.beside import Beside
from allfour.pipeline.archives.counting import MAX_CAPTIONS, Counted, copies_note
from allfour.pipeline.archives.kinds import extension
from allfour.pipeline.archives.listing import (
    Listing,
    Tree,
    list_tree,
    prompt_name,
)
from allfour.pipeline.archives.listing_shards import chunk_of, cut, shard_of
from allfour.pipeline.archives.named_table import named_table
from allfour.pipeline.archives.naming import (
    is_download_name,
    names_no_prompt,
    service_prompt,
)
from allfour.pipeline.archives.options import ArchiveOptions, PromptFrom
from allfour.pipeline.archives.probing import EXAMPLES, PROBED, Probe, lone_note, spread
from allfour.pipeline.archives.text import (
    Prompt,
    PromptBook,
    SpellingBook,
    alike_note,
    clean_text,
    cut_note,
    escape_name,
)
from allfour.pipeline.archives.tree_notes import (
    counted_names,
    folder_above,
    in_reach,
    not_understood,
    several_parents,
    telling_name,
)
from allfour.pipeline.archives.tree_reading import (
    caption_path,
    find_shard,
    metadata_note,
    read_chunk,
    read_prompt,
    shard_id,
)
from allfour.pipeline.words import quantity


class TreeSource:
    """`ArchiveSource` over one `Tree`. Prompts are the names of the folders, or captions, or metadata."""

    def __init__(
        self,
        tree: Tree,
        options: ArchiveOptions,
        *,
        location: str,
        layout: str = "folder",
        resolved: PromptFrom | None = None,
        book: SpellingBook | None = None,
        alone: bool = True,
    ) -> None:
        """`resolved` is what auto stands for, where that is decided already; `book` one that several trees share; `alone` is false for one
        of several."""
        if options.prompt_from == "column":
            raise ArchiveError(f"{location}: files have no columns; take prompt_from: folder, caption or metadata")
        self._tree = tree
        self._options = options
        self._location = location
        self._layout = layout
        self._resolved = resolved
        self._shared_book = book
        self._alone = alone
        self._forget()

    def _forget(self) -> None:
        self._listing: Listing | None = None
        self._tables: Beside | None = None
        self._probed: Probe | None = None
        self._counted: Counted | None = None
        self._apart: Mapping[str, str] | None = None
        self._looked_at: list[tuple[str, int]] = []
        self._texts: list[str | None] = []

    def __getstate__(self) -> dict[str, Any]:
        forgotten = dict.fromkeys(("_listing", "_tables", "_probed", "_counted", "_apart"))
        return self.__dict__ | forgotten | {"_looked_at": [], "_texts": []}

    def identity(self) -> Mapping[str, str]:
        return {"layout": self._layout, "location": self._location, **self._options.identity()}

    def listing(self) -> Listing:
        """The whole listing, made once per process.

        Raises
        ------
        ArchiveError
            When the root cannot be listed or holds no image.
        """
        if self._listing is None:
            asked = self._options.prompt_from != "auto"
            listing = list_tree(self._tree, self._options.book(), asked=asked, cut_grids=self._options.cuts)
            if not listing.images:
                seen = "; ".join([*listing.notes(), *listing.left_out()]) or "it is empty"
                raise NoImagesError(
                    f"no images in {self._location} ({seen}). Expected PROMPT/INDEX.png or any depth of folders, "
                    "with the prompt taken from the folder that an image lies in"
                )
            self._listing = listing
        return self._listing

    def prompt_from(self) -> PromptFrom:
        """Where prompts come from, with auto resolved; needs the listing.

        Raises
        ------
        ArchiveError
            If folders are named as no prompts are, and nothing else says what was asked for.
        """
        if self._options.prompt_from != "auto":
            return self._options.prompt_from
        if self._resolved is None:
            self._resolved = self._resolve(self.listing())
        return self._resolved

    def _resolve(self, listing: Listing) -> PromptFrom:
        nameless = 2 * listing.nameless > listing.samples
        beside = self._beside()
        captions = (
            2 * listing.captioned > listing.samples and (listing.flat or nameless) and self._captions_speak(listing)
        )
        if captions and beside.joined:  # what is beside every image needs no join
            return "caption"
        if (beside.customary or nameless or (listing.flat and beside.of_prompts)) and 2 * beside.covered(
            listing
        ) >= max(1, listing.samples):
            return "table"
        if captions:
            return "caption"
        first = [name for part in listing.directories if not part.lacks for name in part.names[:PROBED]][:PROBED]
        if first and 2 * sum(is_download_name(name) for name in first) > len(first):
            return "name"
        alone = nameless or len({part.path for part in listing.directories}) == 1
        told = [found for name in first if (found := service_prompt(name))] if alone else []
        if 2 * len(told) > len(first) and len(set(told)) > 1:  # so the folder's name is not the one prompt of all
            return "name"
        if listing.nameless < listing.samples or not listing.samples:
            return "folder"
        probe = self._probe()
        if 2 * probe.in_metadata >= max(1, probe.images):
            return "metadata"
        if listing.captioned and self._captions_speak(listing):
            return "caption"
        name = telling_name(listing)
        how = f", name to take them from files' names such as {escape_name(name)[:120]!r}" if name else ""
        raise ArchiveError(
            f"nothing in {self._location} says which prompt an image was made for: its folders have names such as "
            f"{self._a_name(listing)!r}, there are no captions or tables of prompts that are understood, and the images looked at hold none. "
            f"{''.join(f'{note}. ' for note in not_understood(listing, self._beside()))}"
            f"Name the folders as prompts, or set archive.prompt_from: folder to take their names as they are{how}, or path with "
            f"archive.path_pattern{folder_above(listing)}"
        )

    def _captions_speak(self, listing: Listing) -> bool:
        """Whether captions in folders of their own hold words, by the first of them; others are of their images whatever they hold."""
        parts = [part for part in listing.directories if not part.lacks and part.captions is not None]
        first = [part.join(name) for part in parts for name in part.names[:PROBED]][:PROBED]
        return not parts or any(self._text(path, "caption") for path in first)

    def _a_name(self, listing: Listing) -> str:
        part = next((part for part in listing.directories if part.nameless), listing.directories[0])
        return clean_text(escape_name(prompt_name(part.path, self._tree.root_name)))

    def _beside(self) -> Beside:
        """The tables beside the images, read once per process."""
        if self._tables is None:
            if self._options.prompt_table is not None:
                self._tables = named_table(self._options, self.listing().sample_paths())
            else:
                asked = self._options.prompt_from == "table"
                self._tables = Beside.of_tree(self._tree, self.listing(), asked=asked)
        return self._tables

    def _tables_read(self, listing: Listing) -> set[str]:
        """Files of the tree that were read as tables of prompts."""
        if self._options.prompt_table is None:
            return self._beside().read if any(extension(path) == "parquet" for path in listing.inside) else set()
        given = escape_name(str(Path(self._options.prompt_table).resolve()))
        return {path for path in listing.inside if self._tree.show(path) == given}

    def shards(self) -> Iterator[Shard]:
        prompt_from = self.prompt_from()
        prompt = self._beside().prompt if prompt_from == "table" else None
        for ordinal, piece in enumerate(cut(self.listing(), self._options.shard_size)):
            salt = f"{prompt_from}\n{self._options.salt()}"
            yield shard_of(
                piece,
                id_=shard_id(ordinal, prompt_from),
                ordinal=ordinal,
                salt=salt,
                by_folder=prompt_from == "folder",
                prompt=prompt,
            )

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        if not shard.payload:
            shard = find_shard(self, shard.id)
        prompt_from = shard.id.partition("-")[2]
        base = shard.ordinal * INDEX_STRIDE
        yield from read_chunk(self._tree, chunk_of(shard), self._options, prompt_from=prompt_from, base=base)

    def summary(self) -> ArchiveSummary:
        listing = self.listing()
        prompt_from = self.prompt_from()
        probe, counted = self._probe(), self.counted()
        with_prompt = self._taken(probe, prompt_from)
        notes = listing.notes()
        if prompt_from == "folder":
            notes += filter(None, [alike_note(self._prompts(listing))])
        else:
            notes.append(self._taken_from(prompt_from, probe))
        if self._shared_book is None:
            notes += counted.book.notes()
        if counted.cut:
            notes.append(cut_note(len(counted.cut)))
        if prompt_from == "caption" and (empty := counted.lacking - (listing.samples - listing.captioned)) > 0:
            notes.append(f"{quantity(empty, 'caption file')} of images {'holds' if empty == 1 else 'hold'} no prompt")
        notes += self.doubts()
        if prompt_from == "metadata":
            notes += metadata_note(probe.images - probe.in_metadata, probe.images)
        notes += probe.fault_notes()
        notes += copies_note(counted.copies) or probe.notes()
        return ArchiveSummary(
            layout=self._layout,
            images=listing.images,
            prompts=len(counted.per_prompt) if counted.known else None,
            shards=-(-listing.images // self._options.shard_size),
            examples=tuple(self._examples(listing)) if prompt_from == "folder" else probe.examples,
            notes=tuple(notes),
            images_per_prompt=counted.images_per_prompt,
            without_copies=counted.without_copies,
            probed=probe.numbers(with_prompt, self._missing(listing, prompt_from)),
        )

    def _taken_from(self, prompt_from: str, probe: Probe) -> str:
        """A word on where prompts are taken from, other than the folders' names."""
        if prompt_from == "table":
            where = "beside the images" if self._options.prompt_table is None else "(archive.prompt_table)"
            return f"prompts are taken from {', '.join(sorted(set(self._beside().tables)))[:200]} {where}"
        what = {"name": "file name"}.get(prompt_from, prompt_from)
        note = f"prompts are taken from each image's {what}"
        if prompt_from == "caption" and (apart := self._captions_apart()):
            images, captions = next(iter(apart.items()))
            note += f", which lies in {escape_name(captions) or 'the folder above'} for those of {escape_name(images) or 'the root'}"
        if not self.counted().known:
            note += ", and counted when it is read"
        if prompt_from == "metadata":
            note += f"; {probe.in_metadata} of the {probe.images} images looked at hold one"
        return note

    def counted(self) -> Counted:
        """The prompts of all images, where they are known before these are read; made once per process."""
        if self._counted is None:
            self._counted = self._count(self.listing(), self.prompt_from())
        return self._counted

    def _count(self, listing: Listing, prompt_from: PromptFrom) -> Counted:
        found = Counted(self._shared_book or self._options.spelling_book())
        if prompt_from == "metadata":
            found.known = False
        if prompt_from == "caption":
            found.known = self._tree.at_hand and listing.captioned <= MAX_CAPTIONS
        for part in listing.directories if found.known else ():
            if part.lacks:
                continue
            of_folder = None
            if prompt_from == "folder" and not part.nameless:
                of_folder = found.book.from_name(prompt_name(part.path, self._tree.root_name))
            for name, size in zip(part.names, part.sizes, strict=True):
                path = part.join(name)
                found.add(
                    of_folder if prompt_from == "folder" else self._told(path, prompt_from, found.book), path, size
                )
        if self._tree.at_hand:
            found.look_for_copies(lambda files: self._tree.read_all(files, limit=self._options.max_image_bytes))
        return found

    def _told(self, path: str, prompt_from: str, book: PromptBook) -> Prompt | None:
        text = self._text(path, prompt_from)
        if not text:
            return None
        return book.from_name(text) if prompt_from in ("name", "path") else book.from_text(text)

    def _text(self, path: str, prompt_from: str) -> str | None:
        """The prompt of an image as its table, caption, name or path gives it."""
        if prompt_from == "table":
            return self._beside().prompt(path)
        if prompt_from == "caption" and (apart := self._captions_apart()):
            folder = apart.get(path.rpartition("/")[0])
            path = path if folder is None else caption_path(folder, path)
        return read_prompt(self._tree, path, None, prompt_from, self._options)[0]

    def _captions_apart(self) -> Mapping[str, str]:
        """Folders of images whose captions lie in another one, and that."""
        if self._apart is None:
            parts = self.listing().directories
            self._apart = {part.path: part.captions for part in parts if part.captions is not None}
        return self._apart

    def doubts(self) -> list[str]:
        """What a user should know before a run: prompts in reach that are not taken, images without any, names under several parents."""
        listing, prompt_from = self.listing(), self.prompt_from()
        notes: list[str] = [*listing.left_out(self._tables_read(listing))]
        if prompt_from == "folder":
            notes += in_reach(listing, self._beside(), self._probe())
            notes += self._one_name(listing) + counted_names(listing)
            if listing.nameless:
                notes.append(
                    f"{listing.nameless:,} images lie in folders such as {self._a_name(listing)!r}, whose names are no prompts: rows without "
                    "a prompt, which are not scored. prompt_from: folder takes the names as they are"
                )
        lacking = 0
        if prompt_from == "caption" and (lacking := listing.samples - listing.captioned):
            notes.append(
                f"{lacking:,} of {listing.images:,} images have no caption file beside them: rows without a prompt, which are not scored"
            )
        if prompt_from == "caption" and (lone := listing.lone_captions):
            notes.append(lone_note(len(lone), lone[0]))
        if prompt_from == "table" and (lacking := listing.samples - self._beside().covered(listing)):
            notes.append(
                f"{lacking:,} of {listing.images:,} images are in no table beside them: rows without a prompt, which are not scored"
            )
        if prompt_from == "table":
            notes += self._beside().notes(listing.paths())
        else:
            notes += self._beside().failed()
        if prompt_from in ("folder", "caption", "table", "name") and (parents := several_parents(listing)):
            notes.append(parents)
        return notes

    def _missing(self, listing: Listing, prompt_from: str) -> int:
        """How many images are named by what says the prompts, and are not there."""
        if prompt_from == "table":
            return len(self._beside().missing(listing.paths()))
        return len(listing.lone_captions) if prompt_from == "caption" else 0

    def _one_name(self, listing: Listing) -> list[str]:
        """A word on a single folder whose name, which nobody chose for that, becomes the one prompt."""
        name = self._tree.root_name
        asked = self._options.prompt_from != "auto" or self._options.book().knows(name)
        if asked or not self._alone or not listing.flat or listing.nameless:
            return []
        return [
            f"all images lie in one folder, and its name, {clean_text(escape_name(name))[:120]!r}, is taken for their one prompt"
        ]

    def _prompts(self, listing: Listing) -> Iterator[Prompt]:
        book = self._options.book()
        parts = [part for part in listing.directories if not part.lacks and not part.nameless]
        for name in dict.fromkeys(prompt_name(part.path, self._tree.root_name) for part in parts):
            yield book.from_name(name)

    # --- a look at some of the images --------------------------------------------------------------------------------

    def _probe(self) -> Probe:
        """Some images spread over the listing, looked at once per process."""
        if self._probed is None:
            probe = Probe()
            self._looked_at = list(self._some())
            contents = self._tree.read_all(
                [(path, size) for path, size in self._looked_at], limit=self._options.max_image_bytes
            )
            for content in contents:
                self._texts.append(probe.look(content if isinstance(content, bytes) else None))
                if isinstance(content, str):
                    probe.faults.append(content)
            self._probed = probe
        return self._probed

    def _some(self) -> Iterator[tuple[str, int]]:
        parts = [part for part in self.listing().directories if not part.lacks] or self.listing().directories
        wanted = list(spread(sum(len(part.names) for part in parts)))
        start = 0
        for part in parts:
            while wanted and wanted[0] < start + len(part.names):
                at = wanted.pop(0) - start
                yield part.join(part.names[at]), part.sizes[at]
            start += len(part.names)

    def _taken(self, probe: Probe, prompt_from: str) -> int:
        """Give the probe the prompts of its images as they are read; returns how many have one."""
        counted = self.counted()
        book: PromptBook = self._options.book() if counted.known else counted.book
        count = 0
        for (path, _), inside in zip(self._looked_at, self._texts, strict=True):
            folder = prompt_name(path.rpartition("/")[0], self._tree.root_name)
            text: str | None
            if prompt_from == "folder":
                unnamed = self._options.prompt_from == "auto" and names_no_prompt(folder) and not book.knows(folder)
                text = None if unnamed else folder
            elif prompt_from == "metadata":
                text = inside
            else:
                text = self._text(path, prompt_from)
            probe.take(text, self._tree.show(path), book, is_name=prompt_from in ("folder", "name", "path"))
            count += text is not None
        return count

    def _examples(self, listing: Listing) -> Iterator[str]:
        book = self._options.book()
        parts = [part for part in listing.directories if not part.lacks and not part.nameless]
        for directory in parts[:EXAMPLES]:
            prompt = book.from_name(prompt_name(directory.path, self._tree.root_name))
            yield f"{prompt.text} <- {self._tree.show(directory.join(directory.names[0]))}"
