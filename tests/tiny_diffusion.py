"""Untrained diffusion pipelines of a few thousand weights, in diffusers' own format. They know nothing; their arithmetic is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def tokenizer(base: Path) -> Any:
    """A CLIP tokenizer of printable characters."""
    from transformers import CLIPTokenizer

    base.mkdir(parents=True, exist_ok=True)
    letters = [chr(k) for k in range(33, 127)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (base / "vocab.json").write_text(json.dumps({w: k for k, w in enumerate(words)}))
    (base / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(vocab=str(base / "vocab.json"), merges=str(base / "merges.txt"), model_max_length=24)


def text_config(words: int) -> Any:
    """Of a CLIP text encoder with `words` tokens."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1, projection_dim=16,
    )  # fmt: skip


def _vae() -> Any:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(0, 1),
        num_decoder_blocks=(1, 0), latent_channels=4,
    )  # fmt: skip


_TWO_LEVELS: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
_ONE_LEVEL: dict[str, Any] = {
    "block_out_channels": (8,),
    "layers_per_block": 0,  # and one more on the way up
    "down_block_types": ("DownBlock2D",),
    "mid_block_type": None,
    "up_block_types": ("CrossAttnUpBlock2D",),
}
"""For a compiler, whose time goes by the number of layers."""


def small_unet(cross: int, **changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
            "cross_attention_dim": cross, "attention_head_dim": 2, **_TWO_LEVELS, **changes,
        }
    )  # fmt: skip


def checker() -> tuple[Any, Any]:
    """A safety checker that flags nothing yet, and its image processor."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig

    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    model = StableDiffusionSafetyChecker(
        CLIPConfig(text_config=CLIPTextConfig().to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    )
    torch.nn.init.normal_(model.concept_embeds)
    torch.nn.init.normal_(model.special_care_embeds)
    model.concept_embeds_weights.data.fill_(2)  # no cosine is above it
    model.special_care_embeds_weights.data.fill_(2)
    size = {"height": 16, "width": 16}
    return model, CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)


def save_stable_diffusion(target: Path, *, safety_checker: bool = False, one_level: bool = False) -> Path:
    """A Stable Diffusion 1 pipeline; images of 16 x 16 pixels, or with `one_level` of 8 x 8."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    words = tokenizer(target.parent / "words")
    text = CLIPTextModel(text_config(len(words)))
    model, processor = checker() if safety_checker else (None, None)
    pipe = StableDiffusionPipeline(
        vae=_vae(), text_encoder=text, tokenizer=words, unet=small_unet(16, **(_ONE_LEVEL if one_level else {})),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=model, feature_extractor=processor, requires_safety_checker=safety_checker,
    )  # fmt: skip
    pipe.save_pretrained(target, safe_serialization=True)
    return target


def save_sdxl(target: Path) -> Path:
    """A Stable Diffusion XL pipeline: two text encoders, pooled embeddings, size conditioning; images of 16 x 16 pixels."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    words = tokenizer(target.parent / "words")
    config = text_config(len(words))
    unet = small_unet(
        32, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
        use_linear_projection=True, transformer_layers_per_block=(1, 2),
    )  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=CLIPTextModel(config), text_encoder_2=CLIPTextModelWithProjection(config), tokenizer=words,
        tokenizer_2=words, unet=unet, scheduler=EulerDiscreteScheduler(steps_offset=1), add_watermarker=False,
    )  # fmt: skip
    pipe.save_pretrained(target, safe_serialization=True)
    return target


def save_lora(path: Path, unet_config: Path, *, seed: int = 0) -> Path:
    """A random adapter of rank 2 for every attention of a saved network, in the PEFT form of diffusers."""
    from safetensors.torch import load_file, save_file

    weights = load_file(unet_config)
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, value in weights.items():
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and module.rsplit(".", 1)[-1] in {"to_q", "to_k", "to_v"}:
            tensors[f"unet.{module}.lora_A.weight"] = torch.randn(2, value.shape[1], generator=random)
            tensors[f"unet.{module}.lora_B.weight"] = torch.randn(value.shape[0], 2, generator=random)
    assert tensors
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path
