"""Untrained pipelines of the classes that are not Stable Diffusion's: a few thousand weights each, real arithmetic, 32 x 32 pixels.

`PIPELINES` holds, by name of the class, what makes one and what its settings must be at this size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.tiny_diffusion import text_config, tokenizer

_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 16,
}


# --- parts -----------------------------------------------------------------------------------------------------------


def t5_parts() -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    letters = [chr(k) for k in range(33, 127)]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in letters)]
    words = T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=32)
    config = T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config), words


def _wide_t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=100, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def clip_parts(folder: Path, *, projection: bool = False, positions: int = 24) -> tuple[Any, Any]:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer(folder / "words")
    config = text_config(len(words))
    config.max_position_embeddings = positions
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config), words


def _bytes() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def gemma_parts() -> tuple[Any, Any]:
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    vocab = {word: k for k, word in enumerate([*special, *_bytes()])}
    words = GemmaTokenizer(
        vocab=vocab, merges=[], pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    config = Gemma2Config(vocab_size=len(vocab), head_dim=8, max_position_embeddings=512, **LAYERS)
    return Gemma2Model(config), words


def qwen_tokenizer() -> tuple[Any, int]:
    from transformers import Qwen2Tokenizer

    vocab = {word: k for k, word in enumerate([*_bytes(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    end = "<|endoftext|>"
    words = Qwen2Tokenizer(vocab=vocab, merges=[], unk_token=end, pad_token=end, eos_token="<|im_end|>")
    words.chat_template = _CHAT
    return words, len(vocab)


def qwen3_parts(kind: str) -> tuple[Any, Any]:
    import transformers

    words, count = qwen_tokenizer()
    config = transformers.Qwen3Config(vocab_size=count, head_dim=8, max_position_embeddings=1024, **LAYERS)
    return getattr(transformers, kind)(config), words


def qwen_vl_parts() -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    words, count = qwen_tokenizer()
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6}
    text = {
        **LAYERS,
        "num_hidden_layers": 3,
        "rope_parameters": rope,
        "vocab_size": count,
        "max_position_embeddings": 512,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)), words


def _llama() -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    words, count = qwen_tokenizer()
    return LlamaForCausalLM(LlamaConfig(vocab_size=count, max_position_embeddings=512, **LAYERS)), words


def small_vae(channels: int = 4, *, levels: int = 1) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=32, block_out_channels=(4,) * levels, layers_per_block=1, latent_channels=channels, norm_num_groups=1,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5,
    )  # fmt: skip


def _deep_vae() -> Any:
    from diffusers import AutoencoderDC

    kinds = ("ResBlock", "EfficientViTBlock")
    return AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=kinds, decoder_block_types=kinds,
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1), decoder_layers_per_block=[1, 1],
        downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu",
        scaling_factor=0.41407,
    )  # fmt: skip


def flow_scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


# --- pipelines -------------------------------------------------------------------------------------------------------


def _flux(folder: Path) -> Any:
    import diffusers

    (clip, words), (t5, words_2) = clip_parts(folder), t5_parts()
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8], guidance_embeds=True,
    )  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=flow_scheduler(),
        text_encoder=clip,
        tokenizer=words,
        text_encoder_2=t5,
        tokenizer_2=words_2,
        vae=small_vae(),
        transformer=network,
    )


def _flux2_klein(folder: Path) -> Any:
    import diffusers

    text, words = qwen3_parts("Qwen3ForCausalLM")
    network = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(
        sample_size=32, down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), block_out_channels=(4,),
        layers_per_block=1, latent_channels=4, norm_num_groups=1, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        scheduler=flow_scheduler(), vae=vae, text_encoder=text, tokenizer=words, transformer=network, is_distilled=True
    )


def _chroma(folder: Path) -> Any:
    import diffusers

    t5, words = t5_parts()
    network = diffusers.ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=[4, 4, 8], approximator_hidden_dim=16, approximator_layers=1, approximator_num_channels=16,
    )  # fmt: skip
    return diffusers.ChromaPipeline(
        transformer=network, scheduler=flow_scheduler(), vae=small_vae(), text_encoder=t5, tokenizer=words
    )


def _stable_diffusion_3(folder: Path) -> Any:
    import diffusers

    (one, words), (two, words_2), (_, words_3) = (
        clip_parts(folder, projection=True),
        clip_parts(folder, projection=True),
        t5_parts(),
    )
    network = diffusers.SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=32, pos_embed_max_size=32,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=network, scheduler=flow_scheduler(), vae=small_vae(), text_encoder=one, tokenizer=words, text_encoder_2=two, tokenizer_2=words_2,
        text_encoder_3=_wide_t5(32), tokenizer_3=words_3,
    )  # fmt: skip


def _pixart(folder: Path) -> Any:
    import diffusers

    t5, words = t5_parts()
    network = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, caption_channels=16, in_channels=4,
        cross_attention_dim=16, out_channels=8, use_additional_conditions=False,
    )  # fmt: skip
    return diffusers.PixArtSigmaPipeline(
        tokenizer=words, text_encoder=t5, vae=small_vae(), transformer=network, scheduler=diffusers.DDIMScheduler()
    )


def _sana(folder: Path, *, sprint: bool = False) -> Any:
    import diffusers

    text, words = gemma_parts()
    more = {"qk_norm": "rms_norm_across_heads", "guidance_embeds": True} if sprint else {}
    network = diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=16, sample_size=32, **more,
    )  # fmt: skip
    kind = diffusers.SanaSprintPipeline if sprint else diffusers.SanaPipeline
    scheduler = diffusers.SCMScheduler() if sprint else flow_scheduler()
    return kind(tokenizer=words, text_encoder=text, vae=_deep_vae(), transformer=network, scheduler=scheduler)


def _sana_sprint(folder: Path) -> Any:
    return _sana(folder, sprint=True)


def _lumina(folder: Path) -> Any:
    import diffusers

    text, words = gemma_parts()
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=4, patch_size=2, in_channels=4, hidden_size=16, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, axes_dim_rope=[4, 2, 2], axes_lens=[512, 64, 64], cap_feat_dim=16,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(
        transformer=network, scheduler=flow_scheduler(), vae=small_vae(), text_encoder=text, tokenizer=words
    )


def _z_image(folder: Path) -> Any:
    import diffusers

    text, words = qwen3_parts("Qwen3Model")
    network = diffusers.ZImageTransformer2DModel(
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    return diffusers.ZImagePipeline(
        transformer=network, scheduler=flow_scheduler(), vae=small_vae(16), text_encoder=text, tokenizer=words
    )


def _qwen_image(folder: Path) -> Any:
    import diffusers

    text, words = qwen_vl_parts()
    network = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True], latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )  # fmt: skip
    return diffusers.QwenImagePipeline(
        transformer=network, scheduler=flow_scheduler(), vae=vae, text_encoder=text, tokenizer=words
    )


def _hunyuan(folder: Path) -> Any:
    import diffusers

    (text, words), (t5, words_2) = qwen_vl_parts(), t5_parts()
    network = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=4, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, text_embed_dim=16, text_embed_2_dim=16, rope_axes_dim=(4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 64, 64, 64), layers_per_block=1, scaling_factor=0.476,
        spatial_compression_ratio=8, sample_size=128,
    )  # fmt: skip
    return diffusers.HunyuanImagePipeline(
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=text,
        tokenizer=words,
        text_encoder_2=t5,
        tokenizer_2=words_2,
        transformer=network,
    )


def _kandinsky5(folder: Path) -> Any:
    import diffusers

    (text, words), (clip, words_2) = qwen_vl_parts(), clip_parts(folder, positions=77)
    network = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=16, in_text_dim2=16, time_dim=16, out_visual_dim=4, model_dim=16, ff_dim=32, num_text_blocks=1,
        num_visual_blocks=1, axes_dims=(1, 1, 2),
    )  # fmt: skip
    return diffusers.Kandinsky5T2IPipeline(
        transformer=network,
        vae=small_vae(),
        text_encoder=text,
        tokenizer=words,
        text_encoder_2=clip,
        tokenizer_2=words_2,
        scheduler=flow_scheduler(),
    )


def _hidream(folder: Path) -> Any:
    import diffusers

    one, words = clip_parts(folder, projection=True, positions=128)
    two, words_2 = clip_parts(folder, projection=True, positions=128)
    (t5, words_3), (llama, words_4) = t5_parts(), _llama()
    network = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_channels=[16, 16], text_emb_dim=32, num_routed_experts=2, num_activated_experts=1, axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32), llama_layers=(0, 1),
    )  # fmt: skip
    return diffusers.HiDreamImagePipeline(
        scheduler=flow_scheduler(), vae=small_vae(), text_encoder=one, tokenizer=words, text_encoder_2=two, tokenizer_2=words_2, text_encoder_3=t5,
        tokenizer_3=words_3, text_encoder_4=llama, tokenizer_4=words_4, transformer=network,
    )  # fmt: skip


_UNBINNED = {"pipeline_args": {"use_resolution_binning": False}}
PIPELINES: Mapping[str, tuple[Callable[[Path], Any], Mapping[str, Any]]] = {
    "FluxPipeline": (_flux, {}),
    "Flux2KleinPipeline": (
        _flux2_klein,
        {"pipeline_args": {"max_sequence_length": 64, "text_encoder_out_layers": (1,)}},
    ),
    "ChromaPipeline": (_chroma, {}),
    "StableDiffusion3Pipeline": (_stable_diffusion_3, {}),
    "PixArtSigmaPipeline": (_pixart, _UNBINNED),
    "SanaPipeline": (_sana, _UNBINNED),
    "SanaSprintPipeline": (_sana_sprint, {**_UNBINNED, "steps": 2}),
    "Lumina2Pipeline": (_lumina, {}),
    "ZImagePipeline": (_z_image, {"pipeline_args": {"max_sequence_length": 64}}),
    "QwenImagePipeline": (_qwen_image, {}),
    "HunyuanImagePipeline": (_hunyuan, {}),
    "Kandinsky5T2IPipeline": (_kandinsky5, {}),
    "HiDreamImagePipeline": (_hidream, {}),
}


def save_pipeline(
    make: Callable[[Path], Any], settings: Mapping[str, Any], folder: Path
) -> tuple[Path, dict[str, Any]]:
    """A folder with an untrained pipeline, and the settings that fit it."""
    import torch
    from diffusers.utils import logging as quiet
    from transformers.utils import logging as quiet_too

    quiet.set_verbosity_error()
    quiet_too.set_verbosity_error()
    torch.manual_seed(0)
    make(folder).save_pretrained(folder / "model", safe_serialization=True)
    return folder / "model", {"steps": 1, "height": 32, "width": 32, **settings}
