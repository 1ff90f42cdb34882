"""A manifest's lines as text, with where each begins, and JSON objects as rows of columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from allfour.border import read_json
from allfour.errors import ArchiveError
from allfour.pipeline.archives.captions import prompt_in_object
from allfour.pipeline.archives.columns import PATH_NAMES, PROMPT_NAMES, column_key, listed
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension

MAX_LINE_BYTES = 2**20
READ_BYTES = 2**18


class Lines:
    """Lines of text from bytes, with the offset and number of the one that comes next; `returns`: they may end in a bare carriage return
    too, as older spreadsheets write them."""

    def __init__(self, stream: BinaryIO, shown: str, *, offset: int, line: int, returns: bool = False) -> None:
        self._stream = stream
        self._shown = shown
        self.offset = self.last_offset = offset
        self.line = self.last_line = line
        self._buffer, self._start = b"", 0
        self._returns = returns
        self._next = {b"\n": -1, b"\r": -1}
        """Where each stands next in the buffer; its length where it does not. Found once for many lines, which may all end in the other."""
        if offset:
            stream.seek(offset)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._next_line()
        if not raw:
            raise StopIteration
        self.last_line, self.last_offset = self.line, self.offset
        self.line += 1
        self.offset += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            raise self._error(f"is longer than {MAX_LINE_BYTES:,} bytes; is this a manifest?")
        if b"\0" in raw:
            raise self._error("holds a zero byte; is this a text file?")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(
                f"is not UTF-8 (byte {error.start + 1} of it is {raw[error.start]:#04x}); save it as UTF-8"
            ) from None
        return text.removeprefix("\ufeff") if self.last_line == 1 else text

    def _error(self, what: str) -> ArchiveError:
        return ArchiveError(f"{self._shown}: line {self.last_line} {what}")

    def _next_line(self) -> bytes:
        stop = self._end()
        while not stop and len(self._buffer) - self._start <= MAX_LINE_BYTES:
            more = self._stream.read(READ_BYTES)
            self._buffer, self._start = self._buffer[self._start :] + more, 0
            self._next = dict.fromkeys(self._next, -1)
            if not more:
                break
            stop = self._end()
        stop = stop or len(self._buffer)
        line, self._start = self._buffer[self._start : stop], stop
        return line

    def _end(self) -> int:
        """Where the next line ends; 0 where the buffer does not show it."""
        feed = self._find(b"\n")
        stop = feed + 1 if feed < len(self._buffer) else 0
        if not self._returns or (found := self._find(b"\r")) >= feed or found + 1 == feed:
            return stop
        return found + 1 if found + 1 < len(self._buffer) else 0  # a line feed may follow

    def _find(self, mark: bytes) -> int:
        if self._next[mark] < self._start:
            found = self._buffer.find(mark, self._start)
            self._next[mark] = len(self._buffer) if found < 0 else found
        return self._next[mark]


MAX_LIST_BYTES = 2**30


def objects_in(stream: BinaryIO, shown: str) -> list[Any]:
    """The entries of a list in one JSON document; of an object, the one list of objects in it, or a row for every file that it names.

    Raises
    ------
    ArchiveError
        If it is neither.
    """
    content = stream.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise ArchiveError(f"{shown} is larger than {MAX_LIST_BYTES:,} bytes: write one object a line, as .jsonl")
    try:
        value = read_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{shown} is no JSON ({error})") from None
    if isinstance(value, dict):
        lists = [
            inner for inner in value.values() if isinstance(inner, list) and any(isinstance(e, dict) for e in inner)
        ]
        if any(extension(key) in IMAGE_EXTENSIONS for key in value):
            return [_of_file(key, inner) for key, inner in value.items()]
        if len(lists) == 1:
            return lists[0]
    if not isinstance(value, list):
        raise ArchiveError(
            f'{shown} holds no list of objects such as [{{"path": ..., "prompt": ...}}], and no object with a prompt for every file\'s name'
        )
    return value


def _of_file(name: str, inner: Any) -> Any:
    """A row for a file's name and what is said of it: a prompt, or an object with one (DiffusionDB calls it p)."""
    if isinstance(inner, str):
        return {"file_name": name, "prompt": inner}
    if not isinstance(inner, dict):
        return inner
    if isinstance(inner.get("p"), str) and {column_key(key) for key in inner}.isdisjoint(PROMPT_NAMES):
        inner = {"prompt": inner["p"], **{key: field for key, field in inner.items() if key != "p"}}
    return {"file_name": name, **{key: field for key, field in inner.items() if key != "file_name"}}


def flattened(value: dict[str, Any]) -> Iterator[dict[str, str]]:
    """An object as rows: one for each image where it names a list of them; a prompt inside an object is lifted out of it."""
    value = {str(key): field for key, field in value.items()}
    lower = {column_key(key) for key in value}
    for key, inner in value.items():
        if column_key(key) in PROMPT_NAMES and isinstance(inner, dict | list):
            value[key] = (prompt_in_object(inner)[0] if isinstance(inner, dict) else None) or ""
    if lower.isdisjoint(PROMPT_NAMES):
        found, _ = prompt_in_object({key: field for key, field in value.items() if isinstance(field, dict)})
        value |= {"prompt": found} if found else {}
    several = next(
        (key for key, field in value.items() if column_key(key) in PATH_NAMES and isinstance(field, list) and field),
        None,
    )
    images = value.pop(several) if several is not None else []
    if several is not None and all(isinstance(image, str) for image in images):
        for image in images:
            yield {**{key: as_text(field) for key, field in value.items()}, several: image}
    elif several is not None and all(isinstance(image, dict) for image in images):
        for image in images:
            yield from flattened({**value, **image})
    else:
        yield {key: as_text(field) for key, field in (value | ({several: images} if several else {})).items()}


def spread_out(values: dict[str, str]) -> Iterator[dict[str, str]]:
    """A row of a table as rows: one for each image where a text lists them."""
    for key, text in values.items():
        if text.startswith("[") and column_key(key) in PATH_NAMES and (images := listed(text)) is not None:
            yield from ({**values, key: image} for image in images)
            return
    yield values


def as_text(value: Any) -> str:
    """A value as a column of text has it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
