"""transformers' SigLIP behind the interface that open_clip's models have."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _Pooled(nn.Module):
    """A tower, of which the pooled output counts."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.tower(values).pooler_output
        return pooled


class Siglip(nn.Module):
    """A SigLIP (Zhai et al. 2023): image and text towers, and the scale and the bias of its logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual, self.text = _Pooled(model.vision_model), _Pooled(model.text_model)
        self.logit_scale, self.logit_bias = model.logit_scale, model.logit_bias

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> [N, D]."""
        features: torch.Tensor = self.visual(pixels)
        return features

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """[N, context] -> [N, D]."""
        features: torch.Tensor = self.text(tokens)
        return features
