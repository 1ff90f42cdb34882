"""A ComfyUI graph as its editor keeps it, brought into the form that the server takes: links by name, and subgraphs laid open.

A node of a subgraph stands for the nodes of its definition, as often as it is used: they get the ids `instance:node`, as the server gives
them. Links that come in from outside end at the node -10 of a definition, and those that leave it at -20.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from allfour.pipeline.archives.comfy_text import UNNAMED, link_of

_WIDGETS = {
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "PrimitiveNode": ("value",),
}
_MUTED, _BYPASSED = 2, 4
_INPUTS, _OUTPUTS = "-10", "-20"
_MAX_DEPTH, _MAX_NODES, _MAX_HOPS = 20, 5_000, 200

_Link = tuple[str, int, str]
"""Node and output that a link comes from, and the type of what it carries."""


def graph_of_workflow(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """A graph as the server takes it, from the form in which the editor keeps it.

    There the values of widgets stand in a row without their names; nodes whose names are neither said nor known here
    keep their links alone, and cannot be followed through.
    """
    graph: dict[str, Any] = {}
    nodes: dict[str, Mapping[str, Any]] = {}
    scopes = _scopes(drawn)
    for scope in scopes:
        for id_, node in scope.plain():
            nodes[scope.prefix + id_] = node
            graph[scope.prefix + id_] = _served(node, scope)
    for scope in scopes:
        for key, name, value in scope.promoted():
            if key in graph and not link_of(graph[key]["inputs"].get(name)):
                graph[key]["inputs"][name] = value
    _connect_names(nodes, graph)
    return graph


def output_names(drawn: Any) -> dict[str, list[str]]:
    """Names of the outputs of every node, by its id; none where this is no graph of the editor's."""
    if not isinstance(drawn, dict) or not isinstance(drawn.get("nodes"), list):
        return {}
    return {
        scope.prefix + id_: [
            str(output.get("name", "")) if isinstance(output, dict) else "" for output in node["outputs"]
        ]
        for scope in _scopes(drawn)
        for id_, node in scope.plain()
        if isinstance(node.get("outputs"), list)
    }


