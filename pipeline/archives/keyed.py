"""Prompts by key: a table that gives every prompt a number or an id, and images whose names or folders contain it.

Benchmarks keep their images this way (DrawBench, PartiPrompts, HEIM): a list of prompts in one file, images called `00012_3.png` beside it. Where in a path
the key stands is one question for the whole archive, and it is answered only if one answer fits. A list whose rows have no keys must have
exactly as many rows as there are numbers among the images, or its very words must stand in the names.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from allfour.pipeline.archives.key_tables import KeyTable
from allfour.pipeline.archives.naming import PathPattern, without_ending
from allfour.pipeline.archives.probing import spread
from allfour.pipeline.archives.text import escape_name

_LEVELS = 4
"""Parts of a path, from the file's name outwards, in which a key is looked for."""
_TRIED = 200
"""Images on which a reading is tried before it is held against all."""
_LAST = "last"
_FORMS: Mapping[str, re.Pattern[str]] = {
    "whole": re.compile(r"(.+)", re.DOTALL),
    "counted": re.compile(r"(.+)[-_ .]\(?\d{1,9}\)?"),
    "labelled": re.compile(
        r"(.(?:.*?[^-_ .])??)[-_ .]++(?:seed|sample|s|img|image|n|v|var|variant|copy|rep|gen|run|trial|idx)[-_ ]?\d{1,12}",
        re.IGNORECASE,
    ),
    "first": re.compile(r"([^-_ .]+)[-_ .].+"),
    _LAST: re.compile(r".*[-_ .](\d{1,9})"),
}
"""What of a part is the key: all of it, or what stands before the number of the sample, its seed, or anything else; or the number at its
end, as in `sdxl_00012`, which must be of one image and one row each: else it may count samples."""
_WORD_AND_NUMBER = re.compile(
    r"(?:prompt|p|id|idx|index|no|nr|image|img|pic|picture|item|case)[-_ ]?(\d{1,18})", re.IGNORECASE
)
_MAX_DIGITS = 18
_NO_WORDS = re.compile(r"[\W_]+")

BY_KEY, BY_TEXT = "key", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Where paths bear the keys of one table."""

    table: KeyTable
    scope: str = ""
    """The folder below which it is read."""
    level: int = 0
    """0 for the file's name, 1 for its folder, and so on outwards."""
    form: str = "whole"
    by: str = BY_KEY
    """What stands there: the key, or the words of the prompt."""
    start: int = 0
    """What the first row counts as, where rows have no keys."""
    pattern: PathPattern | None = None
    """What a user said of paths, in place of a level and a form."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Key by what stands for it: a number without its zeros, or words alone."""

    def key(self, path: str) -> str | None:
        """The key that a path bears; None for none that the table has."""
        if not _is_below(path, self.scope):
            return None
        if self.pattern is not None:
            fields = self.pattern.fields(path)
            return self._known(fields["key"]) if fields is not None else None
        parts = path[len(self.scope) + 1 if self.scope else 0 :].split("/")
        if self.level >= len(parts):
            return None
        part = parts[-1 - self.level]
        match = _FORMS[self.form].fullmatch(part if self.level else without_ending(part))
        return self._known(match[1]) if match else None

    def _known(self, text: str) -> str | None:
        if self.by == BY_TEXT:
            return self.keys.get(plain_words(text))
        if self.table.column is not None and text in self.table.prompts:
            return text
        if not text.isdecimal():
            match = _WORD_AND_NUMBER.fullmatch(text)
            text = match[1] if match else ""
        return self.keys.get(str(int(text))) if text and len(text) <= _MAX_DIGITS else None

    def prompt(self, path: str) -> str | None:
        """The prompt of an image; None for one that bears no key of the table."""
        key = self.key(path)
        return None if key is None else self.table.prompts[key]

    def told(self, paths: Sequence[str]) -> str:
        """What is said of the join, by the example of one image."""
        example = next((path for path in paths if self.key(path) is not None), "")
        key = self.key(example) or ""
        prompt, shown = self.table.prompts.get(key, "")[:80], escape_name(example)
        name = escape_name(self.table.name)
        if self.by == BY_TEXT:
            return f"images bear the prompts of {name} in their {self._where()}: {shown} is of {prompt!r}"
        if self.table.column is None:
            row = f"row {int(key or 0) + self.start:,}"
            return f"images bear the numbers of the rows of {name}, counted from {self.start}, in their {self._where()}: {shown} is of {row}, {prompt!r}"
        column = escape_name(self.table.column)
        return f"images bear the {column} of {name} in their {self._where()}: {shown} is of {escape_name(key)!r}, {prompt!r}"

    def _where(self) -> str:
        return "paths" if self.pattern is not None else "folders' names" if self.level else "names"


def plain_words(text: str) -> str:
    """A text by its letters and digits alone, as names of files have it."""
    return _NO_WORDS.sub(" ", text).strip().casefold()


def keys_by_number(table: KeyTable, start: int) -> dict[str, str]:
    """A table's keys by their numbers; where rows have no keys the first is `start`."""
    numbers = [(int(key), key) for key in table.prompts if key.isdecimal() and len(key) <= _MAX_DIGITS]
    if table.column is None:
        return {str(number + start): key for number, key in numbers}
    return (
        {str(number): key for number, key in numbers} if len({number for number, _ in numbers}) == len(numbers) else {}
    )


def _keys_by_words(table: KeyTable) -> dict[str, str]:
    words = [(plain_words(prompt), key) for key, prompt in table.prompts.items()]
    return {word: key for word, key in words if " " in word}  # one word is the name of many things


