"""Documents that vouch for themselves: a key `sha256` over all the rest, so that a flipped bit is damage and never another fact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from allfour.border import read_json

SEAL = "sha256"


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON document with its seal, which takes the place of an older one.

    >>> sealed({"format": 1})["sha256"][:8]
    '3f0a9925'
    """
    rest = {key: value for key, value in document.items() if key != SEAL}
    # the digest is of what a reader will find, not of tuples and the like that only the writer has
    found = read_json(json.dumps(rest, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
    return {**rest, SEAL: _digest(found)}


def unsealed(document: Any) -> Any:
    """The document without its seal. One that has none, of an earlier version or by hand, passes; so does what is not a mapping.

    Raises
    ------
    ValueError
        It is not the document that was sealed.
    """
    if not isinstance(document, dict) or SEAL not in document:
        return document
    rest = {key: value for key, value in document.items() if key != SEAL}
    if document[SEAL] != _digest(rest):
        raise ValueError(f"not as it was written: its {SEAL!r} is that of another content")
    return rest


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
