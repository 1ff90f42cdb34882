"""The answer of a chat model (POST /chat/completions), whatever it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from allfour.models._hosted.errors import (
    BadAnswerError,
    ServerError,
    error_in,
    filled,
    numbers_in,
    parsed_or_none,
    plain,
)
from allfour.models._hosted.moderation import withheld_item


@dataclass(frozen=True, slots=True)
class Choice:
    """The first choice of an answer."""

    raw: Mapping[str, Any]
    message: Mapping[str, Any]
    model: str | None
    """As the server names it."""
    usage: Mapping[str, Any] | None

    @property
    def parts(self) -> list[Any]:
        """What `content` lists, where it is a list."""
        content = self.message.get("content")
        return content if isinstance(content, list) else []

    @property
    def text(self) -> str | None:
        """What the model said."""
        if self.parts:
            return filled(" ".join(t for p in self.parts if isinstance(p, Mapping) and (t := filled(p.get("text")))))
        return filled(self.message.get("content"))

    @property
    def declined(self) -> tuple[str, str] | None:
        """Code and reason, where the answer says that it is none: a refusal, or a filter that withheld it."""
        if refusal := filled(self.message.get("refusal")):
            return "refusal", refusal
        if (withheld := withheld_item(self.raw, has_image=False)) is not None:
            return withheld
        error = self.raw.get("error")
        return withheld_item({"error": error}, has_image=False) if isinstance(error, Mapping) else None


def read_choice(body: bytes, content_type: str = "") -> Choice | ServerError:
    """The first choice of a success body, or the error that it carries all the same, as some compatible servers do.

    Raises
    ------
    BadAnswerError
        Not JSON, or JSON without a choice and without an error.
    """
    parsed = parsed_or_none(body)
    if not isinstance(parsed, Mapping):
        raise BadAnswerError(f"the answer is not a JSON object but {plain(body, content_type)}")
    choices = parsed.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        error = error_in(parsed) if any(parsed.get(f) for f in ("error", "detail", "errors")) else None
        if error is None:
            raise BadAnswerError("the answer has no choices")
        return error
    message = choices[0].get("message")
    model = filled(parsed.get("model"))
    return Choice(
        raw=choices[0],
        message=message if isinstance(message, Mapping) else {},
        model=model if model and len(model) <= 200 else None,
        usage=numbers_in(parsed.get("usage")) or None,
    )
