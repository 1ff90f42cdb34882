"""Tables that lie beside images in a tree: imagefolder's metadata.csv, .jsonl and .parquet, DiffusionDB's JSON, GenEval's metadata.jsonl.

Only a table that is understood says anything: one that names files and prompts, or a single object with a prompt, which is
that of all images in its folder and below.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.pipeline.archives.captions import caption_in_file, may_be_prompt, prompt_in_object
from allfour.pipeline.archives.columns import PATH_NAMES, PROMPT_NAMES, column_key, pick, separator_of
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.listing import Listing, Tree
from allfour.pipeline.archives.naming import without_ending
from allfour.pipeline.archives.text import escape_name, is_nothing
from allfour.pipeline.words import quantity

MAX_TABLES = 1_000
MAX_TABLE_BYTES = 256 * 2**20
MAX_PARQUET_BYTES = 32 * 2**20
"""Larger ones hold more than names and prompts."""
_CUSTOMARY = re.compile(
    r"metadata\.(csv|tsv|jsonl?|ndjson|parquet)|part-\d+\.json|captions_\w{1,20}\.json|(captions|prompts)\.(csv|tsv|jsonl?|parquet)",
    re.IGNORECASE,
)
_FOR_A_FOLDER = re.compile(
    r"(metadata|info|prompt|config|params|settings)\.jsonl?|(prompt|caption|text|description)\.txt", re.IGNORECASE
)
_OF_PROMPTS = re.compile(r"(captions|prompts)\.(csv|tsv|jsonl?|parquet)", re.IGNORECASE)
_SAYS_PROMPT = re.compile(rb"(?<!negative)(?<!negative[-_ ])prompt", re.IGNORECASE)
_MAX_DIGITS = 18
_FILE_NAMES = (*PATH_NAMES, "id", "key", "name")
_PROMPT_KEYS = ("p", *PROMPT_NAMES)


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
        self.downloads: Counter[str] = Counter()
        """What img2dataset's accounts say: `count` of addresses, `failed` ones."""

    @classmethod
    def of_tree(cls, tree: Tree, listing: Listing) -> Beside:
        """What the tables of a tree say."""
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
        paths = [(f"{folder}/{entry.name}" if folder else entry.name, entry.size) for folder, entry in tables]
        contents = tree.read_all(paths, limit=MAX_TABLE_BYTES) if paths else iter(())
        for (folder, entry), content in zip(tables, contents, strict=True):
            if isinstance(content, bytes):
                beside.take(folder, entry.name, content)
        beside.look_for(listing.paths())
        return beside

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

    def take(self, folder: str, name: str, content: bytes) -> None:
        """Take account of one table."""
        if name.endswith("_stats.json") and (found := _downloads(content)):
            self.downloads.update(found)
            return
        try:
            understood = self._read(folder, name, content)
        except _NotUnderstoodError as error:
            self.unread[name] = str(error)
            return
        if understood:
            self.tables.append(name)
            self.customary = self.customary or is_customary(name)

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
        folder = path
        while found is None and folder and self._by_folder:
            folder = folder.rpartition("/")[0]
            found = self._by_folder.get(folder)
        return found

    def unread_notes(self, covered: int) -> list[str]:
        """A word on tables that seem to hold prompts and were not understood, or that have none for an image that lies here."""
        shown = [f"{escape_name(name)} beside the images is not understood: {why}" for name, why in self.unread.items()]
        if self._by_file and not covered:
            shown.append(
                f"{self._called()} has prompts for files that are not here, such as {escape_name(min(self._by_file))!r}"
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
            rows = list(_rows(name, content))
        except UnicodeDecodeError:
            raise _NotUnderstoodError("it is neither UTF-8 nor marked as UTF-16: save it as UTF-8") from None
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
            raise _NotUnderstoodError("it does not say which file has which prompt")
        return understood


def is_customary(name: str) -> bool:
    """Whether tables of prompts beside images are customarily called so."""
    return bool(_CUSTOMARY.fullmatch(name))


def missing_note(missing: int, of: int, example: str, table: str) -> str:
    """What a source says of files that a table names and that are not there."""
    are = "is" if missing == 1 else "are"
    return f"{quantity(missing, 'file')} of the {of:,} that {table} names, such as {example}, {are} missing: not there to be scored"


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


def _rows(name: str, content: bytes) -> Iterator[tuple[str | None, str | None]]:
    """File and prompt of every row of a table."""
    ending = extension(name)
    if ending == "txt":
        text = caption_in_file(name, content)[0]
        return iter([(None, text)] if text and "\n" not in text else [])
    if ending == "parquet":
        return _parquet_rows(content)
    text = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    return _csv_rows(text, name) if ending in ("csv", "tsv") else _json_rows(text)


def _parquet_rows(content: bytes) -> Iterator[tuple[str | None, str | None]]:
    with pq.ParquetFile(pa.BufferReader(content)) as table:
        texts = [
            each.name
            for each in table.schema_arrow
            if pa.types.is_string(each.type) or pa.types.is_large_string(each.type)
        ]
        file = pick(texts, PATH_NAMES, None, what="", where="", option="")
        prompt = pick(texts, PROMPT_NAMES, None, what="", where="", option="")
        if file is None or prompt is None:
            return
        for batch in table.iter_batches(columns=[file, prompt], use_threads=False):
            for row in batch.to_pylist():
                if row[file]:
                    yield row[file], _text_or_none(row[prompt] or "")


def _plain_path(path: str) -> str:
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


class _NotUnderstoodError(Exception):
    """Why a table that seems to hold prompts says nothing."""


def _csv_rows(text: str, name: str) -> Iterator[tuple[str | None, str | None]]:
    header = text.lstrip().partition("\n")[0]
    rows = csv.reader(
        io.StringIO(text, newline=None), delimiter="\t" if extension(name) == "tsv" else separator_of(header)
    )
    names = next((row for row in rows if row and not row[0].startswith("sep=")), [])
    file = pick(names, _FILE_NAMES, None, what="", where="", option="")
    able = [
        each for each in names if is_customary(name) or column_key(each) != "description"
    ]  # of what, a table of any name does not say
    prompt = pick(able, PROMPT_NAMES, None, what="", where="", option="")
    if file is None or prompt is None:
        lacks = " and ".join(
            what
            for what, found in (("files (such as file_name)", file), ("prompts (such as prompt)", prompt))
            if found is None
        )
        if is_customary(name) or any("prompt" in each.lower() or "caption" in each.lower() for each in names):
            columns = ", ".join(map(escape_name, names[:20]))[:300]
            raise _NotUnderstoodError(
                f"it has no column of {lacks}. Its columns: {columns}. Rescored by itself, it is read with archive.image_column and prompt_column"
            )
        return
    at, of = names.index(file), names.index(prompt)
    for row in rows:
        if len(row) > max(at, of):
            yield row[at], _text_or_none(row[of])


def _json_rows(text: str) -> Iterator[tuple[str | None, str | None]]:
    try:
        values = read_json(text)
    except ValueError:
        values = [read_json(line) for line in text.splitlines() if line.strip()]
    if (
        isinstance(values, dict)
        and isinstance(values.get("annotations"), list)
        and isinstance(values.get("images"), list)
    ):
        yield from _coco_rows(values["images"], values["annotations"])
        return
    if isinstance(values, dict) and any(extension(str(key)) in IMAGE_EXTENSIONS for key in values):
        for key, value in values.items():
            yield str(key), _prompt_in(value)
        return
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            lower = {column_key(str(key)): field for key, field in value.items()}
            file = next((lower[key] for key in _FILE_NAMES if isinstance(lower.get(key), str | int)), None)
            yield (None if file is None or isinstance(file, bool) else str(file)), _prompt_in({**value, **lower})


def _coco_rows(images: list[Any], annotations: list[Any]) -> Iterator[tuple[str | None, str | None]]:
    """Files and their first captions, of the form that the data set COCO has."""
    captions: dict[str, str] = {}
    for each in annotations:
        if isinstance(each, dict) and isinstance(each.get("caption"), str):
            captions.setdefault(str(each.get("image_id")), each["caption"])
    for each in images:
        if isinstance(each, dict) and isinstance(each.get("file_name"), str):
            yield each["file_name"], _text_or_none(captions.get(str(each.get("id")), ""))


def _prompt_in(value: Any) -> str | None:
    if isinstance(value, str):
        return _text_or_none(value)
    if not isinstance(value, Mapping):
        return None
    found = next(
        (value[key] for key in _PROMPT_KEYS if isinstance(value.get(key), str) and may_be_prompt(value, key)), None
    )
    return _text_or_none(found) if found is not None else prompt_in_object(value)[0]


def _text_or_none(text: str) -> str | None:
    return None if is_nothing(text) else text.strip()
