"""What a server said, read without trusting its shape: answers into items, errors into verdicts."""

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
from allfour.models.generators._openai.moderation import flagged, moderation_code, normal, withheld_item
from allfour.models.generators._openai.secrets import Scrubber

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


class BadAnswerError(Exception):
    """A success status with a body that is no answer; the message says what it is instead."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an answer's `data`."""

    b64: str | None
    url: str | None
    revised_prompt: str | None
    withheld: tuple[str, str] | None
    """Code and reason, where the entry says that a policy withheld this image."""

    @property
    def empty(self) -> bool:
        return self.b64 is None and self.url is None and self.withheld is None


@dataclass(frozen=True, slots=True)
class Answer:
    items: tuple[Item, ...]
    details: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    error: ServerError | None
    """Set where a success status carries an error body, as some compatible servers do."""
    withheld: tuple[str, str] | None = None
    """Code and reason, where an answer without any image says that a policy withheld all of them."""


def read_error(body: bytes, content_type: str = "") -> ServerError:
    """The error in `body`: in `error` or `detail` (object, text or list of them), in `message`, or as HTML or text."""
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError):
        return ServerError(_plain(body, content_type))
    return _error_in(parsed) or ServerError(_plain(body, content_type))


def _error_in(parsed: object) -> ServerError | None:
    if isinstance(parsed, str):
        return ServerError(parsed)
    if isinstance(parsed, list) and parsed:
        # The form of request validation in several Python servers: [{"loc": ["body", "size"], "msg": ..., "type": ...}]
        return _error_in(parsed[0])
    if not isinstance(parsed, Mapping):
        return None
    for field in ("error", "detail", "errors"):
        inner = parsed.get(field)
        if inner:
            found = _error_in(inner)
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


def _plain(body: bytes, content_type: str) -> str:
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


def judge(
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    scrub: Scrubber,
    key_env: str | None,
    own_fields: frozenset[str],
) -> Verdict:
    """What an error answer means.

    `own_fields` are the request fields that come from the settings: an error about one of them would meet every
    request alike, so it stops the run and is not booked as 80 failures.
    """
    error = read_error(body, headers.get("content-type", ""))
    code = normal(error.code) or normal(error.kind) or f"http_{status}"
    said = f"HTTP {status}: {scrub(error.message)}"
    shown_code = scrub(code, limit=80)
    raw_id = headers.get("x-request-id")
    request_id = scrub(raw_id, limit=120) if raw_id else None

    def verdict(kind: VerdictKind, message: str, *, model_missing: bool = False) -> Verdict:
        return Verdict(kind, message, shown_code, request_id, model_missing)

    codes = {normal(error.code), normal(error.kind)}
    if found := moderation_code(status, (error.code, error.kind), error.message, _parsed(body)):
        return Verdict("refused", scrub(error.message), found, request_id)
    if status == 401:
        return verdict(
            "stop",
            f"The server does not accept the API key ({said}). "
            f"Set a valid key: export {key_env or 'OPENAI_API_KEY'}=...",
        )
    if status == 402 or codes & QUOTA_CODES:
        return verdict(
            "stop", f"The account cannot pay for more images ({said}). Add credit or raise its limit with the provider."
        )
    if _is_missing_model(status, error, codes):
        return verdict("stop", said, model_missing=True)
    if status == 403:
        return verdict(
            "stop",
            f"The server forbids this request ({said}). Check that the account and the key may use this model.",
        )
    if status in (404, 405):
        return verdict(
            "stop",
            f"The server has no image generation at this address ({said}). "
            "Check generator.base_url; it usually ends in /v1.",
        )
    wait = retry_after(headers)
    if wait is not None and wait > _CLIENT_WAITS_AT_MOST and (status == 429 or status >= 500):
        return verdict(
            "stop",
            f"The server asks to wait {_span(wait)}, longer than the {_CLIENT_WAITS_AT_MOST:.0f} s that the client waits ({said}).",
        )
    if status in (400, 422) and error.param in own_fields:
        return verdict(
            "stop",
            f"The server does not take the setting generator.{_setting_name(error.param)} ({said}). "
            "Change or remove it in the config.",
        )
    if status == 429:
        return verdict("failed", f"{said}. Lower generator.concurrency or set generator.images_per_minute.")
    return verdict("failed", said)


def _is_missing_model(status: int, error: ServerError, codes: set[str]) -> bool:
    if codes & MODEL_CODES:
        return True
    names_model = error.param == "model" or "model" in error.message.lower()
    return status in (400, 404, 410, 422) and names_model and bool(_MODEL_GONE.search(error.message))


