"""What the nodes of a ComfyUI graph say: texts that stand in them, and how nodes that make texts put them together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allfour.pipeline.archives.text import natural_key

MAX_TEXT_CHARS = 200_000
"""A text put together of parts may double at every node."""
_MAX_TEXT_DEPTH = 100
MAX_VISITS = 20_000
_INPUTS_OF_A_VISIT = 100
"""A node with so many inputs more costs as two visits: all of them are looked at, each time."""
UNNAMED = "unnamed values"
"""Mark of a node of the editor's form whose values have no names there."""


class UnfollowedError(Exception):
    """The graph cannot be followed to its prompt. The message is for people who debug this."""


def link_of(value: Any) -> tuple[str, int] | None:
    """Node and output that an input takes its value from; None for a value that stands in it."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int):
        return str(value[0]), value[1]
    return None


@dataclass(frozen=True, slots=True)
class Node:
    """One node as ComfyUI's server takes it."""

    kind: str
    inputs: Mapping[str, Any]
    unnamed: bool = False
    """Whether it has values of which is not known what they are."""

    def strings(self) -> Iterator[tuple[str, str]]:
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, str) and value.strip())


@dataclass(slots=True)
class Graph:
    """Nodes by their id, and the names of their outputs where the editor's form of the graph tells them."""

    nodes: dict[str, Node]
    outputs: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    """Texts that were made already: a node's costs once, however many take it."""
    writers: frozenset[str] = frozenset()
    """Nodes that another one takes a text from."""
    visits: int = 0

    @classmethod
    def of(cls, value: Mapping[str, Any], outputs: Mapping[str, list[str]] | None = None) -> Graph:
        nodes: dict[str, Node] = {}
        for key, node in value.items():
            if isinstance(node, dict) and isinstance(node.get("class_type"), str):
                inputs = node.get("inputs")
                unnamed = bool(node.get(UNNAMED))
                nodes[str(key)] = Node(node["class_type"], inputs if isinstance(inputs, dict) else {}, unnamed)
        writers = frozenset(
            link[0]
            for node in nodes.values()
            for name, value in node.inputs.items()
            if name.lower() in _TEXT_INPUTS and (link := link_of(value)) is not None
        )
        return cls(nodes, dict(outputs or {}), {id(node): key for key, node in nodes.items()}, writers=writers)

    def visited(self, key: str) -> Node:
        """A node that is to be looked at. Raises UnfollowedError where a link leads nowhere, or the graph is too large."""
        node = self.node(key)
        self.visits += 1 + len(node.inputs) // _INPUTS_OF_A_VISIT
        if self.visits > MAX_VISITS:
            raise UnfollowedError("too large")
        return node

    def node(self, key: str) -> Node:
        """Raises UnfollowedError where a link leads nowhere."""
        if key not in self.nodes:
            raise UnfollowedError(f"no node {key}")
        return self.nodes[key]

    def side(self, node: Node, slot: int) -> str | None:
        """`positive` or `negative`, as the output of a node that has both is one of them; None for any other."""
        names = self.outputs.get(self.keys.get(id(node), ""), [])
        if slot < len(names):
            name = names[slot].lower()
            for side in ("positive", "negative"):
                if name.startswith((side[:3], f"text_{side[:3]}")) or name in (
                    f"conditioning{'+-'[side == 'negative']}",
                ):
                    return side
        if not {"positive", "negative"} <= node.inputs.keys():
            return "positive" if "positive" in node.inputs and slot == 0 else None
        first = 1 if "ckpt_name" in node.inputs or ("model" in node.inputs and _MODEL_FIRST.search(node.kind)) else 0
        return {first: "positive", first + 1: "negative"}.get(slot, "positive")

    def chosen(self, node: Node, slot: int) -> tuple[str, int] | None:
        """The one link that a reroute or switch passes on; None for any other node.

        Raises
        ------
        UnfollowedError
            For a switch whose choice does not stand in the graph.
        """
        kind = node.kind.lower()
        links = {name: link for name, value in node.inputs.items() if (link := link_of(value)) is not None}
        if "reroute" in kind or kind in ("bypassed", "getnode", "setnode") or kind.endswith("getnode"):
            if len(links) != 1:
                raise UnfollowedError(node.kind)
            return next(iter(links.values()))
        if "switch" not in kind and "ifelse" not in kind.replace(" ", ""):
            return None
        name = _switched(node, list(links))
        if name is None:
            raise UnfollowedError(node.kind)
        return links.get(name)

    def makes_text(self, node: Node) -> bool:
        """Whether a node's output is a text, by its class."""
        kind = node.kind.lower()
        return (
            bool(_TEXT_KIND.search(kind))
            and "encode" not in kind
            and "conditioning" not in kind
            and ("clip" not in node.inputs)
        )

    def feeds_text(self, node: Node) -> bool:
        """Whether another node takes a text from this one: it writes prompts, it does not make pictures."""
        return self.keys.get(id(node)) in self.writers


