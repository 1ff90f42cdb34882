"""YAML for people: read, checked against a model, and every mistake in it one `ConfigError`."""

from __future__ import annotations

import difflib
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from allfour.errors import ConfigError
from allfour.files import read_regular

_MERGE = "tag:yaml.org,2002:merge"
_MAX_VALUES = 1_000_000
"""Values of one file, each alias counted for all that it stands for."""
_MAX_BYTES = 64 * 2**20
_SHOWN = 60
"""Characters of a value that an error shows."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a key stand twice and keeps the last; in a config that is a mistake."""


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:  # `<<: *base` brings keys that the block may say otherwise
            continue
        key = loader.construct_object(key_node, deep=deep)
        if isinstance(key, typing.Hashable) and key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: the key {key!r} stands twice")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Raises
    ------
    ConfigError
        The file is missing, unreadable, no YAML, or no mapping.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, so it is no config")
        text = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must hold a mapping at the top level, found {type(data).__name__}")
    check_values(data, where=str(path))
    return data


def check_values(data: Any, *, where: str) -> None:
    """Refuse what YAML can say and JSON, in which a run records its config, cannot.

    Raises
    ------
    ConfigError
        A block or list that holds itself (`a: &a [*a]`), a number that is not finite (`.inf`, `.nan`), or blocks too deep to read.
    """
    try:
        if _check(data, (), where=where, above=set(), seen={}) > _MAX_VALUES:
            raise ConfigError(
                f"{where}: its aliases (*) stand for more than {_MAX_VALUES:,} values. Write out what is meant"
            )
    except RecursionError:
        raise ConfigError(f"{where}: blocks or lists are nested too deeply") from None


def _check(value: Any, at: tuple[str, ...], *, where: str, above: set[int], seen: dict[int, int]) -> int:
    """How many values stand below, aliases written out; what stands in many places is looked at once."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {'.'.join(at)}: {value} is not a finite number")
    if isinstance(value, int) and abs(value) >= 2**64:
        raise ConfigError(f"{where}: {'.'.join(at)}: a number of {value.bit_length():,} bits is none of a config")
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) in seen:
        return seen[id(value)]
    if id(value) in above:
        raise ConfigError(f"{where}: {'.'.join(at)}: it holds itself, by a YAML alias (*)")
    above.add(id(value))
    size = 1
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        size += _check(item, (*at, _short(key)), where=where, above=above, seen=seen)
        size += _check(key, (*at, _short(key)), where=where, above=above, seen=seen)
    above.remove(id(value))
    seen[id(value)] = size
    return size


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _neighbours(path: Path) -> str:
    """A hint for a missing file: the closest name beside it."""
    if not path.parent.is_dir():
        return f" (and no folder {path.parent})"
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix in {".yaml", ".yml"})
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f". Did you mean {path.parent / close[0]}?"
    return f". There: {', '.join(names)}" if names else ""


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
        lines = [_explain(model, dict(e), where) for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def _explain(model: type[BaseModel], error: dict[str, Any], where: str) -> str:
    loc = [str(part) for part in error["loc"]]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        *parents, key = loc
        fields = sorted(_fields_at(model, parents))
        return f"{where}: {_dotted(model, parents, _short(key))}: unknown key.{_did_you_mean(key, fields)}"
    if kind == "union_tag_invalid":
        allowed = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
        tag, field = _short(context.get("tag")), str(context.get("discriminator", "")).strip("'")
        return f"{where}: {_dotted(model, loc, field)}: unknown value {tag!r}.{_did_you_mean(tag, allowed)}"
    if kind == "union_tag_not_found":
        field = str(context.get("discriminator", "")).strip("'")
        return f"{where}: {_dotted(model, loc, field)}: missing; it names the {field}"
    if kind == "literal_error":
        allowed = [a.strip(" '") for a in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        return f"{where}: {_dotted(model, loc)}: {_short(repr(error['input']))} is not allowed.{_did_you_mean(str(error['input']), allowed)}"
    if kind == "missing":
        *parents, key = loc
        return f"{where}: {_dotted(model, parents, key)}: missing, and it has no default"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (given: {_short(repr(given))})" if isinstance(given, str | int | float | bool) or given is None else ""
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
