"""Rules that the config of a model folder is held to: every key is known, and every value is of its kind and within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import open_regular

_MAX_CONFIG_BYTES = 1_000_000

Rule = Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def number(low: float, high: float) -> Rule:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def one_of(*words: str) -> Rule:
    return lambda value: isinstance(value, str) and value in words


def word(pattern: str) -> Rule:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def or_none(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def several(rule: Rule, *lengths: int) -> Rule:
    return lambda value: isinstance(value, list) and len(value) in lengths and all(map(rule, value))


def any_of(*rules: Rule) -> Rule:
    return lambda value: any(rule(value) for rule in rules)


def mapping(keys: Mapping[str, Rule]) -> Rule:
    return lambda value: isinstance(value, dict) and all(key in keys and keys[key](value[key]) for key in value)


LENGTH = whole(1, 8192)
"""Of a text, in tokens. A text tower's mask has its square of values, and is in no file that it could be compared with."""


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """A JSON file of a model folder. Raises ClassifierError where it is not there, or is not a mapping; FileNotFoundError is the caller's."""
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ClassifierError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        if len(data) > _MAX_CONFIG_BYTES:
            raise ValueError(f"the file is larger than {_MAX_CONFIG_BYTES:,} bytes")
        parsed = read_json(data)
        if not isinstance(parsed, dict):
            raise ValueError("it is not a mapping")
    except (ValueError, RecursionError) as error:
        raise ClassifierError(f"{path}: not {what}: {error}") from None
    return parsed


def hold(path: Path, where: str, block: Any, rules: Mapping[str, Rule], *, passed_to: str) -> None:
    """Raise ClassifierError, naming the key, where a block has one that is not listed or a value that its rule refuses."""
    if not isinstance(block, dict):
        raise ClassifierError(f"{path}: {where or 'it'} is not a mapping")
    for key, value in block.items():
        shown, name = json.dumps(value)[:80], f"{where}.{key[:80]}" if where else key[:80]
        if key not in rules:
            raise ClassifierError(
                f"{path}: {name} (its value: {shown}) is not passed on to {passed_to}, because a model folder may only say what the network is. Remove the key, or name an architecture of open_clip instead"
            )
        if not rules[key](value):
            raise ClassifierError(f"{path}: {name} is {shown}, which no model of {passed_to} has")


def check_declared(weights: Path, declared: int, config: str, *, reader: str) -> None:
    """Raise ClassifierError where a config describes far more values than the file of weights holds, before they are allocated."""
    size = weights.stat().st_size  # a value takes a byte at least
    if declared > size:
        raise ClassifierError(
            f"{weights}: {reader} cannot load these weights: {config} describes at least {declared:,} values, but the file has only {size:,} bytes. Get the file again"
        )


def in_patches(image: int | list[int], patch: int | list[int]) -> tuple[int, int]:
    """Patches of an image, and pixels of a patch, by sides that are one number, or height and width."""
    image, patch = ([side, side] if isinstance(side, int) else side for side in (image, patch))
    return (image[0] // patch[0]) * (image[1] // patch[1]), patch[0] * patch[1]