_MODEL_FIRST = re.compile(r"instantid|loader|pulid", re.IGNORECASE)
_TEXT_KIND = re.compile(r"string|text|prompt|primitive|literal|wildcard|styler|note|reroute|positive", re.IGNORECASE)


def _switched(node: Node, linked: Sequence[str]) -> str | None:
    """Name of the input that a switch passes on, where its choice stands in the graph."""
    inputs = node.inputs
    if "rgthree" in node.kind.lower():  # the first one that is linked
        return min(linked, key=natural_key, default=None)
    for flag, on_true, on_false in (("switch", "on_true", "on_false"), ("boolean", "on_true", "on_false")):
        if isinstance(inputs.get(flag), bool) and on_true in inputs:
            return on_true if inputs[flag] else on_false
    for name in ("select", "Input", "input", "index"):
        choice = inputs.get(name)
        if isinstance(choice, int) and not isinstance(choice, bool):
            return next((other for other in inputs if re.fullmatch(rf"\D*_?0*{choice}", other) and other != name), None)
    return None


# --- encoders --------------------------------------------------------------------------------------------------------

_PARALLEL = ("t5xxl", "llama", "mt5xl", "text_g", "clip_g", "text_l", "clip_l", "bert", "qwen25_7b", "byt5")
"""Texts of one conditioning for several text models, the one that takes the whole prompt first."""
_SINGLE = (
    "populated_text",
    "text",
    "prompt",
    "positive_prompt",
    "user_prompt",
    "text_positive",
    "positive",
    "string",
    "tags",
    "caption",
)
_NEGATIVE = ("negative", "negative_prompt", "text_negative")
_ENCODES = re.compile(r"encode|conditioning|prompt|positive|loader", re.IGNORECASE)


def encoded_texts(graph: Graph, node: Node, *, negative: bool = False) -> list[str]:
    """Texts that a text encoder makes a conditioning of, each once.

    Raises
    ------
    UnfollowedError
        If the node is no encoder, or its texts cannot be followed.
    """
    if not (_ENCODES.search(node.kind) or "clip" in node.inputs):
        raise UnfollowedError(node.kind)
    inputs = node.inputs
    names = [name for name in _PARALLEL if name in inputs]
    if (
        len(names) > 1
        and inputs.get("text")
        and (inputs.get("with_SDXL") is False or not any(inputs[name] for name in names))
    ):
        names = []  # those of another mode of the node
    if negative:
        names = [name for name in _NEGATIVE if name in inputs][:1]
    elif len(names) < 2:
        names = ([name for name in _SINGLE if name in inputs and not _is_foreign(graph, inputs[name])] + names)[:1]
    if not names:
        raise UnfollowedError(node.kind)
    if names == ["populated_text"]:
        return [_populated(graph, node, 0)]
    texts: list[str] = []
    for text in (text_of(graph, inputs[name]).strip() for name in names):
        if _SCHEDULE.match(text):
            raise UnfollowedError("a text for every frame")
        if text and not any(text.casefold() in other.casefold() for other in texts):
            texts = [other for other in texts if other.casefold() not in text.casefold()] + [text]
    return texts


_SCHEDULE = re.compile(r"\s*([\"'])?\d+\1?\s*:\s*[\"'(]")
"""How texts begin that change from frame to frame."""


def _is_foreign(graph: Graph, value: Any) -> bool:
    """Whether an input of a text's name is linked to something that is none, such as a conditioning."""
    link = link_of(value)
    return link is not None and link[0] in graph.nodes and "encode" in graph.nodes[link[0]].kind.lower()


def joined(texts: Iterable[str]) -> str:
    """Texts of one picture as one, as people write a list."""
    parts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    return ", ".join([*(part.rstrip(" \t\r\n,") for part in parts[:-1]), *parts[-1:]])


# --- texts -----------------------------------------------------------------------------------------------------------

_TEXT_INPUTS = frozenset(
    [
        "text",
        "string",
        "prompt",
        "value",
        "positive",
        "positive_prompt",
        "text_positive",
        "text_a",
        "text_b",
        "string_a",
        "string_b",
        "text1",
        "text2",
        "text_1",
        "text_2",
        "text_g",
        "text_l",
        "t5xxl",
        "clip_l",
        "clip_g",
        "source",
        "any",
        "anything",
        "input",
        "wildcard_text",
        "prompt_text",
        "user_prompt",
    ]
)
_PLAIN_INPUTS = (
    "value", "text", "string", "prompt", "positive_prompt", "positive", "prompt_text", "content", "str", "input_text",
    "multiline_text", "text_string", "source", "anything", "any", "input", "any_input",
)  # fmt: skip

