"""The images in what a server answered, read without trusting its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from allfour.border import read_json
from allfour.models._hosted.chat import read_choice
from allfour.models._hosted.errors import BadAnswerError, ServerError, error_in, filled, numbers_in, plain
from allfour.models._hosted.moderation import flagged, withheld_item
from allfour.models.generators._openai.bytes_check import is_data_address

_MARKDOWN = re.compile(r"!\[[^\]\[]{0,500}\]\((data:image/[^)\s]+|https?://[^)\s]+)", re.IGNORECASE)
"""A picture in a text of Markdown, which gateways make of an image where their chats have text alone."""
_BULKY = 256
"""Characters from which a text may be an image."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an answer's `data`."""

    b64: str | None
    url: str | None
    revised_prompt: str | None
    withheld: tuple[str, str] | None
    """Code and reason, where the entry says that a policy withheld this image."""
    unread: str | None = None
    """What the entry holds, where that is something and no image in a form that is read here: it may have been charged."""

    @property
    def has_image(self) -> bool:
        return self.b64 is not None or self.url is not None

    @property
    def came(self) -> bool:
        """Whether something came that may be an image."""
        return self.has_image or self.unread is not None

    @property
    def empty(self) -> bool:
        return not self.came and self.withheld is None


@dataclass(frozen=True, slots=True)
class Answer:
    items: tuple[Item, ...]
    details: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    error: ServerError | None
    """Set where a success status carries an error body, as some compatible servers do."""
    withheld: tuple[str, str] | None = None
    """Code and reason, where an answer without any image says that a policy withheld all of them."""


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
        raise BadAnswerError(f"the answer is not JSON but {plain(body, content_type)}") from None
    if not isinstance(parsed, Mapping):
        raise BadAnswerError(f"the answer is not a JSON object but {plain(body, content_type)}")
    data = parsed.get("data")
    if data is None:
        error = error_in(parsed) if any(parsed.get(f) for f in ("error", "detail", "errors")) else None
        withheld = None if error else withheld_item(parsed, has_image=False)
        if error is None and withheld is None and "data" not in parsed:
            raise BadAnswerError(f"the answer has no list `data`; it has: {_named(parsed)}")
        return Answer((), {}, None, error, withheld=withheld)
    if not isinstance(data, list):
        raise BadAnswerError(f"the answer's data is not a list but {type(data).__name__}")
    usage = parsed.get("usage")
    items = tuple(_item(entry, parsed, place) for place, entry in enumerate(data))
    return Answer(
        items=items,
        details={
            k: v
            for k in ("created", "size", "quality", "background", "output_format", "model")
            if isinstance(v := parsed.get(k), str | int) and len(str(v)) <= 200
        },
        usage=numbers_in(usage) or None,
        error=None,
        withheld=None if items else withheld_item(parsed, has_image=False),
    )


def read_chat_answer(body: bytes, content_type: str = "") -> Answer:
    """The images in the answer of a chat model: `message.images`, parts of `message.content`, or pictures of Markdown in its text.

    A model that answers in words alone has declined: its words are the reason.

    Raises
    ------
    BadAnswerError
        Not JSON, or JSON without a choice and without an error.
    """
    choice = read_choice(body, content_type)
    if isinstance(choice, ServerError):
        return Answer((), {}, None, choice)
    images = choice.message.get("images")
    parts = [*(images if isinstance(images, list) else []), *choice.parts]
    urls = [url for part in parts if (url := _image_url(part))] or _MARKDOWN.findall(choice.text or "")
    details = {"model": choice.model} if choice.model else {}
    if urls:
        return Answer(tuple(Item(None, url, None, None) for url in urls), details, choice.usage, None)
    unread = next((part for part in parts if _holds_more_than_text(part)), None)
    if unread is not None and choice.declined is None:
        what = f"the message has no part that can be read; it has: {_named(unread)}"
        return Answer((Item(None, None, None, None, what),), details, choice.usage, None)
    withheld = choice.declined or (("answered_in_words", text) if (text := choice.text) else None)
    return Answer((), details, choice.usage, None, withheld=withheld)


def _image_url(part: object) -> str | None:
    if not isinstance(part, Mapping):
        return None
    found = part.get("image_url")
    if url := filled(found.get("url")) if isinstance(found, Mapping) else filled(found):
        return url
    inline = part.get("inline_data") or part.get("inlineData")
    coded = filled(inline.get("data")) if isinstance(inline, Mapping) else filled(part.get("b64_json"))
    return f"data:image;base64,{coded}" if coded and not is_data_address(coded) else coded


def _holds_more_than_text(part: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a part of a message may be an image in a form that is not known here."""
    if not isinstance(part, Mapping):
        return False
    values = [
        v
        for name, value in part.items()
        if name != "text"
        for v in (value.values() if isinstance(value, Mapping) else (value,))
    ]
    return any(isinstance(value, str) and len(value) >= _BULKY for value in values)


def _item(entry: object, answer: Mapping[str, Any], place: int) -> Item:
    if not isinstance(entry, Mapping):
        return Item(None, None, None, None, unread=f"{type(entry).__name__} instead of an object" if entry else None)
    b64, url, revised = (filled(entry.get(k)) for k in ("b64_json", "url", "revised_prompt"))
    withheld = withheld_item(entry, has_image=b64 is not None or url is not None)
    for name in ("nsfw_content_detected", "has_nsfw_concepts"):  # beside `data`, one mark per image
        if withheld is None and flagged(answer.get(name), place):
            withheld = name, f"the server flagged the image: {name}"
    unread = None
    if b64 is None and url is None and withheld is None and any(_bulky(k, v) for k, v in entry.items()):
        unread = f"neither `b64_json` nor `url` as text; it has: {_named(entry)}"
    return Item(b64, url, revised, withheld, unread)


def _bulky(name: str, value: object) -> bool:
    """Whether a field may be an image under another name, or in another form."""
    if name in ("b64_json", "url"):
        return bool(value)
    return name not in ("revised_prompt", "prompt") and isinstance(value, str) and len(value) >= _BULKY


def _named(found: Mapping[str, object]) -> str:
    names = [f"{name[:40]} ({type(value).__name__})" for name, value in list(found.items())[:8]]
    return ", ".join(names) or "nothing"
