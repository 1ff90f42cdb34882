"""Columns of manifests and tables: which is which, by their customary names."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence

from allfour.errors import ArchiveError
from allfour.pipeline.archives.text import escape_name

PROMPT_NAMES = (
    "prompt",
    "text_prompt",
    "input_prompt",
    "text",
    "caption",
    "title",
    "prompt_text",
    "positive_prompt",
    "description",
    "prompts",
)
"""Customary names of a column of prompts, the plainest first."""
PATH_NAMES = (
    "path", "file_name", "filename", "file", "image_path", "image", "img_path", "filepath", "file_path", "image_file",
    "image_name", "img", "images", "image_paths", "location", "image_filename", "image_file_name", "image_file_path", "img_name", "output_path",
)  # fmt: skip
"""Customary names of a column of files."""
URL_NAMES = ("url", "image_url", "img_url", "urls", "link")
DOWNLOAD_FIRST = (
    "Images are not fetched from it: download them with img2dataset, then rescore the folder that it writes"
)


def column_key(name: str) -> str:
    """A column's name as the customary names are written: `Image Path ` is `image_path`."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def parted_by(marks: str) -> str:
    """An expression of what parts two fields of a line: one of some marks with white space around it, or white space with a tab in it.

    Written plainly, as white space, a mark and white space, it would look at a line of tabs in every way of parting that.
    """
    return rf"(?:\s*+[{marks}]\s*+(?=\S)|(?=[^\S\t]*\t)\s*+)"


_LINE_END = re.compile(r"[\r\n]")


def separator_of(text: str) -> str:
    """What parts the columns of a table, by its header: commas, or where this has none the semicolons, tabs or bars that it has most of."""
    header = _LINE_END.split(text.lstrip("\r\n "), maxsplit=1)[0]
    if header.startswith("sep=") and len(header.rstrip()) == len("sep=") + 1:
        return header.rstrip()[-1]
    return "," if "," in header else max(",;\t|", key=header.count)


def is_data(text: str) -> bool:
    """Whether a text is a JSON object or list, which is not a prompt; braces of other kinds stand in prompts too."""
    text = text.strip()
    if (text[:1], text[-1:]) not in (("{", "}"), ("[", "]")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return listed(text) is not None or _PAIR.match(text) is not None


_PAIR = re.compile(r"\{\s*(['\"])[^'\"]{1,200}\1\s*:")
"""How an object begins as Python writes it."""
_ITEM = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*(,|\Z)")


def listed(text: str) -> list[str] | None:
    """The texts of a list, as JSON or Python writes it; None for anything else."""
    text = text.strip()
    if (text[:1], text[-1:]) != ("[", "]"):
        return None
    inner, at, found = text[1:-1], 0, []
    while at < len(inner):
        match = _ITEM.match(inner, at)
        if match is None:
            return None
        found.append(re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2]))
        at = match.end()
    return found or None


def pick(
    names: Sequence[str], customary: Sequence[str], chosen: str | None, *, what: str, where: str, option: str
) -> str | None:
    """The column that was chosen, or the first customary one (in any case of letters), or None.

    Raises
    ------
    ArchiveError
        If a column was chosen that is not there.
    """
    if chosen is not None:
        if chosen in names:
            return chosen
        raise ArchiveError(f"{where}: no {what} column {chosen!r} ({option}). {suggestion(chosen, names)}")
    lower = {column_key(name): name for name in reversed(names)}
    return next((lower[name] for name in customary if name in lower), None)


def suggestion(name: str, names: Sequence[str]) -> str:
    """'Did you mean ...?' with the columns there are."""
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1, cutoff=0.6)
    original = next((known for known in names if close and known.lower() == close[0]), None)
    hint = f"Did you mean '{escape_name(original)}'? " if original is not None else ""
    listed = ", ".join(escape_name(known) for known in names[:20]) or "none"
    return f"{hint}Columns: {listed}"


_NO_FRACTION = re.compile(r"(?<=\d)\.0+\Z")
"""As pandas writes whole numbers of a column that has gaps."""


def whole_number(text: str | None) -> int | None:
    """A whole number that fits 64 bits, or None."""
    if text is None:
        return None
    text = _NO_FRACTION.sub("", text.strip())
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