def _setting_name(param: str | None) -> str:
    return "images_per_request" if param == "n" else (param or "")


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


def _parsed(body: bytes) -> object:
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None


def read_answer(body: bytes, content_type: str = "") -> Answer:
    """The images in a success body.

    Raises
    ------
    BadAnswerError
        Not JSON, or JSON without a list of images and without an error.
    """
    try:
        parsed = read_json(body)
    except (ValueError, RecursionError):
        raise BadAnswerError(f"the answer is not JSON but {_plain(body, content_type)}") from None
    if not isinstance(parsed, Mapping):
        raise BadAnswerError(f"the answer is not a JSON object but {_plain(body, content_type)}")
    data = parsed.get("data")
    if data is None:
        error = _error_in(parsed) if any(parsed.get(f) for f in ("error", "detail", "errors")) else None
        return Answer((), {}, None, error, withheld=None if error else withheld_item(parsed, has_image=False))
    if not isinstance(data, list):
        raise BadAnswerError(f"the answer's data is no list but {type(data).__name__}")
    usage = parsed.get("usage")
    items = tuple(_item(entry, parsed, place) for place, entry in enumerate(data))
    return Answer(
        items=items,
        details={
            k: v
            for k in ("created", "size", "quality", "background", "output_format", "model")
            if isinstance(v := parsed.get(k), str | int) and len(str(v)) <= 200
        },
        usage=_numbers(usage) or None,
        error=None,
        withheld=None if items else withheld_item(parsed, has_image=False),
    )


def read_chat_answer(body: bytes, content_type: str = "") -> Answer:
    """The images in the answer of a chat model: `message.images`, or parts of `message.content`, as `image_url`.

    A model that answers in words alone has declined: its words are the reason.

    Raises
    ------
    BadAnswerError
        Not JSON, or JSON without a choice and without an error.
    """
    parsed = _parsed(body)
    if not isinstance(parsed, Mapping):
        raise BadAnswerError(f"the answer is not a JSON object but {_plain(body, content_type)}")
    choices = parsed.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        error = _error_in(parsed) if any(parsed.get(f) for f in ("error", "detail", "errors")) else None
        if error is None:
            raise BadAnswerError("the answer has no choices")
        return Answer((), {}, None, error)
    choice = choices[0]
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    content = message.get("content")
    parts = [p for p in (message.get("images"), content) if isinstance(p, list)]
    urls = [url for part in parts for p in part if (url := _image_url(p))]
    details = {"model": model} if (model := _filled(parsed.get("model"))) and len(model) <= 200 else {}
    usage = _numbers(parsed.get("usage")) or None
    if urls:
        return Answer(tuple(Item(None, url, None, None) for url in urls), details, usage, None)
    return Answer((), details, usage, None, withheld=_declined(choice, message, content))


def _image_url(part: object) -> str | None:
    if not isinstance(part, Mapping):
        return None
    found = part.get("image_url")
    return _filled(found.get("url")) if isinstance(found, Mapping) else _filled(found)


def _declined(choice: Mapping[str, Any], message: Mapping[str, Any], content: object) -> tuple[str, str] | None:
    """Why a chat model sent no image, where it says so."""
    if refusal := _filled(message.get("refusal")):
        return "refusal", refusal
    if (withheld := withheld_item(choice, has_image=False)) is not None:
        return withheld
    error = choice.get("error")
    if isinstance(error, Mapping) and (withheld := withheld_item({"error": error}, has_image=False)) is not None:
        return withheld
    if isinstance(content, list):
        content = " ".join(t for p in content if isinstance(p, Mapping) and (t := _filled(p.get("text"))))
    said = _filled(content)
    return ("answered_in_words", said) if said else None


def _item(entry: object, answer: Mapping[str, Any], place: int) -> Item:
    if not isinstance(entry, Mapping):
        return Item(None, None, None, None)
    b64, url, revised = (_filled(entry.get(k)) for k in ("b64_json", "url", "revised_prompt"))
    withheld = withheld_item(entry, has_image=b64 is not None or url is not None)
    for name in ("nsfw_content_detected", "has_nsfw_concepts"):  # beside `data`, one mark per image
        if withheld is None and flagged(answer.get(name), place):
            withheld = name, f"the server marks the image: {name}"
    return Item(b64, url, revised, withheld)


def _filled(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _numbers(value: object) -> dict[str, Any]:
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
