"""The listing of a tree of files, whatever it lies in: which are images, and whose prompt they are.

Only metadata is held, by columns: about 100 bytes a file.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.archives.caption_folders import CaptionFolders, bears, captions_apart
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS
from allfour.pipeline.archives.decoding import sniff_format
from allfour.pipeline.archives.entries import FileEntry, Lost
from allfour.pipeline.archives.kinds import UNDECODED_EXTENSIONS, Kind, extension, kind_of
from allfour.pipeline.archives.naming import (
    GRID_NAME,
    derived_folder,
    may_be_caption,
    names_no_prompt,
    no_samples,
)
from allfour.pipeline.archives.text import PromptBook, escape_name, natural_key, path_key

MAX_INDEX_DIGITS = 9
"""Longer numbers, such as times, are no positions; it also keeps indexes of one container below INDEX_STRIDE."""


class Tree(Protocol):
    """Files under a root: a local folder, a prefix in an object store, a zip. Paths are relative, '/'-separated."""

    @property
    def root_name(self) -> str:
        """Name of the root, the prompt of images that lie directly in it."""
        ...

    @property
    def at_hand(self) -> bool:
        """Whether a small file more costs nothing worth mentioning."""
        ...

    def show(self, path: str) -> str:
        """Where a file lies, as text for tables."""
        ...

    def walk(self, notes: Counter[str]) -> Iterator[tuple[str, list[FileEntry]]]:
        """Every folder with its files, in any order. What is not followed is counted in the notes."""
        ...

    def heads(self, paths: Sequence[str]) -> Iterator[bytes]:
        """First bytes of files, empty where they cannot be read."""
        ...

    def read_all(self, files: Sequence[tuple[str, int]], *, limit: int) -> Iterator[bytes | str]:
        """Bytes of files (path, size as listed or -1) in order, or the reason why there are none."""
        ...

    def read_small(self, path: str) -> bytes | None:
        """Bytes of a small file such as a caption, None where there is none."""
        ...


@dataclass(slots=True)
class Directory:
    """The images of one folder, in reading order."""

    path: str
    names: list[str]
    sizes: array[int]
    stamps: Sequence[int | str]
    indexes: Sequence[int] = range(0)
    """Position within the prompt, for each image."""
    lacks: str = ""
    """What these are that are no samples; empty for those that are. A folder with both stands in the listing twice."""
    nameless: bool = False
    """Whether the folder's name is not a prompt unless it is asked for."""
    captioned: int = 0
    """How many of these have a caption file beside them, or in `captions`."""
    captions: str | None = None
    """The folder that their captions lie in, where that is another one."""

    def join(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


@dataclass(slots=True)
class Listing:
    directories: list[Directory]
    images: int
    ignored: list[str] = field(default_factory=list)
    """What is said of files that are not taken for images."""
    lost: list[Lost] = field(default_factory=list)
    """What is said of files that may be images and cannot be reached."""
    inside: list[str] = field(default_factory=list)
    """Archives inside the tree, which are not opened, and tables that have the ending of one."""
    unasked: list[str] = field(default_factory=list)
    """What is said of images that are no samples."""
    tables: list[tuple[str, FileEntry]] = field(default_factory=list)
    """Files that may say which prompts images have, by the folder that they lie in."""
    lone_captions: list[str] = field(default_factory=list)
    """Caption files that no image lies beside, though images with captions do."""
    may_tell: list[str] = field(default_factory=list)
    """Files that may hold prompts, by their names, in whatever form."""
    sidecar: str = ""
    """A file named as an image, in a form that is not read."""
    doubtful_captions: str = ""
    """What is said where the captions of a folder may lie in one of several."""

    def notes(self) -> list[str]:
        """What is said of files that are no images, and of images that are no samples."""
        return [*self.ignored, *self.unasked]

    def left_out(self, read: Collection[str] = ()) -> list[Lost]:
        """What is said of files that may be images, or hold some, and are not read. Tables inside that were `read` were opened."""
        return [*self.lost, *_not_opened([path for path in self.inside if path not in read])]

    @property
    def captioned(self) -> int:
        """How many samples have a caption file beside them."""
        return sum(directory.captioned for directory in self.directories if not directory.lacks)

    def paths(self) -> Iterator[str]:
        """Every image's path in the tree."""
        return (directory.join(name) for directory in self.directories for name in directory.names)

    def sample_paths(self) -> list[str]:
        """Every sample's path in the tree."""
        return [part.join(name) for part in self.directories if not part.lacks for name in part.names]

    @property
    def named(self) -> frozenset[str]:
        """Folders with samples whose names may be prompts."""
        return frozenset(part.path for part in self.directories if not part.lacks and not part.nameless)

    @property
    def flat(self) -> bool:
        return {directory.path for directory in self.directories} == {""}

    @property
    def samples(self) -> int:
        return sum(len(directory.names) for directory in self.directories if not directory.lacks)

    @property
    def nameless(self) -> int:
        """How many samples lie in folders whose names are no prompts."""
        return sum(len(part.names) for part in self.directories if part.nameless and not part.lacks)


def prompt_name(path: str, root_name: str) -> str:
    """The folder that an image lies in names its prompt."""
    return path.rpartition("/")[2] or root_name


def list_tree(tree: Tree, book: PromptBook, *, asked: bool = True, cut_grids: bool = False) -> Listing:
    """List a tree: folders and names in natural order, unknown files told by their content, indexes by prompt.

    Parameters
    ----------
    tree
        The files.
    book
        The prompts that are known.
    asked
        Whether the folders' names were asked for as prompts, whatever they are.
    cut_grids
        Whether grids are cut: those that are told by their names are images like others then, unless there are others, which they
        may be made of.
    """
    counts: Counter[str] = Counter()
    directories: list[Directory] = []
    tables: list[tuple[str, FileEntry]] = []
    lone: list[str] = []
    told: list[str] = []
    inside: list[str] = []
    sidecars: list[str] = []
    apart: dict[str, set[str]] = {}
    for path, entries in tree.walk(counts):
        images, others = _images_of(tree, path, entries, counts)
        tables += _tables_of(path, others, images)
        inside += [f"{path}/{entry.name}" if path else entry.name for entry in others if _is_inside(entry)]
        told += [f"{path}/{entry.name}" if path else entry.name for entry in others if _MAY_TELL.fullmatch(entry.name)]
        sidecars += filter(None, [_sidecar(path, others, images)])
        captions = {
            entry.name.rpartition(".")[0]: entry.name for entry in others if extension(entry.name) in CAPTION_EXTENSIONS
        }
        if stems := captions_apart(captions, [entry.name for entry in images]):
            apart[path] = stems
        if not images:
            continue
        images.sort(key=lambda entry: (natural_key(entry.name), entry.name))
        lone += _lone(path, captions, images)
        lacking = no_samples(path, [entry.name for entry in images])
        if not lacking:
            directories.append(_directory(path, images, captions))
            continue
        for what in dict.fromkeys(["", *lacking.values()]):
            part = [entry for entry in images if lacking.get(entry.name, "") == what]
            if part:
                directories.append(_directory(path, part, captions, what))
    if cut_grids and not any(not each.lacks for each in directories):
        for directory in directories:
            directory.lacks = "" if directory.lacks == GRID_NAME else directory.lacks
    _set_aside(directories)
    doubtful = _find_captions(directories, apart) if apart else ""
    for directory in directories:
        name = prompt_name(directory.path, tree.root_name)
        directory.nameless = not asked and names_no_prompt(name) and not book.knows(name)
    directories.sort(key=lambda directory: (path_key(directory.path), directory.path, directory.lacks))
    _number(directories, tree.root_name, book)
    total = sum(len(directory.names) for directory in directories)
    said = [(isinstance(what, Lost), f"{count:,} {what}") for what, count in sorted(counts.items())]
    without = Counter(part.lacks for part in directories for _ in part.names if part.lacks)
    return Listing(
        directories,
        total,
        ignored=[text for lost, text in said if not lost],
        lost=[Lost(text) for lost, text in said if lost],
        inside=inside,
        unasked=[f"{count:,} without a prompt, not scored: {what}" for what, count in sorted(without.items())],
        tables=tables,
        lone_captions=sorted(lone),
        may_tell=sorted(told),
        sidecar=min(sidecars, default=""),
        doubtful_captions=doubtful,
    )


def _find_captions(directories: list[Directory], apart: Mapping[str, set[str]]) -> str:
    """Find the folders of captions that lie beside folders of images; returns what is said where one of several may be meant."""
    folders, said = CaptionFolders(apart), ""
    for part in directories:
        if part.lacks or 2 * part.captioned > len(part.names):
            continue
        part.captions, doubt = folders.of(part.path, part.names)
        said = said or doubt
        if part.captions is not None:
            part.captioned = sum(bears(apart[part.captions], name) for name in part.names)
    return said


_SIDECARS = ("yaml", "yml", "toml", "xml", "xmp", "html", "htm", "log", "md", "ini", "cfg")


def _sidecar(path: str, others: list[FileEntry], images: list[FileEntry]) -> str:
    """A file named as an image of its folder, in a form that is not read and may hold a prompt; empty where there is none."""
    found = [entry.name for entry in others if extension(entry.name) in _SIDECARS]
    stems = {stem for entry in images for stem in (entry.name.rpartition(".")[0], entry.name)} if found else set()
    name = min((name for name in found if name.rpartition(".")[0] in stems), default="")
    return f"{path}/{name}" if name and path else name


def _lone(path: str, captions: Mapping[str, str], images: list[FileEntry]) -> list[str]:
    """Captions of a folder whose images are not there, where others have theirs."""
    stems = {stem for entry in images for stem in (entry.name.rpartition(".")[0], entry.name)}
    if stems.isdisjoint(captions):
        return []
    lone = [name for stem, name in captions.items() if may_be_caption(name) and not _is_of(stem, stems)]
    return [f"{path}/{name}" if path else name for name in lone]


_MORE_OF = re.compile(r"[-_. ](?=[^\W\d_]{3}[^\d]*\Z)")


def _is_of(stem: str, stems: set[str]) -> bool:
    """Whether a text is of an image that is there: its caption, or more on it, as `0_negative` is."""
    return stem in stems or any(stem[: match.start()] in stems for match in _MORE_OF.finditer(stem))


def _directory(path: str, images: list[FileEntry], captions: Mapping[str, str], lacks: str = "") -> Directory:
    stamps: Sequence[Any] = [entry.stamp for entry in images]
    if all(isinstance(stamp, int) for stamp in stamps):
        stamps = array("q", stamps)
    sizes = array("q", [entry.size for entry in images])
    captioned = (
        sum(entry.name.rpartition(".")[0] in captions or entry.name in captions for entry in images) if captions else 0
    )
    return Directory(path, [entry.name for entry in images], sizes, stamps, lacks=lacks, captioned=captioned)


def _set_aside(directories: list[Directory]) -> None:
    """Mark folders of masks and the like, where other folders hold what these were made of."""
    derived = {id(part): what for part in directories if (what := derived_folder(part.path)) is not None}
    if 0 < len(derived) < len(directories):
        for part in directories:
            part.lacks = part.lacks or derived.get(id(part), "")


_ONE_PROMPT = re.compile(r"(prompt|caption|text|description)\.txt", re.IGNORECASE)
"""Texts that may be the prompt of all images of a folder."""
_MAY_TELL = re.compile(r".*(?:prompt|caption)[^/]*\.(?:txt|md|ya?ml|xlsx?|html?|log|toml|docx?)", re.IGNORECASE)


def is_list(name: str) -> bool:
    """Whether a text may hold a prompt a line, by its name."""
    return extension(name) == "txt" and bool(_MAY_TELL.fullmatch(name))


_TABLES = ("csv", "tsv", "jsonl", "ndjson", "json", "parquet")


def _tables_of(path: str, others: list[FileEntry], images: list[FileEntry]) -> list[tuple[str, FileEntry]]:
    """Files of a folder that may be tables, captions of single images not among them."""
    found = [entry for entry in others if extension(entry.name) in _TABLES or _ONE_PROMPT.fullmatch(entry.name)]
    if not found:
        return []
    stems = {entry.name.rpartition(".")[0] for entry in images}
    return [(path, entry) for entry in found if entry.name.rpartition(".")[0] not in stems]


def _images_of(
    tree: Tree, path: str, entries: list[FileEntry], counts: Counter[str]
) -> tuple[list[FileEntry], list[FileEntry]]:
    """The images of a folder, and what is known to be none."""
    images = []
    unknown = []
    others = []
    for entry in entries:
        kind = kind_of(entry.name)
        if kind is Kind.IMAGE:
            images.append(entry)
            ending = extension(entry.name)
            if not entry.size:
                counts["images that cannot be read: the file is empty"] += 1
            elif ending in UNDECODED_EXTENSIONS:
                counts[
                    f"images that cannot be read: named .{ending}, a format that is not decoded; convert them to PNG or JPEG"
                ] += 1
        elif kind is Kind.UNKNOWN:
            unknown.append(entry)
        elif kind is Kind.HIDDEN:
            counts["hidden or system files, not taken for images"] += 1
        elif _is_inside(entry):
            others.append(entry)
        else:
            counts[f".{extension(entry.name)} files, not taken for images"] += 1
            others.append(entry)
    paths = [f"{path}/{entry.name}" if path else entry.name for entry in unknown]
    for entry, head in zip(unknown, tree.heads(paths), strict=True):
        ext = escape_name(extension(entry.name))[:20]
        named = f"files named .{ext}" if ext else "files without an extension"
        found = sniff_format(head)
        if found is None:
            counts[f"{named}, not taken for images: their content is none"] += 1
        else:
            counts[f"{named}, taken for images: their content is {found}"] += 1
            images.append(entry)
    return images, others


def _is_inside(entry: FileEntry) -> bool:
    """Whether a file is an archive inside a tree, which is not opened."""
    return kind_of(entry.name) is Kind.CONTAINER and entry.name.lower() != "metadata.parquet"


def _not_opened(paths: Sequence[str]) -> list[Lost]:
    """What is said of archives inside a tree, by their endings."""
    count = Counter(map(extension, paths))
    first = {ending: min(path for path in paths if extension(path) == ending) for ending in count}
    return [
        Lost(
            f"{count[ending]:,} .{ending} archives inside the tree, not opened: {_how(ending)}, such as {escape_name(first[ending])}"
        )
        for ending in sorted(count)
    ]


def _how(ending: str) -> str:
    return (
        "rescore them by themselves"
        if ending in ("tar", "tgz", "zip", "parquet", "arrow", "gz")
        else "unpack them first"
    )


def _number(directories: list[Directory], root_name: str, book: PromptBook) -> None:
    """Give every image its index: the number in its name where all names of a prompt are rising numbers, else counted."""
    by_prompt: dict[str, list[Directory]] = {}
    for directory in directories:
        lacking = directory.lacks or directory.nameless
        id_ = NO_PROMPT_ID if lacking else book.from_name(prompt_name(directory.path, root_name)).id
        by_prompt.setdefault(id_, []).append(directory)
    for prompt_id, parts in by_prompt.items():
        numbers = _rising_numbers(parts) if prompt_id != NO_PROMPT_ID else None
        start = 0
        for part in parts:
            stop = start + len(part.names)
            part.indexes = range(start, stop) if numbers is None else numbers[start:stop]
            start = stop


def _rising_numbers(parts: list[Directory]) -> array[int] | None:
    numbers = array("q")
    for part in parts:
        for name in part.names:
            stem = name.rpartition(".")[0] or name
            if not (stem.isascii() and stem.isdigit() and len(stem) <= MAX_INDEX_DIGITS):
                return None
            number = int(stem)
            if numbers and number <= numbers[-1]:
                return None
            numbers.append(number)
    return numbers
