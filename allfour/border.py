"""Where foreign text comes in: from APIs, archives, metadata, model and run folders. What passes is valid Unicode without NUL.

Python's strings hold lone surrogates, and JSON may spell them (`"\\ud800"`); no table, page, terminal or database can hold them.
So what comes from outside goes through here once, and nothing behind this has to think of it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

REPLACEMENT = "\ufffd"

_INVALID = re.compile("[\x00\ud800-\udfff]")
_SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
# A pair of escapes is one character; a backslash takes the next character with it, so that "\\ud800" stays what it says.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?P<code>[0-9a-fA-F]{4})|.)", re.DOTALL
)


def valid_text(text: str) -> str:
    """`text` with the replacement character in place of each lone surrogate and NUL; the very same text where it has none.

    >>> valid_text("caf\\u00e9"), valid_text("a\\ud800b\\x00")
    ('caf\\xe9', 'a\\ufffdb\\ufffd')
    """
    return _INVALID.sub(REPLACEMENT, text) if _INVALID.search(text) else text


_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and a pattern of no dots, by their categories, of which nothing is seen."""


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, marks of width and direction, fillers. Such a text is no prompt.

    >>> [is_blank(text) for text in ("", " \u200b", "\u3164", "*", "\u060c")]
    [True, True, True, False, False]
    """
    return all(char in _BLANKS or unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf") for char in text)


def read_json(data: bytes | str, *, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """What a JSON document of a stranger says, every string in it and every name of a key valid.

    Parameters
    ----------
    parse_constant
        What becomes of NaN and Infinity, as in `json.loads`.

    Raises
    ------
    ValueError
        It is no JSON.
    RecursionError
        It is nested too deeply.
    """
    if isinstance(data, bytes | bytearray):
        data = data.decode(json.detect_encoding(data), "replace")
    text = valid_text(data.removeprefix("\ufeff"))
    if _SUSPECT.search(text):
        text = _ESCAPE.sub(_valid_escape, text)
    return json.loads(text, parse_constant=parse_constant)


def _valid_escape(match: re.Match[str]) -> str:
    code = match["code"]
    if code is None:
        return match[0]
    number = int(code, 16)
    return r"\ufffd" if number == 0 or 0xD800 <= number <= 0xDFFF else match[0]