def find_reading(
    table: KeyTable, paths: Sequence[str], *, named: frozenset[str] = frozenset(), start: int | None = None
) -> Reading | str | None:
    """How images bear a table's keys.

    Parameters
    ----------
    table
        Keys and prompts.
    paths
        Of all images that are samples, sorted.
    named
        Folders whose names may be prompts: numbers of files in several of these count their samples.
    start
        What the first row counts as, where a user said it.

    Returns
    -------
    The reading; a text where there are several that fit; None where there is none.
    """
    scope = scope_of(table.folder, paths)
    below = paths_below(paths, scope)
    if not below:
        return None
    tried = [below[at] for at in spread(len(below), _TRIED)]
    found: list[tuple[Reading, int, tuple[str | None, ...]]] = []
    shifted: str | None = None
    single = len({path.rpartition("/")[0] for path in below}) == 1
    for reading in _readings(table, scope, start):
        exact = reading.by == BY_KEY and table.column is None and start is None
        least = len(tried) if exact else -(-len(tried) // 2)
        if sum(reading.key(path) is not None for path in tried) < least:
            continue
        keys = tuple(reading.key(path) for path in below)
        borne, used = sum(key is not None for key in keys), len({*keys} - {None})
        if reading.form == _LAST and not borne == used == len(below) == len(table.prompts):
            continue
        fits = borne == len(below) or used == len(table.prompts)
        if not (borne == len(below) and used == len(table.prompts) and single) and _counts_samples(
            reading, below, named
        ):
            continue
        if (exact and (borne < len(below) or used < len(table.prompts))) or 2 * borne < len(below):
            continue
        if reading.by == BY_TEXT and reading.level and borne < len(below):
            continue  # folders that are not in the list have names too
        if not fits and table.counts:
            shifted = shifted or _shifted(reading, below)
            continue
        if keys not in [each for _, _, each in found]:
            found.append((reading, used, keys))
    whole = [reading for reading, used, _ in found if used == len(table.prompts)]
    if whole:
        return max(whole, key=lambda reading: reading.level)  # PROMPT/SAMPLE, as folders have it
    if len(found) <= 1:
        return found[0][0] if found else shifted
    first, second = (reading for reading, _, _ in found[:2])
    path = next((path for path in below if first.key(path) != second.key(path)), below[0])
    return f"{escape_name(path)} may be of {first.key(path)} or of {second.key(path)}"


def _shifted(reading: Reading, paths: Sequence[str]) -> str:
    """What is said of numbers that begin elsewhere in the table and in the names: then those that agree are of others."""
    keys = {reading.key(path) for path in paths}
    lone = next(path for path in paths if reading.key(path) is None)
    unused = next(key for key in reading.table.prompts if key not in keys)
    return (
        f"{escape_name(lone)} has no {escape_name(reading.table.column or 'row')} in it, and {escape_name(unused)} no image: they may be counted from "
        "another number"
    )


def _readings(table: KeyTable, scope: str, start: int | None) -> Iterator[Reading]:
    starts = (0,) if table.column is not None else (0, 1) if start is None else (start,)
    ways = [(BY_KEY, each, keys_by_number(table, each)) for each in starts]
    for by, first, keys in [*ways, (BY_TEXT, 0, _keys_by_words(table))]:
        for level in range(_LEVELS):
            for form in _FORMS:
                yield Reading(table=table, scope=scope, level=level, form=form, by=by, start=first, keys=keys)


def _counts_samples(reading: Reading, paths: Sequence[str], named: frozenset[str]) -> bool:
    """Whether numbers of files may count the samples of folders that have names of their own."""
    if reading.level or reading.by == BY_TEXT or not named or not reading.table.counts:
        return False
    return not named.isdisjoint(path.rpartition("/")[0] for path in paths)


def scope_of(folder: str, paths: Sequence[str]) -> str:
    """The nearest folder around a table that has images in it or below, of sorted paths."""
    while folder and not paths_below(paths, folder):
        folder = folder.rpartition("/")[0]
    return folder


def paths_below(paths: Sequence[str], folder: str) -> Sequence[str]:
    """Those of sorted paths that lie in a folder, or below it; all lie below the root."""
    if not folder:
        return paths
    return paths[bisect_left(paths, f"{folder}/") : bisect_left(paths, f"{folder}{_AFTER_SLASH}")]


_AFTER_SLASH = chr(ord("/") + 1)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def several_folders(reading: Reading, paths: Sequence[str]) -> list[str]:
    """A word on folders whose files bear the same keys, as those of several models do."""
    if reading.level or reading.pattern is not None:
        return []
    folders: dict[str, set[str]] = {}
    for path in paths:
        if (key := reading.key(path)) is not None:
            folders.setdefault(key, set()).add(path.rpartition("/")[0])
    several = next((sorted(each) for each in folders.values() if len(each) > 1), None)
    if several is None:
        return []
    shown = " and ".join(escape_name(folder) or "the root" for folder in several[:2])
    return [
        f"images of one prompt lie in several folders, such as {shown}: where these are models, rescore each by itself and compare the runs"
    ]


def not_borne(table: KeyTable) -> str:
    """Why a table says nothing of the images that lie here."""
    if table.column is not None:
        key = next(iter(table.prompts), "")
        return f"its {escape_name(table.column)}, such as {escape_name(key)!r}, is not found in the names of these images and folders{TOLD_BY_PATTERN}"
    rows = len(table.prompts)
    return (
        f"its {rows:,} prompts say of no image which is its own, and the images are not numbered as its rows are (0 to {rows - 1:,}, or 1 to "
        f"{rows:,}){TOLD_BY_PATTERN}"
    )


TOLD_BY_PATTERN = "; archive.prompt_table and a path_pattern such as '{key}_{index}' say how they are"
