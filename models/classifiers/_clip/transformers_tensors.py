"""Tensors of a CLIP under transformers' names -> under open_clip's: the same values, of which open_clip keeps three in one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from allfour.errors import ClassifierError

_WHOLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_PROJECTIONS = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
"""open_clip multiplies from the right with them."""
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # so spelt
    "visual.ln_post": "vision_model.post_layernorm",
}
_OF_LAYER = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
             "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip


def as_open_clip(
    tensors: Mapping[str, torch.Tensor], *, text_layers: int, vision_layers: int
) -> dict[str, torch.Tensor]:
    """The state of `open_clip.CLIP`.

    Raises
    ------
    ClassifierError
        A tensor is missing, or there is one that no CLIP has.
    """
    left = dict(tensors)

    def take(name: str) -> torch.Tensor:
        if name not in left:
            raise ClassifierError(f"the weights have no {name}, which a CLIP in transformers' format has")
        return left.pop(name)

    found = {ours: take(theirs) for ours, theirs in _WHOLE.items()}
    found |= {ours: take(theirs).T for ours, theirs in _PROJECTIONS.items()}
    pairs = dict(_NORMS)
    for prefix, tower, layers in (
        ("transformer", "text_model", text_layers),
        ("visual.transformer", "vision_model", vision_layers),
    ):
        for layer in range(layers):
            ours, theirs = f"{prefix}.resblocks.{layer}", f"{tower}.encoder.layers.{layer}"
            pairs |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in _OF_LAYER.items()}
            for part in ("weight", "bias"):
                rows = [take(f"{theirs}.self_attn.{name}_proj.{part}") for name in "qkv"]
                found[f"{ours}.attn.in_proj_{part}"] = torch.cat(rows)
    for ours, theirs in pairs.items():
        found |= {f"{ours}.{part}": take(f"{theirs}.{part}") for part in ("weight", "bias")}
    if left:
        raise ClassifierError(
            f"the weights have {', '.join(sorted(left)[:3])}, which no CLIP in transformers' format has"
        )
    return found
