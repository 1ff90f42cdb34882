"""YAML that somebody else may have written: read by a safe loader, bounded in all that it can stand for, every mistake a `ConfigError`."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import math
import typing
from pathlib import Path
from typing import Any

import yaml

from allfour.errors import ConfigError
from allfour.files import read_regular
from allfour.resources import packaged_name

_MERGE = "tag:yaml.org,2002:merge"
_MAX_VALUES = 1_000_000
"""Values of one file, each alias counted for all that it stands for."""
_MAX_BYTES = 64 * 2**20
_KEPT = 4 * 2**20
"""Characters of a file that is kept once it is parsed."""
_SHOWN = 60
"""Characters of a value that an error shows."""
_DEEP = 1_000
"""How deeply blocks and lists may be nested where libyaml reads them; it breaks the process with some thousands more."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a key stand twice and keeps the last; in a config that is a mistake."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same in an eighth of the time, by libyaml, where PyYAML was built with it."""


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


for _loader in (_UniqueKeyLoader, _FastLoader):
    _loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(path: Path, *, mend: str = "") -> dict[str, Any]:
    """A YAML file whose top level is a mapping.

    Parameters
    ----------
    mend
        A sentence for whoever gives a list or a text in its place: how such a file is written.

    Raises
    ------
    ConfigError
        The file is missing, unreadable, no YAML, or no mapping.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, so it is no config")
        text = read_regular(path, limit=_MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read: {why}") from None
    try:
        ours = packaged_name(path) is not None
        data = copy.deepcopy(_parsed(text, ours)) if len(text) <= _KEPT else _parsed.__wrapped__(text, ours)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        found = f"{path}: must hold a mapping at the top level, found {type(data).__name__}"
        raise ConfigError(f"{found}. {mend}" if mend else found)
    check_values(data, where=str(path))
    return data


@functools.lru_cache(maxsize=8)
def _parsed(text: str, ours: bool) -> Any:
    """What a text says. A command reads its prompts and words several times, which takes a parser in Python much longer than a copy.

    Of what travels with allfour both loaders make the same. A mistake in anything is said in the words of the one in Python.
    """
    if ours and _may_be_nested(text) <= _DEEP:
        with contextlib.suppress(ConfigError, yaml.YAMLError, ValueError, RecursionError):
            return yaml.load(text, Loader=_FastLoader)  # noqa: S506 (a SafeLoader)
    return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)


def _may_be_nested(text: str) -> int:
    """No block or list of a text stands in more others: each opens with a bracket, or a column to the right of the one around it.

    A list may stand in the column of its key, which is why columns count twice.
    """
    return text.count("[") + text.count("{") + 2 * max(map(len, text.splitlines()), default=0)


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
        size += _check(item, (*at, short(key)), where=where, above=above, seen=seen)
        size += _check(key, (*at, short(key)), where=where, above=above, seen=seen)
    above.remove(id(value))
    seen[id(value)] = size
    return size


def short(value: Any) -> str:
    """A value as an error shows it."""
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
