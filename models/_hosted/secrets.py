"""The API key: where it comes from, and how it is kept out of every message."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from allfour.errors import BackendError
from allfour.models._hosted.connection import ENV_PLACEHOLDER

REDACTED = "[redacted]"

# Servers echo keys, whole or masked in the middle; both shapes are removed even where they are not our key.
_KEY_SHAPES = re.compile(r"\bsk-[A-Za-z0-9_*.\-]{6,}|(?i:\bbearer\s+)[^\s\"',;]+")
_SHORTEST = 6
"""Shorter ones are the placeholders of local servers ("none"): no secret, and common enough to spoil real text."""
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]+"
)


def _forms(secret: str) -> set[str]:
    """A secret as it may be spelled: itself, all in capitals or small letters, in an address, and in base64 of either alphabet, also behind
    a colon without a user.
    """
    coded = {
        encode(text.encode()).decode().rstrip("=")
        for text in (secret, f":{secret}")
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
    }
    return {secret, secret.upper(), secret.lower(), quote(secret, safe=""), *coded}


class Scrubber:
    """Makes text that came from outside fit for a message: no key, no control characters, bounded length."""

    __slots__ = ("__secrets",)

    def __init__(self, *secrets: str | None) -> None:
        self.__secrets = tuple(
            sorted(
                {form for s in secrets if s and len(s) >= _SHORTEST for form in _forms(s)},
                key=len,
                reverse=True,
            )
        )

    def __repr__(self) -> str:
        return "Scrubber()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scrubber) and self.__secrets == other.__secrets

    def __hash__(self) -> int:
        return hash(self.__secrets)

    def without_key(self, text: str) -> str:
        """`text` with our own key replaced, and otherwise unchanged: for text that is data, such as a prompt."""
        for secret in self.__secrets:
            text = text.replace(secret, REDACTED)
        return text

    def __call__(self, text: object, *, limit: int = 300) -> str:
        # The key goes before the cut, so that a cut cannot leave a part of it that no longer matches.
        cleaned = _KEY_SHAPES.sub(REDACTED, self.without_key(str(text)))
        cleaned = _CONTROL.sub(" ", cleaned).strip()
        return cleaned if len(cleaned) <= limit else cleaned[: limit - 1].rstrip() + "…"

    def deep(self, value: Any) -> Any:
        """`value` (JSON-like) with our own key removed from every string in it."""
        if isinstance(value, str):
            return self.without_key(value)
        if isinstance(value, dict):
            return {self.without_key(str(k)): self.deep(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.deep(v) for v in value]
        return value


_LOGGERS = ("openai", "httpx2", "httpcore2", "httpx", "httpcore", "h11", "hpack")
"""Packages that tell what goes over the wire, where somebody asks them to (`OPENAI_LOG=debug`, `logging`)."""


class _WithoutKeys(logging.Filter):
    """Takes keys out of a log record, also where a server echoed them, before any handler sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.scrubbers: set[Scrubber] = set()

    def _clean(self, text: str) -> str:
        for scrub in self.scrubbers:
            text = scrub.without_key(text)
        return _KEY_SHAPES.sub(REDACTED, text)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)
        record.msg, record.args = self._clean(message), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._clean(record.exc_text)
        return True


_WITHOUT_KEYS = _WithoutKeys()


def keep_out_of_logs(scrub: Scrubber) -> None:
    """From now on, what these packages log holds none of the scrubber's keys. Call once they are imported."""
    _WITHOUT_KEYS.scrubbers.add(scrub)
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    for name in {*known, *_LOGGERS}:
        logging.getLogger(name).addFilter(_WITHOUT_KEYS)  # of each: a parent's filters are not asked


def read_headers(headers: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Headers with the environment's values in place of `{env:NAME}`, and those values, which are secrets.

    Raises
    ------
    BackendError
        A variable is unset, or holds something that cannot be sent.
    """
    secrets: list[str] = []

    def value(match: re.Match[str]) -> str:
        secret = read_key(match.group(1), required=True)
        assert secret is not None
        secrets.append(secret)
        return secret

    return {name: ENV_PLACEHOLDER.sub(value, text) for name, text in headers.items()}, secrets


def read_key(env: str | None, *, required: bool, block: str = "generator") -> str | None:
    """The key in environment variable `env`, or None where it is unset and not required.

    Raises
    ------
    BackendError
        The variable is unset though required, or holds something that cannot be sent in a header.
    """
    value = os.environ.get(env, "").strip() if env else ""
    if not value:
        if required:
            raise BackendError(
                f"No API key: the environment variable {env or f'that {block}.api_key_env names'} is not set. Set it and repeat the command: export {env or 'OPENAI_API_KEY'}=..."
            )
        return None
    if not (value.isascii() and value.isprintable() and " " not in value):
        # The HTTP library would quote the whole header, key included, in its own error.
        raise BackendError(
            f"The API key in {env} cannot be sent, because it contains spaces, control characters or characters outside ASCII. Set it again without quotes or line breaks: export {env}=..."
        )
    return value
