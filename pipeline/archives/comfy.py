"""The prompt of a ComfyUI graph: followed from the saved picture to its sampler, and from there through the conditioning.

A graph holds every text of the desk that it was made on: negative ones, notes, other samplers', those of a second pass. So
links are followed, and nothing is guessed: where a node on the way is not understood, or two pictures could be meant that
have different texts, there is no prompt.

1. From the nodes that save a picture, back through pictures and latents to samplers; of those the one that no other
   sampler comes before, which starts from an empty latent (or a loaded picture). A second pass, a refiner or a detailer
   only works it over.
2. From its `positive` (or its guider's conditioning) to the text encoders. Conditionings that are combined, concatenated
   or averaged have their texts joined.
3. From an encoder's text through the nodes that make texts (see `comfy_text`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from allfour.border import read_json
from allfour.pipeline.archives.comfy_drawn import graph_of_workflow, output_names
from allfour.pipeline.archives.comfy_text import (
    Graph,
    Node,
    UnfollowedError,
    encoded_texts,
    joined,
    link_of,
    text_of,
)

MAX_GRAPH_CHARS = 4 * 2**20
MAX_DEPTH = 150
_MAX_STAGE_HOPS = 8

UNFOLLOWED = "a ComfyUI graph whose prompt could not be followed"


def is_graph(value: Any) -> bool:
    """Whether a JSON value is a graph as ComfyUI's server takes it: node ids with a class and inputs."""
    return isinstance(value, dict) and any(isinstance(node, dict) and "class_type" in node for node in value.values())


def is_workflow(value: Any) -> bool:
    """Whether a JSON value is a graph as ComfyUI's editor keeps it: a list of nodes with their widgets."""
    return isinstance(value, dict) and isinstance(value.get("nodes"), list)


def prompt_in_graph(text: str, workflow: str | None = None) -> str | None:
    """The positive prompt of a ComfyUI graph, or None where it cannot be followed.

    Parameters
    ----------
    text
        The graph as JSON, as the server takes it or as the editor keeps it.
    workflow
        The editor's form of the same graph, which names the outputs of nodes, where it is at hand.
    """
    value, drawn = _loaded(text), _loaded(workflow)
    by_editor = is_workflow(value)
    if by_editor:
        value, drawn = graph_of_workflow(value), value
    if not is_graph(value):
        return None
    try:
        found = Follower(Graph.of(value, output_names(drawn))).prompt()
    except (UnfollowedError, RecursionError):
        return None
    return _sent(found) if by_editor else found


_DRAWN_BY_CHANCE = re.compile(r"\{[^{}|]*\|[^{}]*\}")


def _sent(text: str) -> str | None:
    """What the editor makes of a text when it sends it off: remarks go, and of choices one is drawn, which nobody knows."""
    text = _without_remarks(text).strip()
    return None if not text or _DRAWN_BY_CHANCE.search(text) else text


_REMARK = re.compile(r"//[^\n]*|/\*")


def _without_remarks(text: str) -> str:
    """A text without `// ...` and `/* ... */`. An expression for both would look through the rest of the text at each `/*` that nothing ends."""
    parts: list[str] = []
    at, last = 0, text.rfind("*/")
    while (begun := _REMARK.search(text, at)) is not None:
        start, end = begun.span()
        if begun[0] == "/*" and end > last:  # none that has an end: it stays
            start = end
        elif begun[0] == "/*":
            end = text.index("*/", end) + 2
        parts.append(text[at:start])
        at = end
    return "".join(parts) + text[at:]


def _loaded(text: str | None) -> Any:
    if text is None or len(text) > MAX_GRAPH_CHARS:
        return None
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None


_SAMPLER = re.compile(r"sampler|detailer|ultimatesdupscale|denoise_?node", re.IGNORECASE)
_NO_SAMPLER = re.compile(r"select|scheduler|samplername|sampler_?settings|sigmas", re.IGNORECASE)
_SAMPLING = frozenset({"seed", "noise_seed", "noise", "steps", "cfg", "sampler_name", "sigmas", "denoise"})
_CONDITIONED = (
    "guider",
    "positive",
    "conditioning",
    "text_embeds",
    "positive_cond",
    "cond",
    "basic_pipe",
    "pipe",
    "detailer_pipe",
)
"""Inputs through which a sampler is told what to show, the plainest first."""

