"""Prompts in caption files beside an image: plain text, a web UI's parameters, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from allfour.border import read_json
from allfour.pipeline.archives.dialects import has_settings, prompt_in_parameters
from allfour.pipeline.archives.kinds import IMAGE_EXTENSIONS, extension
from allfour.pipeline.archives.text import is_nothing

CAPTION_EXTENSIONS = ("txt", "caption", "cap", "json")
"""Endings of caption files, in the order in which they are looked for."""

_CAPTION_KEYS = ("prompt", "caption", "text", "TEXT", "Prompt", "positive_prompt", "description", "title")
_HOLDERS = ("sui_image_params", "params", "parameters", "metadata", "meta")
_MAX_EXTRA_FIELDS = 64


def caption_in_file(name: str, data: bytes) -> tuple[str | None, dict[str, str]]:
    """Prompt and further fields of a caption file: text, or a JSON object with a prompt, caption or text.

    Returns
    -------
    (None, {}) where the file holds no caption; bytes that are no text are kept as replacement characters.
    """
    text = decoded(data).strip()
    value = _loaded(text)
    if not name.endswith(".json") and not isinstance(value, dict | list):
        if (keyed := _prompt_line(text)) is not None:
            return (None if is_nothing(keyed) else keyed), {}
        if has_settings(text):
            return prompt_in_parameters(text), {}
        return (None if is_nothing(text) or _NO_WORDS.fullmatch(text) else text), {}
    if isinstance(value, str):
        return value.strip() or None, {}
    if not isinstance(value, dict):
        return None, {}
    found, key = prompt_in_object(value)
    if found is None:
        return None, {}
    extra = {
        str(name): field if isinstance(field, str) else json.dumps(field)
        for name, field in value.items()
        if name != key and isinstance(field, str | int | float | bool)
    }
    return found, dict(list(extra.items())[:_MAX_EXTRA_FIELDS])


_KEYED = re.compile(r"[ \t]*([A-Za-z][\w -]{0,30}?)[ \t]*[:=](.*)")
_NO_WORDS = re.compile(r"[\d\s.,;:|+-]*|https?://\S*", re.IGNORECASE)
"""Numbers of classes and boxes, and addresses: what lies beside images as captions do, and is none."""
_PROMPT_LINES = frozenset({"prompt", "positive prompt", "positive", "text prompt", "input prompt"})


def _prompt_line(text: str) -> str | None:
    """The prompt of a text of lines such as `prompt: ...` and `negative_prompt: ...`; None for any other text.

    A prompt goes on over lines without a key.
    """
    found: list[str] = []
    reading = False
    for at, line in enumerate(text.splitlines()):
        match = _KEYED.fullmatch(line)
        if match is None:
            if at == 0:
                return None
            if reading:
                found.append(line.strip())
        elif found:
            break
        elif reading := re.sub(r"[-_ ]+", " ", match[1]).lower() in _PROMPT_LINES:
            found.append(match[2].strip())
    return " ".join(filter(None, found)) if found else None


def decoded(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, or else as Windows writes it in Western languages."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def prompt_in_object(value: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The prompt of an object by its customary keys, one object deep, and the key where it stands at the top."""
    for key in _CAPTION_KEYS:
        if isinstance(value.get(key), str) and not is_nothing(value[key]) and may_be_prompt(value, key):
            return value[key].strip(), key
    for holder in _HOLDERS:
        inner = value.get(holder)
        if isinstance(inner, dict):
            found, _ = prompt_in_object({key: field for key, field in inner.items() if key not in _HOLDERS})
            if found is not None:
                return found, None
    return None, None


def may_be_prompt(value: Mapping[str, Any], key: str) -> bool:
    """Whether the text at a key may be a prompt: a title may be the file's own name, and what Google's photo exports say of an image or an
    album (known by their times) are words of whoever kept it."""
    if key.lower() not in ("title", "description"):
        return True
    kept = any(isinstance(field, dict) and "timestamp" in field for field in value.values())
    return not kept and extension(value[key].strip()) not in IMAGE_EXTENSIONS


def _loaded(text: str) -> Any:
    if not text.startswith(("{", "[", '"')):
        return None
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None
