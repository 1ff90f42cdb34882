"""Identities of generators and classifiers: nested documents, set side by side key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as `outer.inner` and its value; an empty mapping has none."""
    for key, inner in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(inner, Mapping):
            yield from flat(inner, name)
        else:
            yield name, inner


def differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Leaves that are not the same in both, in the order of the first and then the second; None where one lacks it."""
    first, second = dict(flat(one)), dict(flat(two))
    keys = dict.fromkeys([*first, *second])
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]
