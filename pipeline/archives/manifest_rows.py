"""Rows of a manifest, which columns of them are what, and the shards that they fill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from allfour.pipeline.archives.base import Shard
from allfour.pipeline.archives.entries import leads_to_folder, local_stamp
from allfour.pipeline.archives.remote import scheme_of
from allfour.pipeline.archives.text import clean_text, escape_name

OTHERS = ("index", "group", "seed", "prompt_id")


class Row(NamedTuple):
    """One row of a manifest."""

    line: int
    """Line in the manifest, from 1, where the row begins."""
    offset: int
    """Byte where the row begins."""
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of it are what."""

    path: str
    prompt: str | None
    """None where prompts are the folders of the paths."""
    index: str | None
    group: str | None
    seed: str | None
    prompt_id: str | None


def extra_of(row: Row, columns: Columns) -> dict[str, str]:
    used = {columns.path, columns.prompt, columns.index, columns.group, columns.seed, columns.prompt_id}
    return {clean_text(name): clean_text(value) for name, value in row.values.items() if name not in used and value}


_WORD = 2**64 - 1


def key_of(*parts: str | int) -> int:
    """A number for what tells rows apart, within this process."""
    return hash(parts) & _WORD


def as_json(values: Mapping[str, str]) -> str:
    """`json.dumps` of a row's (name, value) pairs, sooner."""
    return _pairs(tuple(values)) % tuple(map(encode_basestring_ascii, values.values()))


@lru_cache(maxsize=64)
def _pairs(names: tuple[str, ...]) -> str:
    escaped = [encode_basestring_ascii(name).replace("%", "%%") for name in names]
    return f"[{', '.join(f'[{name}, %s]' for name in escaped)}]"


class FirstSaid:
    """Whether all rows of a prompt say the same of it; case and white space aside."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self.others: dict[str, str] = {}
        """Of prompts of which rows say several things, the first that is not the first."""

    def add(self, prompt_id: str, said: str) -> None:
        key = key_of(" ".join(said.casefold().split()))
        if self._first.setdefault(prompt_id, key) != key:
            self.others.setdefault(prompt_id, said)


MISSING = b"missing"


def file_stamp(path: str) -> tuple[int, bytes]:
    """Size of a file, and what changes with its content; -1 and MISSING where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  (a path may be no valid one)
    except (OSError, ValueError):
        return -1, MISSING
    return status.st_size, f"{status.st_size} {local_stamp(path, status)}".encode()


_LOOKED_IN = 100


def near(folder: str, named: str) -> str:
    """Where a file that is not there seems to be: under the rest of its path, with an ending, or in a folder beside the manifest.

    Nothing of it is taken: it is said, for a person to decide.
    """
    parts = [part for part in named.replace("\\", "/").split("/") if part]
    for start in range(1, len(parts)):
        rest = "/".join(parts[start:])
        if os.path.isfile(folder + rest):  # noqa: PTH113
            return (
                f"; {escape_name(rest)} is there, so the paths are of another folder: leave out what stands before it"
            )
    above, name = os.path.split(os.path.normpath(folder + "/".join(parts)))
    try:
        beside = os.listdir(above)  # noqa: PTH208
        folders = [entry.name for entry in os.scandir(folder) if leads_to_folder(entry)][:_LOOKED_IN]
    except (OSError, ValueError):
        return ""
    ended = next((each for each in sorted(beside) if each.rpartition(".")[0] == name), None)
    if ended is not None:
        return f"; {escape_name(ended)} is there: write the paths with their endings"
    inside = next((each for each in sorted(folders) if os.path.isfile(os.path.join(folder, each, *parts))), None)  # noqa: PTH113, PTH118
    return (
        ""
        if inside is None
        else f"; it is in {escape_name(inside)}: put the manifest there, or write the paths with that folder"
    )


def is_inside(named: str) -> bool:
    """A relative path that stays in the manifest's folder, whatever the storage makes of it."""
    parts = named.replace("\\", "/").split("/")
    return scheme_of(named) is None and "://" not in named and all(part not in ("", ".", "..") for part in parts)


@dataclass(slots=True)
class Piece:
    """The shard that is being filled."""

    digest: Any
    first: Row | None = None
    rows: int = 0

    def shard(self, ordinal: int, columns: Columns, names: Sequence[str]) -> Shard:
        assert self.first is not None
        text = {
            "offset": self.first.offset,
            "line": self.first.line,
            "rows": self.rows,
            "names": list(names),
            "columns": {name: getattr(columns, name) for name in columns.__slots__},
        }
        return Shard(
            id=f"{ordinal:06d}",
            ordinal=ordinal,
            fingerprint=self.digest.hexdigest(),
            images=self.rows,
            payload=json.dumps(text).encode(),
        )