_OPAQUE = re.compile(
    r"llm|gpt|ollama|gemini|claude|openai|florence|caption|tagger|interrogat|describ|blip|llava|vlm|vision|qwen|moondream|"
    r"translat|enhanc|upsampl|expan|generat|random|load|file|csv|reader|saver|(?<!multi)line|list|regex|split|extract|iterat|increment|"
    r"batch|schedul|loop|chat|magic|queue|travel|convert|parse|json|dict|count|compare|format|math|seed|image|cycle|shuffle",
    re.IGNORECASE,
)
"""Nodes whose output does not follow from what stands in the graph, or that is not known here."""
_RANDOM = re.compile(r"wildcard|dynamicprompt|^dp[a-z]|randomprompt|combinatorial", re.IGNORECASE)
_PENDING = re.compile(r"__[^\s_][^\s]*?__|\{[^{}|]*\|[^{}]*\}|\$\{")
_JOINING = re.compile(r"concat|join|combine|merge|append|stringfunction", re.IGNORECASE)
_PART = re.compile(r"^(text|string|str|prompt|part|input|value|txt|positive|arg)?[ _]?([a-z]|\d{1,3})$", re.IGNORECASE)
_SEPARATORS = ("delimiter", "separator", "sep", "joiner", "concat_with", "seperator")


