"""Identities of generators and classifiers: nested documents, set side by side key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allfour.models.classifiers.base import TWICE


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf as `outer.inner` and its value; an empty mapping has none."""
    for key, inner in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(inner, Mapping):
            yield from flat(inner, name)
        else:
            yield name, inner


_ALIKE = (("float32", TWICE), (TWICE, "float32"))
"""Precisions that give the same decisions."""
_CONTENT = "tensors_sha256"
_SOURCE = frozenset({"architecture", "pretrained", "weights_sha256"})
"""What an encoder's identity says of where its weights came from: by which name, and in which file."""


def reading(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of an identity decides how an image is read: where it says what the weights are, not from which file they were loaded.

    One set of weights by tag, from a file and from a folder of either format has one reading.
    """
    left_out = _SOURCE if _CONTENT in identity else frozenset()
    return {
        key: reading(value) if isinstance(value, Mapping) else value
        for key, value in identity.items()
        if key not in left_out
    }


def differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Leaves that are not the same in both, in the order of the first and then the second; None where one lacks it.

    Where the weights are the same, the files that they were loaded from may differ; and half precision with the decisions of float32 is no
    other classifier than float32.
    """
    first, second = dict(flat(one)), dict(flat(two))
    for block, here, there in list(_precisions(first, second)):
        if (here, there) in _ALIKE:
            first, second = (_without_precision(leaves, block) for leaves in (first, second))
    first, second = _comparable(first, second)
    keys = dict.fromkeys([*first, *second])
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def deciding_alike(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether one classifier encodes in float32 and the other in half precision with the decisions of float32."""
    return any((here, there) in _ALIKE for _, here, there in _precisions(dict(flat(one)), dict(flat(two))))


def _precisions(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Blocks whose leaf `dtype` is in both, with what it says there."""
    for name, value in one.items():
        block, _, key = name.rpartition(".")
        if key == "dtype" and name in two:
            yield block, value, two[name]


def _without_precision(leaves: Mapping[str, Any], block: str) -> dict[str, Any]:
    start = f"{block}." if block else ""
    return {k: v for k, v in leaves.items() if k != f"{start}dtype" and not k.startswith(f"{start}half.")}


def _comparable(*flats: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the leaves that say less than others: of the source where the content is the same, of the content where one lacks it."""
    result = []
    for leaves in flats:
        kept = {}
        for name, value in leaves.items():
            block, _, key = name.rpartition(".")
            found = {other.get(f"{block}.{_CONTENT}" if block else _CONTENT) for other in flats}
            same = len(found) == 1 and None not in found
            if not (key in _SOURCE and same) and not (key == _CONTENT and None in found):
                kept[name] = value
        result.append(kept)
    return result
