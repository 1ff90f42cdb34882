"""Made graphs of ComfyUI, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

from allfour.pipeline.archives.comfy import prompt_in_graph

NURSE = "a photo of a nurse"


NEGATIVE = (
    "blurry, ugly, deformed, a very long negative text that is longer than any prompt here, watermark, jpeg artifacts"
)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def encoder(text: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=text, clip=["4", 1])


def desk(positive: Any = ("6", 0), **nodes: dict[str, Any]) -> dict[str, Any]:
    """The plain graph of one picture, with a positive input of one's own and further nodes (n9=... for node 9)."""
    graph = {
        "3": node(
            "KSampler", seed=1, steps=20, cfg=7, sampler_name="euler", scheduler="normal", denoise=1.0, model=["4", 0],
            positive=list(positive), negative=["7", 0], latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="m.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
        "6": encoder(NURSE),
        "7": encoder(NEGATIVE),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }  # fmt: skip
    return graph | {name.removeprefix("n"): value for name, value in nodes.items()}


def read(graph: dict[str, Any], workflow: dict[str, Any] | None = None) -> str | None:
    return prompt_in_graph(json.dumps(graph), json.dumps(workflow) if workflow else None)
