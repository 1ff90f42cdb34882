"""Members of a tar that are not samples (grids, masks and the like, known by their names), and tables of prompts inside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from allfour.errors import ArchiveError
from allfour.pipeline.archives.beside import MAX_TABLE_BYTES, Beside
from allfour.pipeline.archives.beside_rows import is_customary
from allfour.pipeline.archives.caption_folders import CaptionFolders
from allfour.pipeline.archives.captions import CAPTION_EXTENSIONS, caption_in_file
from allfour.pipeline.archives.kinds import Kind, extension, kind_of
from allfour.pipeline.archives.listing import is_list
from allfour.pipeline.archives.naming import (
    GRID_NAME,
    is_derived,
    may_be_caption,
    no_sample,
    no_samples,
    without_ending,
)
from allfour.pipeline.archives.remote import scheme_of
from allfour.pipeline.archives.tar_names import key_of
from allfour.pipeline.archives.tar_opening import open_tar, plain_and_here
from allfour.pipeline.archives.tar_stream import BrokenTarError

_TABLES = ("csv", "tsv", "jsonl", "ndjson", "json", "parquet")
_PROBED_TARS, _PROBED_MEMBERS = 3, 200

Judge = Callable[[str], str | None]
"""What a member is that is no sample, given its name; members come in the tar's order."""


class Aside:
    """Which pictures of some tars are no samples.

    It is looked for where names among the first members show some. A tar on this machine is gone through beforehand; in one at an
    address a picture is known to be made of another if that one came before it.
    """

    def __init__(self, files: Sequence[str], *, cuts: bool) -> None:
        self._files = files
        self._cuts = cuts
        self._some: bool | None = None

    def judge(self, file: str) -> Judge:
        """For one tar."""
        if self._some is None:
            self._some = any(self._holds_some(each) for each in self._files[:_PROBED_TARS])
        if not self._some:
            return lambda name: None
        return self._beforehand(file).get if scheme_of(file) is None else self._as_they_come(file)

    def _beforehand(self, file: str) -> dict[str, str]:
        folders: dict[str, list[str]] = {}
        with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
            for member in stream:
                folder, _, base = member.name.rpartition("/")
                if member.regular and kind_of(base) is Kind.IMAGE:
                    folders.setdefault(folder, []).append(base)
        found = {
            f"{folder}/{base}" if folder else base: what
            for folder, names in folders.items()
            for base, what in no_samples(folder, names).items()
        }
        if self._cuts and len(found) == sum(map(len, folders.values())):  # grids alone, to be cut
            return {name: what for name, what in found.items() if what != GRID_NAME}
        return found

    def _as_they_come(self, file: str) -> Judge:
        cut = self._cuts and self._grids_alone(file)
        stems: dict[str, set[str]] = {}

        def judge(name: str) -> str | None:
            folder, _, base = name.rpartition("/")
            seen = stems.setdefault(folder, set())
            seen.add(without_ending(base).casefold())
            what = no_sample(folder, base, seen)
            return None if cut and what == GRID_NAME else what

        return judge

    def _first(self, file: str) -> list[tuple[str, str]]:
        """Folders and names of images among the first members."""
        found = []
        with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
            for member in itertools.islice(stream, _PROBED_MEMBERS):
                folder, _, base = member.name.rpartition("/")
                if kind_of(base) is Kind.IMAGE:
                    found.append((folder, base))
        return found

    def _holds_some(self, file: str) -> bool:
        return any(is_derived(base) or no_samples(folder, [base]) for folder, base in self._first(file))

    def _grids_alone(self, file: str) -> bool:
        return all(no_sample(folder, base, ()) == GRID_NAME for folder, base in self._first(file))


def is_table(name: str) -> bool:
    """Whether a member may be a table of prompts, by its name; a .json may be a caption as well."""
    return is_customary(name) or extension(name) in _TABLES


def tables_inside(file: str) -> Beside:
    """What tables of a tar on this machine say of its images, and captions that lie in a folder of their own."""
    names, found = _members(file)
    keys = set(map(key_of, names))
    apart: dict[str, dict[str, str]] = {}
    for member in found:
        folder, _, base = member.rpartition("/")
        if extension(base) in CAPTION_EXTENSIONS and key_of(member) not in keys and may_be_caption(base):
            apart.setdefault(folder, {})[without_ending(base)] = base
    captions = _caption_members(names, apart)
    wanted = {name for name in found if is_customary(name.rpartition("/")[2]) or key_of(name) not in keys}
    beside = Beside()
    for name, content in _contents(file, (wanted - captions.keys()) | captions.keys()):
        folder, _, base = name.rpartition("/")
        if name in captions:
            if text := caption_in_file(base, content)[0]:
                beside.add(captions[name], text, folder)
        elif is_table(base) or is_list(base):
            beside.take(folder, base, content)
    beside.find(names)
    return beside


def images_inside(file: str) -> list[str]:
    """Names of a tar's images."""
    return _members(file)[0]


def _members(file: str) -> tuple[list[str], list[str]]:
    """Images of a tar, and members that may say their prompts."""
    images, others = [], []
    with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
        for member in stream:
            base = member.name.rpartition("/")[2]
            kind = kind_of(base)
            if member.regular and kind is Kind.IMAGE:
                images.append(member.name)
            elif (
                member.regular and kind is not Kind.HIDDEN and (is_table(base) or extension(base) in CAPTION_EXTENSIONS)
            ):
                others.append(member.name)
    return images, others


def _caption_members(images: Sequence[str], apart: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Captions in folders of their own, and their images."""
    folders: dict[str, list[str]] = {}
    for name in images if apart else ():
        folder, _, base = name.rpartition("/")
        folders.setdefault(folder, []).append(base)
    known = CaptionFolders({folder: set(stems) for folder, stems in apart.items()})
    found = {}
    for folder, names in folders.items():
        where, _ = known.of(folder, names)
        for base in names if where is not None else ():
            stems = apart[where or ""]
            if caption := stems.get(without_ending(base)) or stems.get(base):
                found[f"{where}/{caption}" if where else caption] = f"{folder}/{base}" if folder else base
    return found


def _contents(file: str, wanted: Set[str]) -> Iterator[tuple[str, bytes]]:
    if not wanted:
        return
    with contextlib.suppress(BrokenTarError, ArchiveError), open_tar(file, by_seek=plain_and_here(file)) as stream:
        for member in stream:
            if member.regular and member.name in wanted and member.size <= MAX_TABLE_BYTES:
                yield member.name, stream.read()