_SAVING = re.compile(r"save|output|upload|export|s3", re.IGNORECASE)
_SHOWING = re.compile(r"preview|display|viewer|compare", re.IGNORECASE)

_NO_PICTURE = re.compile(
    r"""^(model|clip|vae|positive|negative|conditioning|cond|guider|noise|sampler|sigmas|seed|control_net|controlnet|
    upscale_model|text|prompt|string|style_model|clip_vision|mask|bbox_detector|segm_detector\w*|sam_model\w*|lora\w*|
    width|height|steps|cfg|denoise|filename\w*|path|value_\w+|optional_\w*vae|audio|ipadapter|ref\w*|reference\w*|
    context_image|start_image|end_image|clip_vision_output|basic_pipe|pipe|select|boolean|condition)$""",
    re.IGNORECASE | re.VERBOSE,
)
"""Inputs that carry no picture on its way to the file."""

_PROMPTED = ("prompt", "text_prompt", "positive_prompt", "prompt_text", "text", "description")


class Follower:
    """One graph, with what was looked at on the way: every node costs once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._texts: dict[tuple[str, int], tuple[str, ...]] = {}

    def prompt(self) -> str:
        """Raises UnfollowedError."""
        found: list[str] = []
        for text in self._candidates():
            if text not in found:
                found.append(text)
        if len(found) != 1 or not found[0]:
            raise UnfollowedError(f"{len(found)} texts")
        return found[0]

    # --- which sampler -----------------------------------------------------------------------------------------------

    def _candidates(self) -> Iterator[str]:
        """The text of every picture that the graph saves; of its samplers where nothing is saved."""
        graph = self._graph
        saving = [key for key, node in graph.nodes.items() if self._ends(node, _SAVING)]
        saving = saving or [key for key, node in graph.nodes.items() if self._ends(node, _SHOWING)]
        makers: dict[str, None] = {}
        for key in saving:
            makers |= dict.fromkeys(self._makers(key))
        if not saving:
            makers = dict.fromkeys(self._makers_without_an_end())
        if not makers and not any(self._is_sampler(node) for node in graph.nodes.values()):
            yield self._lone_encoder(saving)
            return
        for key in makers:
            yield self._text_of_maker(graph.nodes[key])

    def _ends(self, node: Node, pattern: re.Pattern[str]) -> bool:
        return bool(pattern.search(node.kind)) and any(
            link_of(value) and not _NO_PICTURE.match(name) for name, value in node.inputs.items()
        )

    def _makers_without_an_end(self) -> list[str]:
        graph = self._graph
        samplers = [key for key, node in graph.nodes.items() if self._is_sampler(node)]
        found: dict[str, None] = {}
        for key in samplers:
            found |= dict.fromkeys(self._makers(key, itself=True))
        if samplers:
            return list(found)
        guiders = [key for key, node in graph.nodes.items() if "guider" in node.kind.lower()]
        return guiders or [key for key, node in graph.nodes.items() if self._is_service(node)]

    def _makers(self, start: str, *, itself: bool = False) -> list[str]:
        """Samplers and services that made the picture which a node gets, and that no others come before."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        pending = [(start, None if itself else start)]
        while pending:
            key, skipped = pending.pop()
            if key in seen or key not in self._graph.nodes:
                continue
            seen.add(key)
            node = self._graph.visited(key)
            makes = key != skipped and (self._is_sampler(node) or self._is_service(node))
            before = [link[0] for link in self._picture_links(node)]
            if makes and (stage := self._stage_before(node)) is not None:
                before.append(stage)
            if makes and not self._leads_to_maker(before, set(seen)):
                found[key] = None
            else:
                pending += [(link, None) for link in before]
        return list(found)

    def _stage_before(self, node: Node) -> str | None:
        """Where the conditioning of a second stage has the latent of the first one from, which was told what to show."""
        link = link_of(node.inputs.get("positive"))
        for _ in range(_MAX_STAGE_HOPS):
            if link is None or link[0] not in self._graph.nodes:
                return None
            inputs = self._graph.nodes[link[0]].inputs
            if (stage := link_of(inputs.get("stage_c"))) is not None:
                return stage[0]
            link = link_of(inputs.get("conditioning", inputs.get("positive")))
        return None

    def _leads_to_maker(self, keys: Sequence[str], seen: set[str]) -> bool:
        """Whether one of some nodes is a sampler or a service, or gets its picture from one, but for what was `seen`."""
        pending = list(keys)
        while pending:
            key = pending.pop()
            if key in seen or key not in self._graph.nodes:
                continue
            seen.add(key)
            node = self._graph.visited(key)
            if self._is_sampler(node) or self._is_service(node):
                return True
            pending += [link[0] for link in self._picture_links(node)]
        return False

    def _picture_links(self, node: Node) -> Iterator[tuple[str, int]]:
        for name, value in node.inputs.items():
            link = link_of(value)
            if link is not None and not _NO_PICTURE.match(name):
                yield link

    def _is_sampler(self, node: Node) -> bool:
        if not any(link_of(node.inputs.get(name)) for name in _CONDITIONED):
            return False
        if _NO_SAMPLER.search(node.kind):
            return False
        return bool(_SAMPLER.search(node.kind)) or (
            len(_SAMPLING & node.inputs.keys()) >= 2 and "latent_image" in node.inputs
        )

    def _is_service(self, node: Node) -> bool:
        """A node that sends its prompt to a service and gets a picture back."""
        if any(name in node.inputs for name in ("clip", "vae", "images", "positive", "conditioning", "samples")):
            return False
        if not any(name in node.inputs for name in _PROMPTED[:4]):
            return False
        return bool(_SERVICE.search(node.kind)) or not self._graph.feeds_text(node)

    def _lone_encoder(self, saving: Sequence[str]) -> str:
        """In a graph without samplers: the only text encoder that is nobody's negative, and that what is saved depends on."""
        reached = self._behind(saving) if saving else set(self._graph.nodes)
        negative = {
            link[0] for node in self._graph.nodes.values() if (link := link_of(node.inputs.get("negative"))) is not None
        }
        encoders = [
            (key, node)
            for key, node in self._graph.nodes.items()
            if key in reached
            and key not in negative
            and "encode" in node.kind.lower()
            and any(True for _ in node.strings())
        ]
        if len(encoders) != 1:
            raise UnfollowedError("no sampler")
        return joined(encoded_texts(self._graph, encoders[0][1]))

    def _behind(self, keys: Sequence[str]) -> set[str]:
        """Nodes that some depend on, whatever the links carry."""
        found: set[str] = set()
        pending = list(keys)
        while pending:
            key = pending.pop()
            if key not in found and key in self._graph.nodes:
                found.add(key)
                links = (link_of(value) for value in self._graph.visited(key).inputs.values())
                pending += [link[0] for link in links if link is not None]
        return found

    # --- its conditioning --------------------------------------------------------------------------------------------

    def _text_of_maker(self, node: Node) -> str:
        if not self._is_sampler(node) and "guider" not in node.kind.lower():
            name = next(name for name in _PROMPTED if name in node.inputs)
            return text_of(self._graph, node.inputs[name]).strip()
        return joined(self._conditioned(node, MAX_DEPTH))

    def _conditioned(self, node: Node, depth: int) -> tuple[str, ...]:
        """Texts that a sampler or guider is told to show."""
        names = [name for name in _CONDITIONED if name in node.inputs]
        names += [name for name in ("cond1", "cond2") if name in node.inputs]  # of a guider with two
        for name in names:
            link = link_of(node.inputs[name])
            if link is None:
                continue
            if name == "guider":
                guider = self._graph.node(link[0])
                if "guider" in guider.kind.lower() or any(key in guider.inputs for key in ("positive", "conditioning")):
                    return self._conditioned(guider, depth - 1)
            if name.startswith("cond") and name[4:].isdigit():
                both = [
                    self._texts_behind(second, depth - 1)
                    for key in ("cond1", "cond2")
                    if (second := link_of(node.inputs.get(key))) is not None
                ]
                return tuple(dict.fromkeys(text for texts in both for text in texts))
            return self._texts_behind(link, depth - 1)
        raise UnfollowedError(node.kind)

    def _texts_behind(self, link: tuple[str, int], depth: int) -> tuple[str, ...]:
        """Texts of the conditioning that comes out of a node, in order, each once."""
        if link in self._texts:
            return self._texts[link]
        if depth <= 0:
            raise UnfollowedError("too deep, or a loop")
        node = self._graph.visited(link[0])
        texts = self._texts_of(node, link[1], depth)
        self._texts[link] = texts
        return texts

    def _texts_of(self, node: Node, slot: int, depth: int) -> tuple[str, ...]:
        inputs = node.inputs
        kind = node.kind.lower()
        if "zeroout" in kind.replace("_", ""):
            return ()
        chosen = self._graph.chosen(node, slot)
        if chosen is not None:  # a switch, a reroute
            return self._texts_behind(chosen, depth - 1)
        side = self._graph.side(node, slot)
        if side is not None and (link := link_of(inputs.get(side))) is not None and self._is_conditioning(link):
            more = [link_of(value) for name, value in inputs.items() if _MORE.fullmatch(name.removeprefix(side))]
            links = [link, *(each for each in more if each is not None)]
            return tuple(dict.fromkeys(text for each in links for text in self._texts_behind(each, depth - 1)))
        carried = next((link for name in _PIPES if (link := link_of(inputs.get(name))) is not None), None)
        if carried is not None and not any(_WORDED.search(name) for name, _ in node.strings()):
            return self._texts_behind(carried, depth - 1)
        links = [link for name in inputs if _is_conditioning_name(name) and (link := link_of(inputs[name])) is not None]
        if "average" in kind and (only := self._of_average(inputs)) is not None:
            links = [only]
        if links:
            return tuple(dict.fromkeys(text for link in links for text in self._texts_behind(link, depth - 1)))
        if side == "negative":
            return tuple(encoded_texts(self._graph, node, negative=True))
        return tuple(encoded_texts(self._graph, node))

    def _is_conditioning(self, link: tuple[str, int]) -> bool:
        """Whether a link named positive leads to a conditioning, and not to the text of an encoder."""
        return not self._graph.makes_text(self._graph.node(link[0]))

    def _of_average(self, inputs: Mapping[str, Any]) -> tuple[str, int] | None:
        """The one side of an average that has all the weight, if one has."""
        strength = inputs.get("conditioning_to_strength")
        if strength in (0, 1) and not isinstance(strength, bool):
            return link_of(inputs.get("conditioning_to" if strength else "conditioning_from"))
        return None


