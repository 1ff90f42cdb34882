"""Tables that lie beside images in a tree: imagefolder's metadata.csv, .jsonl and .parquet, DiffusionDB's JSON, GenEval's metadata.jsonl.

Only a table that is understood says anything: one that names files and prompts, or a single object with a prompt, which is
that of all images in its folder and below.
"""

from __future__ import annotations

import csv
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from allfour.border import read_json
from allfour.pipeline.archives.beside_rows import NotUnderstoodError, is_customary, table_rows
from allfour.pipeline.archives.key_tables import DoubledKeyError, KeyTable, key_table
from allfour.pipeline.archives.keyed import (
    TOLD_BY_PATTERN,
    Reading,
    find_reading,
    not_borne,
    paths_below,
    scope_of,
    several_folders,
)
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.listing import Listing, Tree
from allfour.pipeline.archives.naming import without_ending
from allfour.pipeline.archives.text import escape_name
from allfour.pipeline.words import quantity

MAX_TABLES = 1_000
MAX_TABLE_BYTES = 256 * 2**20
MAX_LISTS, MAX_LIST_BYTES = 20, 16 * 2**20
"""Texts of a prompt a line that are looked at."""
MAX_PARQUET_BYTES = 32 * 2**20
"""Larger ones hold more than names and prompts."""
_FOR_A_FOLDER = re.compile(
    r"(metadata|info|prompt|config|params|settings)\.jsonl?|(prompt|caption|text|description)\.txt", re.IGNORECASE
)
_OF_PROMPTS = re.compile(r"(captions|prompts)\.(csv|tsv|jsonl?|parquet)", re.IGNORECASE)
_SAYS_PROMPT = re.compile(rb"(?<!negative)(?<!negative[-_ ])prompt", re.IGNORECASE)
_MAX_DIGITS = 18
_MAX_TOLD = 4
"""Joins of which it is said how they were made."""