@dataclass(eq=False)
class _Scope:
    """The graph itself, or one use of a subgraph."""

    nodes: dict[str, Mapping[str, Any]]
    links: dict[Any, _Link]
    inputs: list[str] = field(default_factory=list)
    """Names of what comes in from outside, in order."""
    leaving: dict[int, _Link] = field(default_factory=dict)
    """Output -> where it comes from."""
    prefix: str = ""
    parent: _Scope | None = None
    instance: Mapping[str, Any] = field(default_factory=dict)
    """The node of the parent that this is the inside of."""
    inside: dict[str, _Scope] = field(default_factory=dict)
    """By the id of the node that stands for it."""

    def plain(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Nodes that are no subgraphs, and not muted."""
        return (
            (id_, node) for id_, node in self.nodes.items() if id_ not in self.inside and node.get("mode") != _MUTED
        )

    def source(self, link: Any) -> tuple[Any, str] | None:
        """What an input takes through a link, `[id, output]` or a value, and the type of the link; None where nothing is known."""
        scope: _Scope = self
        found = self._link(link)
        for _ in range(_MAX_HOPS):
            if found is None:
                return None
            id_, output, kind = found
            if id_ == _INPUTS and scope.parent is not None:
                name = scope.inputs[output] if 0 <= output < len(scope.inputs) else ""
                if (outside := scope._outside.get(name)) is None:
                    return (scope._set[name], kind) if name in scope._set else None
                found = scope.parent._link(outside)
                scope = scope.parent
            elif id_ in scope.inside:
                scope, found = scope.inside[id_], scope.inside[id_].leaving.get(output)
            else:
                return [scope.prefix + id_, output], kind
        return None

    @cached_property
    def _outside(self) -> dict[str, Any]:
        """What comes in from outside by a link: the link in the parent, by its name; the first of several."""
        named = [slot for slot in _slots(self.instance) if isinstance(slot.get("name"), str)]
        return {slot["name"]: slot.get("link") for slot in reversed(named)}

    @cached_property
    def _set(self) -> dict[str, Any]:
        """What comes in and is set on the node itself."""
        return dict(_widget_values("", _slots(self.instance), self.instance.get("widgets_values")))

    def _link(self, link: Any) -> _Link | None:
        return self.links.get(link) if isinstance(link, str | int) else None

    def promoted(self) -> Iterator[tuple[str, str, Any]]:
        """Widgets of the nodes inside that are set on the node which stands for them: id, name and value."""
        properties = self.instance.get("properties")
        named = properties.get("proxyWidgets") if isinstance(properties, dict) else None
        values = self.instance.get("widgets_values")
        if isinstance(named, list) and isinstance(values, list) and len(named) == len(values):
            for entry, value in zip(named, values, strict=True):
                if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], str):
                    yield self.prefix + str(entry[0]), entry[1], value


def _scopes(drawn: Mapping[str, Any]) -> list[_Scope]:
    """The graph, then every use of a subgraph in it, those that hold others first."""
    definitions = drawn.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    known = {
        str(one.get("id")): one
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("nodes"), list)
    }
    pending = [(_scope(drawn), 0)]
    done: list[_Scope] = []
    count = 0
    while pending:
        scope, depth = pending.pop(0)
        count += len(scope.nodes)
        for id_, node in scope.nodes.items():
            definition = known.get(str(node.get("type")))
            if definition is None or node.get("mode") in (_MUTED, _BYPASSED):
                continue
            if depth < _MAX_DEPTH and count + len(definition["nodes"]) <= _MAX_NODES:
                inner = _scope(definition, f"{scope.prefix}{id_}:", scope, node)
                scope.inside[id_] = inner
                pending.append((inner, depth + 1))
        done.append(scope)
    return done


def _scope(
    drawn: Mapping[str, Any],
    prefix: str = "",
    parent: _Scope | None = None,
    instance: Mapping[str, Any] | None = None,
) -> _Scope:
    links: dict[Any, _Link] = {}
    leaving: dict[int, _Link] = {}
    for link in drawn["links"] if isinstance(drawn.get("links"), list) else ():
        if isinstance(link, list) and len(link) >= 5 and isinstance(link[2], int) and isinstance(link[0], str | int):
            links[link[0]] = (str(link[1]), link[2], str(link[5]) if len(link) > 5 else "")
        elif (
            isinstance(link, dict)
            and isinstance(link.get("origin_slot"), int)
            and isinstance(link.get("id"), str | int)
        ):
            links[link["id"]] = (str(link.get("origin_id")), link["origin_slot"], str(link.get("type", "")))
            if str(link.get("target_id")) == _OUTPUTS and isinstance(link.get("target_slot"), int):
                leaving[link["target_slot"]] = links[link["id"]]
    nodes: dict[str, Mapping[str, Any]] = {
        str(node.get("id")): node for node in drawn["nodes"] if isinstance(node, dict)
    }
    inputs = drawn.get("inputs")
    names = (
        [str(one.get("name", "")) if isinstance(one, dict) else "" for one in inputs]
        if isinstance(inputs, list)
        else []
    )
    return _Scope(nodes, links, names, leaving, prefix, parent, instance or {})


def _slots(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    slots = node.get("inputs")
    return [slot for slot in slots if isinstance(slot, dict)] if isinstance(slots, list) else []


def _served(node: Mapping[str, Any], scope: _Scope) -> dict[str, Any]:
    kind = str(node.get("type", ""))
    inputs: dict[str, Any] = {}
    listed = node.get("outputs")
    outputs = [output.get("type") for output in listed if isinstance(output, dict)] if isinstance(listed, list) else []
    values = node.get("widgets_values")
    named = _widget_values(kind, _slots(node), values)
    for name, value in named:
        inputs[name] = value
    for slot in _slots(node):
        found = scope.source(slot.get("link"))
        if found is not None and (node.get("mode") != _BYPASSED or found[1] in outputs[:1]):
            inputs[str(slot.get("name", ""))] = found[0]
    if node.get("mode") == _BYPASSED:
        return {"class_type": "Bypassed", "inputs": {name: value for name, value in inputs.items() if link_of(value)}}
    return {"class_type": kind, "inputs": inputs, UNNAMED: bool(values) and not named}


def _widget_values(kind: str, slots: Sequence[Mapping[str, Any]], values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, dict):
        return list(values.items())
    if not isinstance(values, list):
        return []
    names = [str(slot["widget"].get("name")) for slot in slots if isinstance(slot.get("widget"), dict)]
    for found in (values, _without_control(names, values)):
        if names and len(names) == len(found):
            return list(zip(names, found, strict=True))
    if (known := _WIDGETS.get(kind)) and len(values) >= len(known):
        return list(zip(known, values, strict=False))
    strings = [value for value in values if isinstance(value, str) and value.strip()]
    if len(strings) == len(values) == 1 and not _CHOOSES.search(kind):
        return [("text", strings[0])]
    return []


_CHOOSES = re.compile(r"styl|select|load|file|choice|preset|pick|switch|template|wildcard", re.IGNORECASE)
"""Nodes whose one text may be the name of something."""
_CONTROL = frozenset({"fixed", "increment", "decrement", "randomize"})


def _without_control(names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """Values of widgets without those that say what becomes of a seed, which the editor keeps beside it under no name."""
    kept: list[Any] = []
    for value in values:
        after_seed = kept and len(kept) <= len(names) and "seed" in names[len(kept) - 1]
        if not (after_seed and isinstance(value, str) and value in _CONTROL):
            kept.append(value)
    return kept


def _connect_names(nodes: Mapping[str, Mapping[str, Any]], graph: Mapping[str, dict[str, Any]]) -> None:
    """Links by name, from nodes that set a value to those that get it."""
    sources: dict[str, Any] = {}
    for key, node in nodes.items():
        served = graph[key]
        called = json.dumps(node.get("widgets_values"))[:1000]
        if str(node.get("type")).endswith("SetNode"):
            served["inputs"] = {name: value for name, value in served["inputs"].items() if link_of(value)}
            sources[called] = [key, 0]
    for key, node in nodes.items():
        if str(node.get("type")).endswith("GetNode"):
            called = json.dumps(node.get("widgets_values"))[:1000]
            graph[key]["inputs"] = {"value": sources[called]} if called in sources else {}
