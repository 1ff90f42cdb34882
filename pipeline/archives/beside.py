"""Tables that lie beside images in a tree: imagefolder's metadata.csv and .jsonl, DiffusionDB's JSON, GenEval's metadata.jsonl.

Only a table that is understood says anything: one that names files and prompts, or a single object with a prompt, which is
that of all images in its folder and below.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from allfour.border import read_json
from allfour.pipeline.archives.captions import prompt_in_object
from allfour.pipeline.archives.columns import PATH_NAMES, PROMPT_NAMES, pick
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.listing import Listing, Tree
from allfour.pipeline.archives.text import is_nothing

MAX_TABLES = 1_000
MAX_TABLE_BYTES = 256 * 2**20
_CUSTOMARY = re.compile(
    r"metadata\.(csv|tsv|jsonl?|ndjson)|part-\d+\.json|(captions|prompts)\.(csv|tsv|jsonl?)", re.IGNORECASE
)
_FOR_A_FOLDER = re.compile(r"(metadata|info|prompt|config|params|settings)\.jsonl?", re.IGNORECASE)
_FILE_NAMES = (*PATH_NAMES, "id", "key", "name")
_PROMPT_KEYS = ("p", *PROMPT_NAMES)


class Beside:
    """Prompts of a tree's images by the tables in it."""

    def __init__(self, tree: Tree, listing: Listing) -> None:
        self._by_file: dict[str, str] = {}
        self._by_folder: dict[str, str] = {}
        self.tables: list[str] = []
        """Names of those that said something."""
        self.customary = False
        """Whether one of them has a name that such tables customarily have."""
        tables = [(folder, entry) for folder, entry in listing.tables if entry.size <= MAX_TABLE_BYTES][:MAX_TABLES]
        paths = [(f"{folder}/{entry.name}" if folder else entry.name, entry.size) for folder, entry in tables]
        contents = tree.read_all(paths, limit=MAX_TABLE_BYTES) if paths else iter(())
        for (folder, entry), content in zip(tables, contents, strict=True):
            if isinstance(content, bytes) and self._read(folder, entry.name, content):
                self.tables.append(entry.name)
                self.customary = self.customary or bool(_CUSTOMARY.fullmatch(entry.name))

    def prompt(self, path: str) -> str | None:
        """The prompt of an image by its path in the tree."""
        if not self.tables:
            return None
        found = self._by_file.get(_plain_path(path))
        folder = path
        while found is None and folder and self._by_folder:
            folder = folder.rpartition("/")[0]
            found = self._by_folder.get(folder)
        return found

    def covered(self, listing: Listing) -> int:
        """How many samples they have a prompt for."""
        if not self.tables:
            return 0
        parts = (part for part in listing.directories if not part.lacks)
        return sum(self.prompt(part.join(name)) is not None for part in parts for name in part.names)

    def _read(self, folder: str, name: str, content: bytes) -> bool:
        before = len(self._by_file) + len(self._by_folder)
        try:
            text = content.decode("utf-8-sig")
            rows = list(_csv_rows(text, name) if extension(name) in ("csv", "tsv") else _json_rows(text))
        except (ValueError, RecursionError, csv.Error):
            return False
        for file, prompt in rows:
            if file is not None and prompt:
                self._by_file.setdefault(_plain_path(f"{folder}/{file}" if folder else file), prompt)
        if len(rows) == 1 and rows[0][0] is None and rows[0][1] and _FOR_A_FOLDER.fullmatch(name):
            self._by_folder[folder] = rows[0][1]
        return len(self._by_file) + len(self._by_folder) > before


def _plain_path(path: str) -> str:
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _csv_rows(text: str, name: str) -> Iterator[tuple[str | None, str | None]]:
    rows = csv.reader(io.StringIO(text), delimiter="\t" if extension(name) == "tsv" else ",")
    names = next(rows, [])
    file = pick(names, PATH_NAMES, None, what="", where="", option="")
    prompt = pick(names, PROMPT_NAMES, None, what="", where="", option="")
    if file is None or prompt is None:
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
    if isinstance(values, dict) and any(extension(str(key)) in IMAGE_EXTENSIONS for key in values):
        for key, value in values.items():
            yield str(key), _prompt_in(value)
        return
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            lower = {str(key).lower(): field for key, field in value.items()}
            file = next((lower[key] for key in _FILE_NAMES if isinstance(lower.get(key), str)), None)
            yield (file if file and extension(file) in IMAGE_EXTENSIONS else None), _prompt_in(value)


def _prompt_in(value: Any) -> str | None:
    if isinstance(value, str):
        return _text_or_none(value)
    if not isinstance(value, Mapping):
        return None
    found = next((value[key] for key in _PROMPT_KEYS if isinstance(value.get(key), str)), None)
    return _text_or_none(found) if found is not None else prompt_in_object(value)[0]


def _text_or_none(text: str) -> str | None:
    return None if is_nothing(text) else text.strip()