class Beside:
    """Prompts of images by the tables that lie beside them."""

    def __init__(self) -> None:
        self._by_file: dict[str, str] = {}
        self._by_folder: dict[str, str] = {}
        self._named: set[str] = set()
        self._found_by: dict[str, str | None] = {}
        """What images are called that no table names as they lie: their path by a key of a table; None for a key of several."""
        self.tables: list[str] = []
        """Names of those that said something."""
        self.read: set[str] = set()
        """Where these lie."""
        self.customary = False
        """Whether one of them has a name that such tables customarily have."""
        self.of_prompts = False
        """Whether one of them has a column that is called a prompt."""
        self.unread: dict[str, str] = {}
        """Tables that say nothing: their name, and why."""
        self.doubles = 0
        """Rows that name a file which an earlier one names."""
        self.outvoted: Counter[str] = Counter()
        """Rows of a table whose prompt is not that of an earlier table."""
        self._moved: dict[str, str] = {}
        """Images that a table names in other folders: the row by the image's path."""
        self._by_key: list[KeyTable] = []
        """Tables that name no files."""
        self._joined: dict[str, list[Reading]] = {}
        """How images bear the keys of one of these, by the folder below which they do."""
        self._told: list[str] = []
        """What is said of that."""
        self.downloads: Counter[str] = Counter()
        """What img2dataset's accounts say: `count` of addresses, `failed` ones."""

    @classmethod
    def of_tree(cls, tree: Tree, listing: Listing, *, asked: bool = False) -> Beside:
        """What the tables of a tree say; `asked` is whether they were asked for, whatever folders are called."""
        beside = cls()
        tables = [(folder, entry) for folder, entry in listing.tables if entry.size <= _limit(entry.name)][:MAX_TABLES]
        tables.sort(
            key=lambda each: (
                each[0],
                not is_customary(each[1].name),
                "prompt" not in each[1].name.lower(),
                each[1].name,
            )
        )
        paths = [(_path(folder, entry.name), entry.size) for folder, entry in tables]
        contents = tree.read_all(paths, limit=MAX_TABLE_BYTES) if paths else iter(())
        for (folder, entry), content in zip(tables, contents, strict=True):
            if isinstance(content, bytes):
                beside.take(folder, entry.name, content)
        beside._take_lists(tree, listing)
        if beside._by_file or beside._by_key:
            named = frozenset() if asked else listing.named
            beside.find(listing.sample_paths(), present=listing.paths(), named=named)
        return beside

    def find(
        self, paths: Sequence[str], *, present: Iterable[str] | None = None, named: frozenset[str] = frozenset()
    ) -> None:
        """Find the prompts of images by what tables call them: the ends of their paths, and keys, where most are in no table otherwise.

        Parameters
        ----------
        paths
            Of all images that are samples.
        present
            Of these and all others.
        named
            Folders whose names may be prompts.
        """
        self.look_for(paths if present is None else present)
        for look in (self.look_by_ends, functools.partial(self.join, named=named)):
            if 2 * sum(self.prompt(path) is not None for path in paths) < len(paths):
                look(paths)

    def _take_lists(self, tree: Tree, listing: Listing) -> None:
        """Take account of texts of a prompt a line."""
        paths = [(path, -1) for path in listing.may_tell if extension(path) == "txt"][:MAX_LISTS]
        for (path, _), content in zip(paths, tree.read_all(paths, limit=MAX_LIST_BYTES) if paths else (), strict=True):
            folder, _, name = path.rpartition("/")
            if isinstance(content, bytes):
                self.take(folder, name, content)

    def join(self, paths: Sequence[str], *, named: frozenset[str] = frozenset()) -> None:
        """Find how images bear the keys of a table that names no files.

        Parameters
        ----------
        paths
            Of all images that are samples.
        named
            Folders whose names may be prompts.
        """
        ordered, left = sorted(paths), set(paths)
        for table in self._by_key:
            scope = scope_of(table.folder, ordered)
            below = paths_below(ordered, scope)
            if left.isdisjoint(below):
                continue
            reading = find_reading(table, ordered, named=named)
            if isinstance(reading, Reading):
                self.take_up(reading, below)
                left.difference_update(path for path in below if reading.key(path) is not None)
            elif scope == table.folder or "prompt" in f"{table.folder}/{table.name}".lower():
                self.unread[table.name] = f"{reading}{TOLD_BY_PATTERN}" if reading else not_borne(table)

    def take_up(self, reading: Reading, paths: Sequence[str]) -> None:
        """Find the prompts of images by the keys that they bear."""
        self._joined.setdefault(reading.scope, []).append(reading)
        if len(self._told) < _MAX_TOLD:
            self._told += [reading.told(paths), *several_folders(reading, paths)]
        self.unread.pop(reading.table.name, None)
        self.read.add(_path(reading.table.folder, reading.table.name))
        if reading.table.name not in self.tables:
            self.tables.append(reading.table.name)
        self.customary = True

    @property
    def joined(self) -> bool:
        """Whether images were found by keys that they bear."""
        return bool(self._joined)

    def look_for(self, paths: Iterable[str]) -> None:
        """Find images that a table names without the folder that they lie in, or by a number: where only one can be meant."""
        if not self._by_file:
            return
        for path in paths:
            plain = _plain_path(path)
            if plain in self._by_file or without_ending(plain) in self._by_file:
                continue
            for key in self._short(plain):
                self._found_by[key] = plain if self._found_by.get(key, plain) == plain else None

    def look_by_ends(self, paths: Sequence[str]) -> None:
        """Find images of a table written where other folders stood around them, such as `/home/bob/run/0.png`: by the longest end of a path
        that one row and one image alone have. Names that only count must be the same on both sides, none missing and none over: those of
        a training set's table are also those of the validation set's images."""
        ends: dict[str, str | None] = {}
        for row in self._named:
            for end in _ends(row):
                ends[end] = None if end in ends else row
        claimed: dict[str, str | None] = {}
        for path in map(_plain_path, paths):
            found = next((one for end in _ends(path) if (one := ends.get(end)) is not None), None)
            if found is not None:
                claimed[found] = None if found in claimed else path
        moved = {path: row for row, path in claimed.items() if path is not None}
        telling = all(_TELLING.fullmatch(without_ending(path.rpartition("/")[2])) for path in moved)
        self._moved = moved if telling or len(moved) == len(paths) == len(self._named) else {}

    def _short(self, plain: str) -> Iterator[str]:
        """Keys of tables that may stand for an image."""
        folder, _, name = plain.rpartition("/")
        stem = without_ending(name)
        number = [str(int(stem))] if stem.isdecimal() and len(stem) <= _MAX_DIGITS else []
        names = list(dict.fromkeys([name, stem, *number]))
        while True:
            for each in names:
                key = f"{folder}/{each}" if folder else each
                if key in self._by_file:
                    yield key
            if not folder:
                return
            folder = folder.rpartition("/")[0]

    def add(self, path: str, prompt: str, source: str) -> None:
        """Take account of one image's prompt, by where it stood."""
        self._by_file.setdefault(_plain_path(path), prompt)
        if source not in self.tables:
            self.tables.append(source)
        self.customary = True

    def take(self, folder: str, name: str, content: bytes) -> None:
        """Take account of one table."""
        if name.endswith("_stats.json") and (found := _downloads(content)):
            self.downloads.update(found)
            return
        files = len(self._named)
        try:
            understood = self._read(folder, name, content)
        except NotUnderstoodError as error:
            self.unread[name] = str(error)
            understood = False
        if len(self._named) == files:
            try:
                table = key_table(folder, name, content)
            except DoubledKeyError as error:
                self.unread[name], table = str(error), None
            self._by_key += [] if table is None else [table]
        if understood:
            self.tables.append(name)
            self.read.add(_path(folder, name))
            lines = extension(name) == "txt" and len(self._named) > files
            self.customary = self.customary or is_customary(name) or lines

    def prompt(self, path: str) -> str | None:
        """The prompt of an image by its path in the tree."""
        if not self.tables:
            return None
        plain = _plain_path(path)
        found = self._by_file.get(plain)
        if found is None and self._by_file:
            found = self._by_file.get(without_ending(plain))  # a table that leaves the ending out
        if found is None and self._found_by:
            key = next((key for key in self._short(plain) if self._found_by.get(key) == plain), None)
            found = None if key is None else self._by_file[key]
        if found is None and plain in self._moved:
            found = self._by_file[self._moved[plain]]
        if found is None and self._joined:
            found = self._by_its_key(path)
        folder = path
        while found is None and folder and self._by_folder:
            folder = folder.rpartition("/")[0]
            found = self._by_folder.get(folder)
        return found

    def _by_its_key(self, path: str) -> str | None:
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            for reading in self._joined.get(folder, ()):
                if (prompt := reading.prompt(path)) is not None:
                    return prompt
        return None

    def unread_notes(self, covered: int) -> list[str]:
        """A word on tables that seem to hold prompts and were not understood, or that have none for an image that lies here."""
        shown = [f"{escape_name(name)} beside the images is not understood: {why}" for name, why in self.unread.items()]
        if self._by_file and not covered and not self.unread:
            shown.append(
                f"{self._called()} has prompts for files that are not here, such as {escape_name(min(self._by_file))[:120]!r}"
            )
        return shown[:3]

    def covered(self, listing: Listing) -> int:
        """How many samples they have a prompt for."""
        if not self.tables:
            return 0
        parts = (part for part in listing.directories if not part.lacks)
        return sum(self.prompt(part.join(name)) is not None for part in parts for name in part.names)

    def notes(self, present: Iterable[str]) -> list[str]:
        """What a user should know of them, given the paths of all images that are there."""
        notes = []
        notes += self._told
        if self._moved:
            image, row = min(self._moved.items())
            notes.append(
                f"{self._called()} names files in other folders, such as {escape_name(row)}; images are found by the ends of these paths: that one is "
                f"{escape_name(image)}"
            )
        if lacking := self.missing(present):
            notes.append(missing_note(len(lacking), len(self._named), escape_name(lacking[0]), self._called()))
        if self.doubles:
            notes.append(
                f"{quantity(self.doubles, 'row')} of {self._called()} {'names' if self.doubles == 1 else 'name'} a file that an earlier row "
                "names: the first one counts"
            )
        for name, count in self.outvoted.items():
            if count:
                notes.append(
                    f"{quantity(count, 'row')} of {escape_name(name)} {'has' if count == 1 else 'have'} another prompt for an image than "
                    f"{self._called()}, which counts"
                )
        return notes + self.failed()

    def missing(self, present: Iterable[str]) -> list[str]:
        """Files that they name and that are not among those that are there."""
        if not self._named:
            return []
        elsewhere = {key for key, path in self._found_by.items() if path is not None}
        elsewhere |= set(self._moved.values())
        return sorted(self._named - elsewhere - {_plain_path(path) for path in present})

    def failed(self) -> list[str]:
        """A word on images that img2dataset could not download."""
        if not self.downloads["failed"]:
            return []
        return [
            f"{self.downloads['failed']:,} of {self.downloads['count']:,} images could not be downloaded, by img2dataset's accounts beside "
            "them (_stats.json): they are not here"
        ]

    def _called(self) -> str:
        return escape_name(", ".join(sorted(set(self.tables))))[:200]

    def _read(self, folder: str, name: str, content: bytes) -> bool:
        before = len(self._by_file) + len(self._by_folder)
        try:
            rows = list(table_rows(name, content))
        except UnicodeDecodeError:
            raise NotUnderstoodError("it is neither UTF-8 nor marked as UTF-16: save it as UTF-8") from None
        except (ValueError, RecursionError, csv.Error, pa.ArrowException, OSError):
            return False
        if len(rows) == 1 and extension(rows[0][0] or "") not in IMAGE_EXTENSIONS:
            rows = [(None, rows[0][1])]  # an object with an id of its own
        named: set[str] = set()
        for file, prompt in rows:
            if file is not None and prompt:
                path = _plain_path(f"{folder}/{file}" if folder else file)
                self.doubles += path in named
                self.outvoted[name] += path not in named and self._by_file.get(path, prompt) != prompt
                named.add(path)
                self._by_file.setdefault(path, prompt)
                if extension(path) in IMAGE_EXTENSIONS:
                    self._named.add(path)
                elif file.isdecimal() and len(file) <= _MAX_DIGITS:
                    self._by_file.setdefault(_plain_path(f"{folder}/{int(file)}"), prompt)
        if len(rows) == 1 and rows[0][0] is None and rows[0][1] and _FOR_A_FOLDER.fullmatch(name):
            self._by_folder[folder] = rows[0][1]
        self.of_prompts = self.of_prompts or bool(_SAYS_PROMPT.search(content[:4096].replace(b"\0", b"")))
        understood = len(self._by_file) + len(self._by_folder) > before
        if not understood and _OF_PROMPTS.fullmatch(name) and not any(file and prompt for file, prompt in rows):
            raise NotUnderstoodError("it does not say which file has which prompt")
        return understood


def missing_note(missing: int, of: int, example: str, table: str) -> str:
    """What a source says of files that a table names and that are not there."""
    are = "is" if missing == 1 else "are"
    return f"{quantity(missing, 'file')} of the {of:,} that {table} names, such as {example}, {are} missing: not there to be scored"


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _limit(name: str) -> int:
    return MAX_PARQUET_BYTES if extension(name) == "parquet" else MAX_TABLE_BYTES


def _downloads(content: bytes) -> dict[str, int]:
    try:
        found = read_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("count"), int):
        return {}
    failed = [found.get(key) for key in ("failed_to_download", "failed_to_resize")]
    return {"count": found["count"], "failed": sum(each for each in failed if isinstance(each, int))}


def _plain_path(path: str) -> str:
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


_LONGEST_END = 6
_TELLING = re.compile(r"(?=.*[^\W\d_]).{8,}")
"""Names that do more than count."""


def _ends(path: str) -> Iterator[str]:
    """The ends of a path by whole parts, the longest first."""
    parts = path.split("/")
    for count in range(min(len(parts), _LONGEST_END), 0, -1):
        yield "/".join(parts[-count:])