_SERVICE = re.compile(
    r"dall|openai|gptimage|fluxpro|flux\w*ultra|flux\w*kontext\w*(pro|max)|ideogram|recraft|stability|luma|runway|gemini|"
    r"bytedance|seedream|kling|minimax|imagen|pixverse|vidu|moonvalley|midjourney|api|bfl|grok|nanobanana|texttoimage",
    re.IGNORECASE,
)

_CONDITIONING_NAME = re.compile(
    r"^(conditioning|cond|positive_cond|positive(?=_[AB]$))(_?(\d+|[a-z]|to|from|in|opt|new|default))?$", re.IGNORECASE
)
_MORE = re.compile(r"_(new|default|[a-z])", re.IGNORECASE)
"""What names of conditionings end in that are added to one of the plain name."""
_WORDED = re.compile(r"positive|prompt|text", re.IGNORECASE)
"""Names of inputs whose words take the place of what a pipe carries."""
_PIPES = ("pos", "basic_pipe", "pipe", "base_ctx", "ctx", "context", "bus", "detailer_pipe", "pipe_opt")
"""Inputs that carry model, conditionings and more together, after the one that takes the place of what they carry."""


def _is_conditioning_name(name: str) -> bool:
    return bool(_CONDITIONING_NAME.match(name))
