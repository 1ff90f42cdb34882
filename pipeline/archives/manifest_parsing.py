"""What the rows of a manifest say: which columns they have, and each one's prompt, index, group and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from allfour.errors import ArchiveError
from allfour.pipeline.archives.base import NO_PROMPT_ID
from allfour.pipeline.archives.columns import (
    DOWNLOAD_FIRST,
    PATH_NAMES,
    PROMPT_NAMES,
    URL_NAMES,
    is_data,
    pick,
    suggestion,
    whole_number,
)
from allfour.pipeline.archives.manifest_reading import ManifestReader
from allfour.pipeline.archives.manifest_rows import OTHERS, Columns, Row
from allfour.pipeline.archives.naming import prompt_in_name
from allfour.pipeline.archives.options import ArchiveOptions
from allfour.pipeline.archives.parquet_columns import bytes_in_text
from allfour.pipeline.archives.remote import address_path, scheme_of, show_address
from allfour.pipeline.archives.text import Prompt, PromptBook, clean_text, escape_name, is_nothing
from allfour.pipeline.archives.tree_reading import prompt_in_path

_GIVE_THE_FOLDER = "; or, where images bear the number or the id of a row in their names, rescore their folder with archive.prompt_table set to this file"
_BY_PATH = ("folder", "name", "path")


class RowParser:
    """Rows of one manifest as the options say to take them."""

    def __init__(self, file: str, options: ArchiveOptions, reader: ManifestReader) -> None:
        self._options = options
        self._remote = scheme_of(file) is not None
        self._file = file
        self._shown = show_address(file)
        self._reader = reader

    def columns(self, names: Sequence[str]) -> Columns:
        """Which columns hold what.

        Raises
        ------
        ArchiveError
            If none is called as one of paths or of prompts customarily is.
        """
        options = self._options
        where = f"{self._shown}, line 1"
        path = pick(names, PATH_NAMES, options.image_column, what="path", where=where, option="image_column")
        if path is None:
            if any(name.lower() in URL_NAMES for name in names):
                raise ArchiveError(f"{where}: no column 'path', but one of addresses. {DOWNLOAD_FIRST}")
            keyed = pick(names, PROMPT_NAMES, options.prompt_column, what="", where=where, option="prompt_column")
            raise ArchiveError(
                f"{where}: no column 'path'. {suggestion('path', names)}. Or set image_column"
                f"{_GIVE_THE_FOLDER if keyed is not None and not self._remote else ''}"
            )
        prompt = None
        if options.prompt_from not in _BY_PATH:
            prompt = pick(
                names, PROMPT_NAMES, options.prompt_column, what="prompt", where=where, option="prompt_column"
            )
            if prompt is None and "prompt_id" not in names:
                raise ArchiveError(
                    f"{where}: no column 'prompt'. {suggestion('prompt', names)}. Or set prompt_column; or "
                    "prompt_from: folder, to take the folder in each path"
                )
        others = {name: pick(names, (name,), None, what=name, where=where, option="") for name in OTHERS}
        return Columns(path=path, prompt=prompt, **others)

    def parsed(self, row: Row, columns: Columns, book: PromptBook) -> tuple[Prompt, int | None, str | None, int | None]:
        """Prompt, index, group and seed of a row.

        Raises
        ------
        ArchiveError
            If one of them is missing or makes no sense, with the line.
        """
        values = row.values
        path = values.get(columns.path, "")
        if not path.strip():
            raise self._reader.error(row.line, f"has no {columns.path}")
        if _may_be_data(path) and bytes_in_text(path) is not None:
            raise self._reader.error(
                row.line,
                f"has an image itself, as text, in {columns.path}: a manifest names files. Write the table as a parquet, whose columns of "
                "base64 and data: texts are read",
            )
        named = values.get(columns.prompt_id or "", "").strip()
        text = values.get(columns.prompt or "", "").strip()
        fields: Mapping[str, str] = {}
        if columns.prompt is None and not named and self._options.prompt_from in ("name", "path"):
            prompt, fields = self._by_path(path, book)
        elif columns.prompt is None and not named:
            folder = path.rstrip("/").rpartition("/")[0].rpartition("/")[2]
            prompt = book.from_name(
                folder or address_path(self._file).rpartition("/")[0].rpartition("/")[2] or "images"
            )
        elif (text or self._reader.has_nulls) and not named and (is_nothing(text) or is_data(text)):
            prompt = Prompt(NO_PROMPT_ID, "")
        elif not text and not named:
            raise self._reader.error(row.line, f"has no {columns.prompt}")
        elif named:
            known = book.from_name(named)
            found = book.from_text(text) if text else known
            prompt = Prompt(known.id, clean_text(text) if text else known.text, known.group, found.cut_from)
        else:
            prompt = book.from_text(text)
        index: int | None = None
        if columns.index is not None:
            index = whole_number(values.get(columns.index, ""))
            if index is None or index < 0:
                shown = escape_name(values.get(columns.index, ""))[:40]
                raise self._reader.error(row.line, f"has {columns.index} '{shown}': expected a whole number from 0 on")
        seed: int | None = None
        if columns.seed is not None and values.get(columns.seed, "").strip():
            seed = whole_number(values[columns.seed])
            if seed is None:
                shown = escape_name(values[columns.seed])[:40]
                raise self._reader.error(row.line, f"has {columns.seed} '{shown}': expected a whole number, or nothing")
        group = values.get(columns.group or "", "").strip()
        if fields:
            seed = whole_number(fields.get("seed")) if seed is None else seed
            group = group or fields.get("group", "")
        return prompt, index, (clean_text(group) or None) if group else None, seed

    def fields(self, path: str) -> dict[str, str]:
        """What the path says besides the prompt, with prompt_from: path."""
        if self._options.prompt_from != "path":
            return {}
        fields = prompt_in_path(path.replace("\\", "/"), self._options.path_pattern or "")[1]
        return {name: value for name, value in fields.items() if name not in ("seed", "group")}

    def _by_path(self, path: str, book: PromptBook) -> tuple[Prompt, Mapping[str, str]]:
        """The prompt that a file's name or path holds, and the fields of the path."""
        path = path.replace("\\", "/")
        text: str | None
        fields: dict[str, str] = {}
        if self._options.prompt_from == "name":
            text = prompt_in_name(path.rpartition("/")[2])
        else:
            text, fields, _ = prompt_in_path(path, self._options.path_pattern or "")
        return (book.from_name(text) if text else Prompt(NO_PROMPT_ID, "")), fields

    def lacks(self) -> str:
        """Why rows have no prompt, where they have none."""
        found = {
            "name": "its name holds none",
            "path": f"its path does not match path_pattern {self._options.path_pattern}",
        }
        return found.get(self._options.prompt_from, "the column holds a word for nothing (nan, None, NULL), or data")


def _may_be_data(path: str) -> bool:
    """Whether a column may hold an image itself, as text: paths are shorter, or have an ending."""
    return path.startswith("data:") or (len(path) > 100 and "." not in path)
