"""The image tower of a CLIP with its products in bfloat16, for CPUs that multiply such numbers twice as fast as float32.

Weights of linear layers, attention and convolutions are bfloat16; sums, norms and, because the first convolution stays in float32, the stream
that a transformer's blocks add to are float32. With that stream in bfloat16 too, a ViT-B/32 is no faster and 2.3 times as far off.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from allfour.errors import ClassifierError
from allfour.models.classifiers.base import TWICE

SMALLEST = 20_000_000
"""Numbers in an image tower from which on `dtype: auto` takes half precision. The smallest that were measured, of 22 million, gain 1.6 times;
beside the decoding of an image, smaller ones have little left to gain (docs/benchmarks.md)."""


def has_bfloat16_units() -> bool:
    """Whether this machine's CPU multiplies bfloat16 in hardware and torch's kernels use that, so that it gains by it."""
    known = torch.cpu.get_capabilities()
    units = any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return units and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def why_in_full(*, size: int | None, views: bool) -> str | None:
    """Why half precision would gain nothing on any CPU; None where it may gain.

    Parameters
    ----------
    size
        Numbers in the image tower; None where they are not known.
    views
        Whether several views of an image are read, for which no band is known.
    """
    if size is not None and size < SMALLEST:
        return f"its image tower has {size / 1e6:.1f} million parameters, and the gain is too small below {SMALLEST / 1e6:.0f} million"
    if views:
        return "`stability` asks for several views of an image"
    return None


class _InFull(torch.nn.Module):
    """A layer that autocast leaves in float32."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: torch.Tensor) -> Any:
        with torch.autocast("cpu", enabled=False):
            return self.layer(values.float())


class HalfTower:
    """Encodes images as its model does, with products in bfloat16.

    Raises
    ------
    ClassifierError
        The model's image tower cannot be run so.
    """

    identity: Mapping[str, Any] = {"format": "bfloat16", "in_float32": ["first convolution", "norms", "sums"]}

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = copy.copy(model)  # what is no image tower is shared
        self._model._modules = dict(model._modules)
        tower: torch.nn.Module = copy.deepcopy(model.get_submodule("visual"))
        in_half = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.MultiheadAttention)
        first = next((name for name, layer in tower.named_modules() if isinstance(layer, torch.nn.Conv2d)), None)
        for name, layer in tower.named_modules():
            if isinstance(layer, in_half) and name != first:
                layer.to(torch.bfloat16)
        if first is not None:
            holder, _, name = first.rpartition(".")
            setattr(tower.get_submodule(holder), name, _InFull(tower.get_submodule(first)))
        # No gradient is ever made. But torch multiplies a batch that lies transposed in memory, as attention's does, by one product where the
        # weights may want a gradient, and else by one product per image, for which it copies the weights: 4 times as slow.
        tower.requires_grad_(True)
        self._model._modules["visual"] = tower

    def encode_image(self, values: torch.Tensor) -> torch.Tensor:
        """As the model's own."""
        encode: Any = self._model.encode_image
        try:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                features: torch.Tensor = encode(values)
        except RuntimeError as error:
            raise ClassifierError(
                f"classifier.dtype={TWICE}: this image tower does not run in bfloat16 ({' '.join(str(error).split())[:200]}). Use float32"
            ) from None
        return features
