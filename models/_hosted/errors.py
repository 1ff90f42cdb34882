"""What a server said, read without trusting its shape: errors into verdicts, and the parts that every answer has."""

from __future__ import annotations

import email.utils
import html
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from allfour.border import read_json
from allfour.models._hosted.connection import Service
from allfour.models._hosted.moderation import moderation_code, normal
from allfour.models._hosted.secrets import Scrubber

QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
)
MODEL_CODES = frozenset({"model_not_found", "model_deprecated", "invalid_model", "unknown_model"})

_MODEL_GONE = re.compile(r"does not exist|not found|has been (?:deprecated|removed|shut ?down|retired)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_CLIENT_WAITS_AT_MOST = 120.0

# An attempt that a gateway gave up on may have been finished, and billed, behind it.
MAYBE_BILLED_STATUSES = frozenset({502, 504, 520, 522, 524})

VerdictKind = Literal["refused", "stop", "failed"]


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error body, whatever its shape."""

    message: str
    code: str | None = None
    kind: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the run: this image is refused, this image failed, or everything stops."""

    kind: VerdictKind
    message: str
    code: str
    request_id: str | None = None
    model_missing: bool = False
    status: int = 0
    """Of HTTP."""
    param: str | None = None
    """The field of the request that the server names."""


class BadAnswerError(Exception):
    """A success status with a body that is no answer; the message says what it is instead."""


def read_error(body: bytes, content_type: str = "") -> ServerError:
    """The error in `body`: in `error` or `detail` (object, text or list of them), in `message`, or as HTML or text."""
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError):
        return ServerError(plain(body, content_type))
    return error_in(parsed) or ServerError(plain(body, content_type))


def error_in(parsed: object) -> ServerError | None:
    if isinstance(parsed, str):
        return ServerError(parsed)
    if isinstance(parsed, list) and parsed:
        # The form of request validation in several Python servers: [{"loc": ["body", "size"], "msg": ..., "type": ...}]
        return error_in(parsed[0])
    if not isinstance(parsed, Mapping):
        return None
    for field in ("error", "detail", "errors"):
        inner = parsed.get(field)
        if inner:
            found = error_in(inner)
            if found:
                return ServerError(
                    found.message,
                    found.code or _text(parsed.get("code")),
                    found.kind or _text(parsed.get("type")),
                    found.param or _text(parsed.get("param")),
                )
    message = _text(parsed.get("message")) or _text(parsed.get("msg")) or _text(parsed.get("title"))
    code = _text(parsed.get("code"))
    kind = _text(parsed.get("type")) or _text(parsed.get("name"))
    if not (message or code or kind):
        return None
    location = parsed.get("loc")
    param = _text(parsed.get("param")) or (_text(location[-1]) if isinstance(location, list) and location else None)
    return ServerError(message or code or kind or "", code, kind, param)


def plain(body: bytes, content_type: str) -> str:
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text:
        return "an empty body"
    if "html" in content_type.lower() or text[:200].lower().lstrip().startswith(("<!doctype", "<html")):
        title = _TITLE.search(text)
        return f"an HTML page titled {html.unescape(title.group(1)).strip()!r}" if title else "an HTML page"
    return text


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def verdict_of(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    scrub: Scrubber,
    service: Service,
    key_env: str | None,
    own_fields: frozenset[str],
) -> Verdict:
    """What an error answer means.

    Parameters
    ----------
    own_fields
        The request fields that come from the settings: an error about one of them would meet every request alike, so it stops
        the run and is not booked as 80 failures.
    """
    error = read_error(body, headers.get("content-type", ""))
    code = normal(error.code) or normal(error.kind) or f"http_{status}"
    reason = f"HTTP {status}: {scrub(error.message)}"
    shown_code = scrub(code, limit=80)
    raw_id = headers.get("x-request-id")
    request_id = scrub(raw_id, limit=120) if raw_id else None

    def verdict(kind: VerdictKind, message: str, *, model_missing: bool = False) -> Verdict:
        return Verdict(kind, message, shown_code, request_id, model_missing, status, error.param)

    codes = {normal(error.code), normal(error.kind)}
    if found := moderation_code(status, (error.code, error.kind), error.message, parsed_or_none(body)):
        return Verdict("refused", scrub(error.message), found, request_id)
    if status == 401:
        return verdict(
            "stop",
            f"The server does not accept the API key ({reason}). "
            f"Set a valid key: export {key_env or 'OPENAI_API_KEY'}=...",
        )
    if status == 402 or codes & QUOTA_CODES:
        return verdict(
            "stop",
            f"The account cannot pay for more {service.orders} ({reason}). Add credit or raise the account's limit with the provider.",
        )
    if _is_missing_model(status, error, codes):
        return verdict("stop", reason, model_missing=True)
    if status == 403:
        return verdict(
            "stop",
            f"The server refuses this request ({reason}). Check that your account and key may use this model.",
        )
    if status in (404, 405):
        return verdict(
            "stop",
            f"The server has no {service.offers} at this address ({reason}). "
            f"Check {service.block}.base_url; it usually ends in /v1.",
        )
    wait = retry_after(headers)
    if wait is not None and wait > _CLIENT_WAITS_AT_MOST and (status == 429 or status >= 500):
        return verdict(
            "stop",
            f"The server asks to wait {_span(wait)}, and allfour waits {_CLIENT_WAITS_AT_MOST:.0f} s at most ({reason}). Repeat the command later.",
        )
    if status in (400, 422) and error.param in own_fields:
        return verdict(
            "stop",
            f"The server rejects the setting {service.setting(error.param or '')} ({reason}). Change or remove it in the config.",
        )
    if status == 429:
        return verdict("failed", f"{reason}. Lower {service.block}.concurrency or set {service.block}.{service.pace}.")
    return verdict("failed", reason)


def _is_missing_model(status: int, error: ServerError, codes: set[str]) -> bool:
    if codes & MODEL_CODES:
        return True
    names_model = error.param == "model" or "model" in error.message.lower()
    return status in (400, 404, 410, 422) and names_model and bool(_MODEL_GONE.search(error.message))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from `retry-after-ms` or `retry-after` (seconds or a date); None where it does not say.

    Never negative, and infinite for numbers that no clock holds.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        return None if math.isnan(seconds) else max(0.0, seconds)
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _span(seconds: float) -> str:
    """A time in words that stay short whatever the number."""
    if seconds < 7200:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.0f} hours" if seconds < 100 * 3600 else "more than four days"


def parsed_or_none(body: bytes) -> object:
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None


def filled(value: object) -> str | None:
    """A text that says something; None for anything else."""
    return value if isinstance(value, str) and value else None


def numbers_in(value: object) -> dict[str, Any]:
    """The numbers of a usage report, one level of nesting kept: nothing else in it is worth storing."""
    if not isinstance(value, Mapping):
        return {}
    kept: dict[str, Any] = {}
    for key, inner in list(value.items())[:20]:
        if isinstance(inner, int | float) and not isinstance(inner, bool):
            kept[str(key)[:60]] = inner
        elif isinstance(inner, Mapping):
            kept[str(key)[:60]] = {str(k)[:60]: v for k, v in list(inner.items())[:20] if isinstance(v, int | float)}
    return kept