def text_of(graph: Graph, value: Any, depth: int = _MAX_TEXT_DEPTH) -> str:
    """The text that an input has: it stands there, or is made by the nodes that it is linked to.

    Raises
    ------
    UnfollowedError
        If a node on the way is not understood, or makes its text by chance or by a model.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    link = link_of(value)
    if link is None or depth <= 0:
        raise UnfollowedError("no text")
    if link in graph.texts:
        return graph.texts[link]
    node, slot = graph.visited(link[0]), link[1]
    chosen = graph.chosen(node, slot)
    text = text_of(graph, list(chosen), depth - 1) if chosen else _made(graph, node, slot, depth - 1)
    if len(text) > MAX_TEXT_CHARS:
        raise UnfollowedError("too long")
    graph.texts[link] = text
    return text


def _made(graph: Graph, node: Node, slot: int, depth: int) -> str:
    kind = node.kind.lower()
    if node.unnamed and not _SHOWS.search(kind):
        raise UnfollowedError(node.kind)
    if _RANDOM.search(kind):
        return _populated(graph, node, depth)
    if "styler" in kind or kind.endswith("styles") or ("style" in kind and "text_positive" in node.inputs):
        return _styled(graph, node, slot, depth)
    compact = re.sub(r"[^a-z]", "", kind)
    for name, make in _MAKERS.items():
        if name in compact:
            return make(graph, node, depth)
    if _JOINING.search(kind):
        return _concatenated(graph, node, depth)
    if _OPAQUE.search(kind) or (not _TEXT_KIND.search(kind) and not _SHOWS.search(kind)):
        raise UnfollowedError(node.kind)
    return _plain(graph, node, slot, depth)


_CHOICE = re.compile(
    r"styl|file|name|mode|path|key|type|preset|model|templat|categor|option|select|choice|folder|index", re.IGNORECASE
)
"""Names of inputs that say which text is meant, and are none."""
_SHOWS = re.compile(r"show|display|preview|constant|^any|value|multiline", re.IGNORECASE)


def _plain(graph: Graph, node: Node, slot: int, depth: int) -> str:
    """The one text of a node that only holds or shows it."""
    inputs = node.inputs
    if {"positive", "negative"} <= inputs.keys() or {"positive_prompt", "negative_prompt"} <= inputs.keys():
        side = graph.side(node, slot) or ("positive", "negative")[slot] if slot < 2 else "positive"
        return text_of(graph, inputs.get(side, inputs.get(f"{side}_prompt")), depth)
    lower = {name.lower(): name for name in inputs}
    names = [lower[name] for name in _PLAIN_INPUTS if name in lower]
    names = [name for name in names if isinstance(inputs[name], str) or link_of(inputs[name])] or (
        [name for name in names if isinstance(inputs[name], int | float)]
    )
    if not names:
        names = [name for name, _ in node.strings()]
        if len(names) != 1 or _CHOICE.search(names[0]):
            raise UnfollowedError(node.kind)
    linked = [name for name in names if link_of(inputs[name])]
    if (
        linked
        and len(names) > len(linked)
        and any(isinstance(inputs[name], str) and inputs[name].strip() for name in names)
    ):
        if not _SHOWS.search(node.kind):  # who knows what becomes of the two
            raise UnfollowedError(node.kind)
        names = linked  # what stands there was shown the last time
    text = text_of(graph, inputs[names[0]], depth)
    if node.kind == "Text Multiline":  # whose lines that begin so are comments
        text = "\n".join(line for line in text.split("\n") if not line.strip().startswith("#"))
    return text


def _populated(graph: Graph, node: Node, depth: int) -> str:
    """What a node that draws wildcards drew, where it stands in the graph; a text without any draws nothing."""
    for name in ("populated_text", "populated", "wildcard_text", "text", "prompt", "string"):
        value = node.inputs.get(name)
        if value is None or value == "":
            continue
        text = text_of(graph, value, depth)
        lines = "random" in node.kind.lower() and "\n" in text.strip()  # one of which is drawn
        if _PENDING.search(text) or lines:
            raise UnfollowedError(node.kind)
        return text
    raise UnfollowedError(node.kind)


def _styled(graph: Graph, node: Node, slot: int, depth: int) -> str:
    """What a styler was given: its templates lie in files and do not stand in the graph."""
    inputs = node.inputs
    side = graph.side(node, slot) or ("negative" if slot == 1 and "text_negative" in inputs else "positive")
    if "text_positive_g" in inputs:
        names = {0: ["text_positive_g"], 1: ["text_positive_l"], 2: ["text_positive_g", "text_positive_l"]}.get(slot)
        if names is None:
            raise UnfollowedError(node.kind)
        return joined(text_of(graph, inputs[name], depth) for name in names if name in inputs)
    for name in (f"text_{side}", f"{side}_prompt", side, *(("prompt", "text") if side == "positive" else ())):
        if name in inputs:
            return text_of(graph, inputs[name], depth)
    raise UnfollowedError(node.kind)


def _concatenated(graph: Graph, node: Node, depth: int) -> str:
    inputs = node.inputs
    if inputs.get("action") == "replace":  # of a node that does both
        return _replaced(graph, node, depth)
    parts = sorted((name for name in inputs if _PART.match(name)), key=natural_key)
    if not parts:
        parts = [name for name in ("text", "string", "prompt") if name in inputs]
    separator = next((name for name in _SEPARATORS if name in inputs), None)
    between = text_of(graph, inputs[separator], depth).replace("\\n", "\n") if separator else ""
    if inputs.get("tidy_tags") == "yes":
        between = ", "
    if {"prefix", "suffix"} & inputs.keys():
        parts = [name for name in ("prefix", *parts, "suffix") if name in inputs]
    texts = [text_of(graph, inputs[name], depth) for name in parts]
    if str(inputs.get("clean_whitespace", "")).lower() == "true" or inputs.get("tidy_tags") == "yes":
        texts = [text.strip(" ,") if inputs.get("tidy_tags") else text.strip() for text in texts]
    if not parts:
        raise UnfollowedError(node.kind)
    if sum(len(between) + len(text) for text in texts) > MAX_TEXT_CHARS:  # before it is made
        raise UnfollowedError("too long")
    return between.join(text for text in texts if text.strip())


def _replaced(graph: Graph, node: Node, depth: int) -> str:
    inputs = node.inputs
    for whole, find, replace in (
        ("string", "find", "replace"),
        ("text", "find", "replace"),
        ("text_a", "text_b", "text_c"),
    ):
        if {whole, find, replace} <= inputs.keys() and "regex" not in node.kind.lower():
            text, old, new = (text_of(graph, inputs[name], depth) for name in (whole, find, replace))
            if re.fullmatch(r"/.*/[a-z]*", old):  # an expression
                break
            if old and len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT_CHARS:  # before it is made
                raise UnfollowedError("too long")
            return text.replace(old, new) if old else text
    raise UnfollowedError(node.kind)


def _trimmed(graph: Graph, node: Node, depth: int) -> str:
    text = text_of(graph, node.inputs.get("string", node.inputs.get("text")), depth)
    mode = str(node.inputs.get("mode", "Both")).lower()
    return text.lstrip() if mode == "left" else text.rstrip() if mode == "right" else text.strip()


def _recased(graph: Graph, node: Node, depth: int) -> str:
    text = text_of(graph, node.inputs.get("string", node.inputs.get("text")), depth)
    modes: dict[str, Callable[[str], str]] = {
        "uppercase": str.upper,
        "lowercase": str.lower,
        "capitalize": str.capitalize,
        "title case": str.title,
    }
    make = modes.get(str(node.inputs.get("mode", "")).lower())
    if make is None:
        raise UnfollowedError(node.kind)
    return make(text)


_MAKERS: dict[str, Callable[[Graph, Node, int], str]] = {
    "stringreplace": _replaced,
    "findandreplace": _replaced,
    "textreplace": _replaced,
    "stringtrim": _trimmed,
    "caseconverter": _recased,
}
