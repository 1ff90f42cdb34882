"""Prompts from graphs in the form in which ComfyUI's editor keeps them, subgraphs among them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.pipeline.archives.comfy_graphs import NEGATIVE, NURSE, read


class TestEditorsForm:
    def drawn(self, **changed: Any) -> dict[str, Any]:
        nodes = {
            3: {"type": "KSampler", "inputs": [{"name": "positive", "link": 1}, {"name": "negative", "link": 2},
                                               {"name": "latent_image", "link": 3}], "widgets_values": [1, "fixed", 20]},
            5: {"type": "EmptyLatentImage", "widgets_values": [512, 512, 1]},
            6: {"type": "CLIPTextEncode", "widgets_values": [NURSE]},
            7: {"type": "CLIPTextEncode", "widgets_values": [NEGATIVE]},
            8: {"type": "VAEDecode", "inputs": [{"name": "samples", "link": 4}]},
            9: {"type": "SaveImage", "inputs": [{"name": "images", "link": 5}], "widgets_values": ["x"]},
        }  # fmt: skip
        links = [[1, 6, 0, 3, 1, "CONDITIONING"], [2, 7, 0, 3, 2, "CONDITIONING"], [3, 5, 0, 3, 3, "LATENT"],
                 [4, 3, 0, 8, 0, "LATENT"], [5, 8, 0, 9, 0, "IMAGE"]]  # fmt: skip
        return {"nodes": [{"id": key, **value} for key, value in nodes.items()], "links": links} | changed

    def test_followed(self) -> None:
        assert read(self.drawn()) == NURSE

    def test_without_links_none_is_known(self) -> None:
        assert read(self.drawn(links=[])) is None

    def test_names_beside_values_of_which_a_seed_has_two(self) -> None:
        drawn = self.drawn()
        drawn["nodes"][2] = {
            "id": 6, "type": "IdeogramV3", "widgets_values": [7, "randomize", NURSE],
            "inputs": [{"name": name, "widget": {"name": name}, "link": None} for name in ("seed", "prompt")],
        }  # fmt: skip
        drawn["links"] = [[5, 6, 0, 9, 0, "IMAGE"]]
        assert read(drawn) == NURSE

    @pytest.mark.parametrize(
        "maker",
        [
            {"type": "Text Concatenate", "widgets_values": [", ", "true"]},
            {"type": "Prompt Styles Selector", "widgets_values": ["a nurse"]},
        ],
    )
    def test_values_without_names_make_no_text(self, maker: dict[str, Any]) -> None:
        drawn = self.drawn()
        linked = [{"name": "text_a", "link": 20}, {"name": "text_b", "link": 21}]
        drawn["nodes"].append({"id": 20, "inputs": linked, **maker})
        drawn["nodes"] += [{"id": at, "type": "PrimitiveString", "widgets_values": [NURSE]} for at in (21, 22)]
        drawn["nodes"][2] = {
            "id": 6,
            "type": "CLIPTextEncode",
            "inputs": [{"name": "text", "link": 6}],
            "widgets_values": [""],
        }
        drawn["links"] += [[6, 20, 0, 6, 0, "STRING"], [20, 21, 0, 20, 0, "STRING"], [21, 22, 0, 20, 1, "STRING"]]
        assert read(drawn) is None

    def test_what_the_editor_makes_of_a_text(self) -> None:
        drawn = self.drawn()
        for text, prompt in ((f"{NURSE} // a remark\n/* more\n*/", NURSE), ("a {nurse|pilot}", None)):
            drawn["nodes"][2] = {"id": 6, "type": "CLIPTextEncode", "widgets_values": [text]}
            assert read(drawn) == prompt

    def test_muted_and_bypassed(self) -> None:
        drawn = self.drawn()
        drawn["nodes"].append(
            {"id": 20, "type": "ControlNetApply", "mode": 4, "outputs": [{"type": "CONDITIONING"}],
             "inputs": [{"name": "conditioning", "link": 6}, {"name": "image", "link": 7}]}
        )  # fmt: skip
        drawn["links"] = [[1, 20, 0, 3, 1, "CONDITIONING"], [6, 6, 0, 20, 0, "CONDITIONING"], *drawn["links"][1:],
                          [7, 8, 0, 20, 1, "IMAGE"]]  # fmt: skip
        assert read(drawn) == NURSE

    def test_values_set_and_got_by_name(self) -> None:
        drawn = self.drawn()
        drawn["nodes"] += [
            {"id": 20, "type": "SetNode", "inputs": [{"name": "CONDITIONING", "link": 6}], "widgets_values": ["p"]},
            {"id": 21, "type": "GetNode", "widgets_values": ["p"]},
        ]
        drawn["links"] = [[1, 21, 0, 3, 1, "CONDITIONING"], [6, 6, 0, 20, 0, "CONDITIONING"], *drawn["links"][1:]]
        assert read(drawn) == NURSE


def drawn_with_subgraph(instance: dict[str, Any], encoder: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An editor's graph whose encoder and sampler lie in a subgraph, and whose picture is saved outside."""

    def link(id_: int, origin: int, slot: int, target: int, to: int, kind: str) -> dict[str, Any]:
        return {
            "id": id_,
            "origin_id": origin,
            "origin_slot": slot,
            "target_id": target,
            "target_slot": to,
            "type": kind,
        }

    inner = {
        "id": "0f0e",
        "inputs": [{"name": "words", "type": "STRING", "linkIds": [1]}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [5]}],
        "nodes": [
            {"id": 1, "type": "CLIPTextEncode", **encoder},
            {"id": 2, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["bad hands"]},
            {"id": 3, "type": "EmptyLatentImage", "inputs": [], "widgets_values": [512, 512, 1]},
            {"id": 4, "type": "KSampler", "inputs": [
                {"name": "positive", "link": 2}, {"name": "negative", "link": 3}, {"name": "latent_image", "link": 4},
            ], "widgets_values": [7, "fixed", 20, 8.0, "euler", "normal", 1.0]},
            {"id": 6, "type": "VAEDecode", "inputs": [{"name": "samples", "link": 6}]},
        ],
        "links": [
            link(1, -10, 0, 1, 1, "STRING"), link(2, 1, 0, 4, 1, "CONDITIONING"), link(3, 2, 0, 4, 2, "CONDITIONING"),
            link(4, 3, 0, 4, 3, "LATENT"), link(5, 6, 0, -20, 0, "IMAGE"), link(6, 4, 0, 6, 0, "LATENT"),
        ],
    }  # fmt: skip
    nodes = [
        {"id": 10, "type": "0f0e", **instance},
        {"id": 11, "type": "SaveImage", "inputs": [{"name": "images", "link": 20}]},
        *more.get("nodes", []),
    ]
    links = [[20, 10, 0, 11, 0, "IMAGE"], *more.get("links", [])]
    return {"nodes": nodes, "links": links, "definitions": {"subgraphs": [inner, *more.get("subgraphs", [])]}}


