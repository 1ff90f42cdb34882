"""What a user wrote, checked against a model: every mistake in it is one `ConfigError`."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from allfour.checked_yaml import short
from allfour.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)


def validate(model: type[_Model], data: Any, *, where: str, context: dict[str, Any] | None = None) -> _Model:
    """`model.model_validate` whose error is a `ConfigError` for people.

    Raises
    ------
    ConfigError
        Lists every mistake as `where: key.path: what is wrong, what is allowed, closest match`.
    """
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        mistakes = [dict(e) for e in error.errors(include_url=False)]
        lines = [_explain(model, e, where) for e in mistakes if not _follows(e, mistakes)]
        raise ConfigError("\n".join(lines)) from None


_LOOKS = {
    r"^[a-z0-9][a-z0-9_\-]{0,63}$": "lower-case letters, digits, _ and -, beginning with a letter or digit, 64 at most",
    r"^[A-Za-z0-9][A-Za-z0-9._]*(?:-[A-Za-z0-9._]+)*$": "letters, digits, dots, _ and single hyphens between them",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and _, not beginning with a digit",
    r"^(auto|[1-8]x[1-8])$": "auto, or rows and columns such as 2x2, 8 of each at most",
    r"^[A-Z]{3}$": "three capital letters, such as EUR",
}
"""Patterns in words."""


def _follows(mistake: dict[str, Any], mistakes: list[dict[str, Any]]) -> bool:
    """Whether a list only seems too short, since what is wrong in it was left out."""
    loc = mistake["loc"]
    return mistake["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in mistakes
    )


def _explain(model: type[BaseModel], error: dict[str, Any], where: str) -> str:
    loc = [str(part) for part in error["loc"]]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        *parents, key = loc
        fields = sorted(_fields_at(model, parents))
        return f"{where}: {_dotted(model, parents, short(key))}: unknown key.{_did_you_mean(key, fields)}"
    if kind == "union_tag_invalid":
        allowed = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        tag, field = short(context.get("tag")), str(context.get("discriminator", "")).strip("'")
        return f"{where}: {_dotted(model, loc, field)}: unknown value {tag!r}.{_did_you_mean(tag, allowed)}"
    if kind == "union_tag_not_found":
        field = str(context.get("discriminator", "")).strip("'")
        return f"{where}: {_dotted(model, loc, field)}: missing; it names the {field}"
    if kind == "literal_error":
        allowed = [a.strip(" '") for a in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        return f"{where}: {_dotted(model, loc)}: {short(repr(error['input']))} is not allowed.{_did_you_mean(str(error['input']), allowed)}"
    if kind == "missing":
        *parents, key = loc
        return f"{where}: {_dotted(model, parents, key)}: missing, and it has no default"
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch" and (words := _LOOKS.get(str(context.get("pattern")))) is not None:
        message = f"it may hold {words}" if not words.startswith("auto") else f"give {words}"
    loc = [part for part in loc if part != "[key]"]
    given = error.get("input")
    shown = f" (given: {short(repr(given))})" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{where}: {_dotted(model, loc) or 'top level'}: {message}{shown}"


def _did_you_mean(word: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Allowed: {', '.join(allowed)}"


def models_at(model: type[BaseModel], loc: list[str]) -> tuple[list[type[BaseModel]], list[str]]:
    """The model types that a location leads to, and the location as the user wrote it (without union tags)."""
    current: list[type[BaseModel]] = [model]
    written: list[str] = []
    for part in loc:
        tagged = [m for m in current if tag_of(m) == part]
        if tagged and len(current) > 1:
            current = tagged
            continue
        written.append(part)
        following: list[type[BaseModel]] = []
        for candidate in current:
            field = candidate.model_fields.get(part)
            if field is not None:
                following += _models_in(field.annotation)
        if following or not part.isdigit():
            current = following
    return current, written


def tag_of(model: type[BaseModel]) -> str | None:
    """The `backend` or `detector` that a block must name to be this one; None where it has neither."""
    field = model.model_fields.get("backend") or model.model_fields.get("detector")
    args = typing.get_args(field.annotation) if field else ()
    return str(args[0]) if args else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for arg in typing.get_args(annotation) for m in _models_in(arg)]


def _fields_at(model: type[BaseModel], loc: list[str]) -> set[str]:
    current, _ = models_at(model, loc)
    return {name for m in current for name in m.model_fields}


def _dotted(model: type[BaseModel], loc: list[str], *more: str) -> str:
    return ".".join([*models_at(model, loc)[1], *more])
