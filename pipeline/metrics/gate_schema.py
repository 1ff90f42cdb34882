"""What the schema of metrics.json says of a path, before there is a metrics.json."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allfour.pipeline.run.schema import metrics_schema

Node = Mapping[str, Any]
"""A part of the schema, its references and alternatives taken apart."""


@dataclass(frozen=True, slots=True)
class Place:
    """A number of metrics.json."""

    least: float | None
    most: float | None
    """What the schema allows it to be; None where it does not say."""
    whole: bool
    """Whether it is a count."""


def find_place(path: str) -> Place | None:
    """The number that a path leads to; a name alone is looked up in the summary, and an interval stands for its value.

    Returns
    -------
    None where the schema leaves open what is there.

    Raises
    ------
    KeyError
        No metrics.json has such a path, or it leads to no number; the message says what there is.
    """
    parts = path.split(".")
    top = metrics_schema()
    summary = top["$defs"]["Summary"]
    nodes: list[Node] = [summary if is_of_summary(parts[0], top["properties"]) else top]
    names = [*top["properties"], *summary["properties"]]
    for depth, part in enumerate(parts):
        found = _below(nodes, part)
        if found is None:
            return None
        if not found:
            known = names if depth == 0 else _names(nodes)
            where = ".".join(parts[: depth + 1])
            there = (
                f"; there: {', '.join(dict.fromkeys(known))}"
                if known
                else f": {'.'.join(parts[:depth])} is a single value"
            )
            raise KeyError(f"metrics.json has no {where!r}{suggestion(part, known)}{there}")
        nodes = found
    inner = _names(nodes)
    if "value" in inner:
        nodes = _below(nodes, "value") or []
    numbers = [node for node in nodes if _types(node) & {"number", "integer"}]
    if not numbers:
        if not nodes or any(_open(node) for node in nodes):
            return None
        raise KeyError(f"{path} is no number{'; there: ' + ', '.join(inner) if inner else ''}")
    return Place(
        least=min(node["minimum"] for node in numbers) if all("minimum" in node for node in numbers) else None,
        most=max(node["maximum"] for node in numbers) if all("maximum" in node for node in numbers) else None,
        whole=all(_types(node) & {"number"} == set() for node in numbers),
    )


def is_of_summary(name: str, top: Iterable[str]) -> bool:
    """Whether a path that begins so begins in the summary: `headline` does, since at the top it is an attribute's name and no figure."""
    return name == "headline" or name not in top


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'unanimity'?`, or nothing where no name is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _names(nodes: Sequence[Node]) -> list[str]:
    return [name for node in nodes for name in node.get("properties", {})]


def _types(node: Node) -> set[str]:
    stated = node.get("type", [])
    return {stated} if isinstance(stated, str) else set(stated)


def _open(node: Node) -> bool:
    """What the schema says no more of: an object or a list without its contents, or a value without its type."""
    if not {"type", "$ref", "anyOf", "allOf", "properties"} & set(node):
        return True
    if node.get("additionalProperties") is True and "properties" not in node:
        return True
    return bool(_types(node) & {"object", "array"}) and not {"properties", "additionalProperties", "items"} & set(node)


def _apart(node: Node) -> list[Node]:
    """A part of the schema as its alternatives, references resolved."""
    found: list[Node] = [node]
    if "$ref" in node:
        found += _apart(metrics_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    for inner in (*node.get("anyOf", ()), *node.get("allOf", ())):
        found += _apart(inner)
    return found


def _below(nodes: Sequence[Node], part: str) -> list[Node] | None:
    """What stands under a name: nothing where there is none, None where the schema does not say."""
    named = [node["properties"][part] for node in nodes if part in node.get("properties", {})]
    if not named:  # names that a run gives: labels, and the ids by which entries of a list are found
        named = [node["additionalProperties"] for node in nodes if isinstance(node.get("additionalProperties"), dict)]
        named += [node["items"] for node in nodes if isinstance(node.get("items"), dict)]
    if not named and any(_open(node) for node in nodes):
        return None
    return [inner for node in named for inner in _apart(node)]