WORDED = {
    "inputs": [{"name": "text", "widget": {"name": "text"}, "link": 1}],
    "widgets_values": ["what was there before"],
}


PLAIN = {"inputs": [], "widgets_values": ["a photo of a nurse"]}


def test_a_subgraph_that_holds_its_words() -> None:
    assert read(drawn_with_subgraph({"inputs": []}, PLAIN)) == "a photo of a nurse"


def test_a_subgraph_whose_words_stand_on_its_node_or_come_from_another() -> None:
    slot = {"name": "words", "type": "STRING", "widget": {"name": "words"}}
    own = {"inputs": [slot | {"link": None}], "widgets_values": ["a photo of a pilot"]}
    assert read(drawn_with_subgraph(own, WORDED)) == "a photo of a pilot"
    linked = {"inputs": [slot | {"link": 21}], "widgets_values": ["a photo of a pilot"]}
    primitive = {"id": 12, "type": "PrimitiveStringMultiline", "inputs": [], "widgets_values": ["a photo of a chef"]}
    other = {"nodes": [primitive], "links": [[21, 12, 0, 10, 0, "STRING"]]}
    assert read(drawn_with_subgraph(linked, WORDED, **other)) == "a photo of a chef"


def test_widgets_of_a_subgraph_that_are_set_on_its_node() -> None:
    instance = {"inputs": [], "properties": {"proxyWidgets": [["1", "text"]]}, "widgets_values": ["a photo of a judge"]}
    assert read(drawn_with_subgraph(instance, PLAIN)) == "a photo of a judge"


def test_a_subgraph_in_a_subgraph_and_one_without_a_definition() -> None:
    inside = drawn_with_subgraph({"inputs": []}, PLAIN)
    outer = {
        "id": "0a0b", "inputs": [], "outputs": [{"name": "IMAGE"}], "nodes": [{"id": 1, "type": "0f0e", "inputs": []}],
        "links": [{"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"}],
    }  # fmt: skip
    inside["nodes"][0]["type"] = "0a0b"
    inside["definitions"]["subgraphs"].append(outer)
    assert read(inside) == "a photo of a nurse"
    del inside["definitions"]
    assert read(inside) is None


def test_subgraphs_that_hold_themselves_end() -> None:
    own = drawn_with_subgraph({"inputs": []}, PLAIN)
    (inner,) = own["definitions"]["subgraphs"]
    inner["nodes"] += [{"id": 100 + n, "type": "0f0e", "inputs": []} for n in range(4)]
    assert read(own) == "a photo of a nurse"


def test_graphs_of_the_editor_with_anything_anywhere() -> None:
    """Whatever stands in place of a value, there is a prompt or none, and no error."""
    rng = random.Random(0)
    slot = {"name": "words", "type": "STRING", "widget": {"name": "words"}, "link": None}
    instance = {
        "inputs": [slot],
        "properties": {"proxyWidgets": [["1", "text"]]},
        "widgets_values": ["a photo of a pilot"],
    }
    hostile: list[Any] = [None, [], {}, [[]], {"a": [1]}, -1, 10**30, "x", True, 0.5, ["a", 0], [None], "\ud800"]

    def places(value: Any) -> list[tuple[Any, Any]]:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]

    for _ in range(400):
        graph = json.loads(json.dumps(drawn_with_subgraph(instance, WORDED)))
        for _ in range(rng.choice((1, 1, 2, 5))):
            holder, key = rng.choice(places(graph))
            holder[key] = rng.choice(hostile)
            if not isinstance(graph.get("nodes"), list):
                break
        found = read(graph)
        assert found is None or isinstance(found, str)
