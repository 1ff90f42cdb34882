"""More untrained pipelines, beside those of `tests.tiny_pipelines`: older classes, variants of others, and those of one text encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests import tiny_pipelines as tiny
from tests.tiny_diffusion import small_unet


def _ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(clip_sample=False, steps_offset=1)


# --- of Stable Diffusion 1's parts -----------------------------------------------------------------------------------


def _stable_diffusion(name: str, *, scheduler: str = "DDIMScheduler", **more: Any) -> Callable[[Path], Any]:
    """A class whose parts are those of Stable Diffusion 1."""

    def make(folder: Path) -> Any:
        import diffusers

        text, words = tiny.clip_parts(folder)
        embedded = {"time_cond_proj_dim": 8} if scheduler == "LCMScheduler" else {}
        return getattr(diffusers, name)(
            vae=tiny.small_vae(), text_encoder=text, tokenizer=words, unet=small_unet(16, **embedded), scheduler=getattr(diffusers, scheduler)(),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False, **more,
        )  # fmt: skip

    return make


def _sdxl(name: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        import diffusers

        (one, words), (two, words_2) = tiny.clip_parts(folder), tiny.clip_parts(folder, projection=True)
        network = small_unet(
            32, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 16,
            use_linear_projection=True, transformer_layers_per_block=(1, 1),
        )  # fmt: skip
        return getattr(diffusers, name)(
            vae=tiny.small_vae(), text_encoder=one, text_encoder_2=two, tokenizer=words, tokenizer_2=words_2, unet=network,
            scheduler=diffusers.EulerDiscreteScheduler(steps_offset=1), add_watermarker=False,
        )  # fmt: skip

    return make


# --- with guidance by perturbed attention ----------------------------------------------------------------------------


def _perturbed(make: Callable[[Path], Any], name: str, layers: str) -> Callable[[Path], Any]:
    """The class of that name with the parts of another pipeline."""

    def perturbed(folder: Path) -> Any:
        import diffusers

        kind = getattr(diffusers, name)
        takes = inspect.signature(kind.__init__).parameters
        parts = {part: value for part, value in make(folder).components.items() if part in takes}
        return kind(**parts, pag_applied_layers=layers)

    return perturbed


# --- others ----------------------------------------------------------------------------------------------------------


def _flux2(folder: Path) -> Any:
    import diffusers
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PixtralImageProcessor, PixtralProcessor

    words, count = tiny.qwen_tokenizer()
    text = {**tiny.LAYERS, "model_type": "mistral", "vocab_size": count, "head_dim": 8, "max_position_embeddings": 1024}
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "head_dim": 8, "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=vision, image_token_index=10)
    )
    reader = PixtralProcessor(
        image_processor=PixtralImageProcessor(), tokenizer=words, chat_template=_PARTS, image_token="<|im_start|>"
    )
    klein = tiny.PIPELINES["Flux2KleinPipeline"][0](folder)
    return diffusers.Flux2Pipeline(
        scheduler=tiny.flow_scheduler(),
        vae=klein.vae,
        text_encoder=encoder,
        tokenizer=reader,
        transformer=_flux2_network(),
    )


_PARTS = (
    "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}\n{% endfor %}"
)
"""A chat template for messages whose content is a text or a list of parts."""


def _flux2_network() -> Any:
    import diffusers

    return diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip


def _cogview4(folder: Path) -> Any:
    import diffusers
    from transformers import GlmConfig, GlmModel

    words, count = tiny.qwen_tokenizer()
    config = GlmConfig(
        vocab_size=count, head_dim=8, max_position_embeddings=1024, pad_token_id=0, eos_token_id=0, **tiny.LAYERS
    )
    network = diffusers.CogView4Transformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4, text_embed_dim=16,
        time_embed_dim=8, condition_dim=4, rope_axes_dim=(32, 32), sample_size=32,
    )  # fmt: skip
    return diffusers.CogView4Pipeline(
        tokenizer=words,
        text_encoder=GlmModel(config),
        vae=tiny.small_vae(),
        transformer=network,
        scheduler=tiny.flow_scheduler(),
    )


def _cogview3(folder: Path) -> Any:
    import diffusers

    text, words = tiny.t5_parts()
    network = diffusers.CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, out_channels=4, text_embed_dim=16,
        time_embed_dim=8, condition_dim=4, pos_embed_max_size=32, sample_size=32,
    )  # fmt: skip
    return diffusers.CogView3PlusPipeline(
        tokenizer=words,
        text_encoder=text,
        vae=tiny.small_vae(),
        transformer=network,
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )


def _aura_flow(folder: Path) -> Any:
    import diffusers
    from transformers import UMT5Config, UMT5EncoderModel

    _, words = tiny.t5_parts()
    config = UMT5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    network = diffusers.AuraFlowTransformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, out_channels=4, pos_embed_max_size=256,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(
        tokenizer=words,
        text_encoder=UMT5EncoderModel(config),
        vae=tiny.small_vae(),
        transformer=network,
        scheduler=tiny.flow_scheduler(),
    )


def _pixart_alpha(folder: Path) -> Any:
    import diffusers

    return diffusers.PixArtAlphaPipeline(**tiny.PIPELINES["PixArtSigmaPipeline"][0](folder).components)


def _hunyuan_dit(folder: Path) -> Any:
    import diffusers
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = [chr(k) for k in range(33, 127)]
    vocab = {
        w: k
        for k, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)])
    }
    words = BertTokenizer(vocab=vocab, model_max_length=77)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=77,
    )  # fmt: skip
    t5, words_2 = tiny.t5_parts()
    network = diffusers.HunyuanDiT2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4, cross_attention_dim=16,
        cross_attention_dim_t5=16, pooled_projection_dim=8, hidden_size=16, text_len=77, text_len_t5=256, activation_fn="gelu-approximate",
    )  # fmt: skip
    return diffusers.HunyuanDiTPipeline(
        transformer=network, vae=tiny.small_vae(levels=4), scheduler=diffusers.DDPMScheduler(), text_encoder=BertModel(config), tokenizer=words,
        text_encoder_2=t5, tokenizer_2=words_2, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _lumina(folder: Path) -> Any:
    import diffusers

    text, words = tiny.gemma_parts()
    network = diffusers.LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=16, num_layers=1, num_attention_heads=2, num_kv_heads=1, multiple_of=16,
        learn_sigma=True, cross_attention_dim=16,
    )  # fmt: skip
    return diffusers.LuminaPipeline(
        transformer=network,
        scheduler=tiny.flow_scheduler(),
        vae=tiny.small_vae(levels=4),
        text_encoder=text,
        tokenizer=words,
    )


def _ovis(folder: Path) -> Any:
    import diffusers

    text, words = tiny.qwen3_parts("Qwen3Model")
    network = diffusers.OvisImageTransformer2DModel(
        patch_size=1, in_channels=16, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return diffusers.OvisImagePipeline(
        scheduler=tiny.flow_scheduler(), vae=tiny.small_vae(), text_encoder=text, tokenizer=words, transformer=network
    )


def _kandinsky3(folder: Path) -> Any:
    import diffusers

    text, words = tiny.t5_parts()
    network = diffusers.Kandinsky3UNet(
        in_channels=4, time_embedding_dim=4, groups=2, attention_head_dim=4, layers_per_block=3, block_out_channels=(8, 16),
        cross_attention_dim=4, encoder_hid_dim=16,
    )  # fmt: skip
    return diffusers.Kandinsky3Pipeline(
        tokenizer=words, text_encoder=text, unet=network, scheduler=diffusers.DDPMScheduler(), movq=_vq(4)
    )


def _vq(channels: int) -> Any:
    import diffusers

    return diffusers.VQModel(
        block_out_channels=(8,), down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), layers_per_block=1,
        latent_channels=channels, num_vq_embeddings=16, norm_num_groups=4, vq_embed_dim=channels, sample_size=32,
    )  # fmt: skip


def _deep_floyd(folder: Path) -> Any:
    import diffusers

    text, words = tiny.t5_parts()
    network = small_unet(16, in_channels=3, out_channels=6, sample_size=32)
    return diffusers.IFPipeline(
        tokenizer=words, text_encoder=text, unet=network, scheduler=diffusers.DDPMScheduler(variance_type="learned_range"),
        safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def _bria(folder: Path) -> Any:
    import diffusers

    text, words = tiny.t5_parts()
    network = diffusers.BriaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=None, axes_dims_rope=[0, 4, 4],
    )  # fmt: skip
    return diffusers.BriaPipeline(
        transformer=network, scheduler=tiny.flow_scheduler(), vae=tiny.small_vae(), text_encoder=text, tokenizer=words
    )


def _klein_kv(folder: Path) -> Any:
    import diffusers

    return diffusers.Flux2KleinKVPipeline(
        **tiny.PIPELINES["Flux2KleinPipeline"][0](folder).components, is_distilled=True
    )


def _longcat(folder: Path) -> Any:
    import diffusers
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    text, words = tiny.qwen_vl_parts()
    network = diffusers.LongCatImageTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    reader = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=_PARTS,
    )
    return diffusers.LongCatImagePipeline(
        scheduler=tiny.flow_scheduler(),
        vae=tiny.small_vae(16),
        text_encoder=text,
        tokenizer=words,
        text_processor=reader,
        transformer=network,
    )


def _krea2(folder: Path) -> Any:
    import diffusers
    from transformers import Qwen3VLConfig, Qwen3VLModel

    words, count = tiny.qwen_tokenizer()
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6}
    text = {**tiny.LAYERS, "head_dim": 8, "vocab_size": count, "max_position_embeddings": 1024, "rope_parameters": rope}
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    network = diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2, num_key_value_heads=2, intermediate_size=16,
        timestep_embed_dim=8, text_hidden_dim=16, num_text_layers=1, text_num_attention_heads=2, text_num_key_value_heads=2,
        text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 2, 2),
    )  # fmt: skip
    return diffusers.Krea2Pipeline(
        scheduler=tiny.flow_scheduler(), vae=tiny.PIPELINES["QwenImagePipeline"][0](folder).vae, tokenizer=words,
        text_encoder=Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision)), transformer=network,
        text_encoder_select_layers=[1],
    )  # fmt: skip


def _amused(folder: Path) -> Any:
    import diffusers

    text, words = tiny.clip_parts(folder, projection=True)
    network = diffusers.UVit2DModel(
        hidden_size=8, cond_embed_dim=16, micro_cond_encode_dim=2, micro_cond_embed_dim=10, encoder_hidden_size=16, vocab_size=32,
        codebook_size=24, in_channels=8, block_out_channels=8, num_res_blocks=1, downsample=True, upsample=True, block_num_heads=1,
        num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, sample_size=8,
    )  # fmt: skip
    codes = diffusers.VQModel(
        block_out_channels=(8,), layers_per_block=1, latent_channels=8, norm_num_groups=4, num_vq_embeddings=24, sample_size=8,
        mid_block_add_attention=False, lookup_from_codebook=True,
    )  # fmt: skip
    return diffusers.AmusedPipeline(
        vqvae=codes,
        tokenizer=words,
        text_encoder=text,
        transformer=network,
        scheduler=diffusers.AmusedScheduler(mask_token_id=31),
    )


def _latent_diffusion(folder: Path) -> Any:
    import diffusers
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    _, words = tiny.clip_parts(folder)
    config = LDMBertConfig(
        vocab_size=len(words), max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2, head_dim=8,
        d_model=16,
    )  # fmt: skip
    return diffusers.LDMTextToImagePipeline(
        vqvae=tiny.small_vae(), bert=LDMBertModel(config), tokenizer=words, unet=small_unet(16), scheduler=_ddim()
    )


_UNBINNED = {"pipeline_args": {"use_resolution_binning": False}}
_KLEIN = {"pipeline_args": {"max_sequence_length": 64, "text_encoder_out_layers": (1,)}}
_SMALL: Mapping[str, Any] = {}
MORE: Mapping[str, tuple[Callable[[Path], Any], Mapping[str, Any]]] = {
    "StableDiffusionPipeline": (_stable_diffusion("StableDiffusionPipeline"), _SMALL),
    "StableDiffusionXLPipeline": (_sdxl("StableDiffusionXLPipeline"), _SMALL),
    "LatentConsistencyModelPipeline": (
        _stable_diffusion("LatentConsistencyModelPipeline", scheduler="LCMScheduler"),
        _SMALL,
    ),
    "StableDiffusionPAGPipeline": (_stable_diffusion("StableDiffusionPAGPipeline"), _SMALL),
    "StableDiffusionXLPAGPipeline": (_sdxl("StableDiffusionXLPAGPipeline"), _SMALL),
    "StableDiffusionSAGPipeline": (_stable_diffusion("StableDiffusionSAGPipeline"), _SMALL),
    "StableDiffusionPanoramaPipeline": (_stable_diffusion("StableDiffusionPanoramaPipeline"), _SMALL),
    "StableDiffusionParadigmsPipeline": (
        _stable_diffusion("StableDiffusionParadigmsPipeline", scheduler="DDIMParallelScheduler"),
        _SMALL,
    ),
    "SemanticStableDiffusionPipeline": (_stable_diffusion("SemanticStableDiffusionPipeline"), _SMALL),
    "StableDiffusion3PAGPipeline": (
        _perturbed(tiny.PIPELINES["StableDiffusion3Pipeline"][0], "StableDiffusion3PAGPipeline", "blocks.0"),
        _SMALL,
    ),
    "PixArtSigmaPAGPipeline": (
        _perturbed(tiny.PIPELINES["PixArtSigmaPipeline"][0], "PixArtSigmaPAGPipeline", "blocks.0"),
        _UNBINNED,
    ),
    "SanaPAGPipeline": (_perturbed(tiny.PIPELINES["SanaPipeline"][0], "SanaPAGPipeline", "blocks.0"), _UNBINNED),
    "HunyuanDiTPipeline": (_hunyuan_dit, _UNBINNED),
    "HunyuanDiTPAGPipeline": (_perturbed(_hunyuan_dit, "HunyuanDiTPAGPipeline", "blocks.1"), _UNBINNED),
    "Flux2Pipeline": (_flux2, _KLEIN),
    "Flux2KleinKVPipeline": (_klein_kv, _KLEIN),
    "CogView4Pipeline": (_cogview4, {"pipeline_args": {"max_sequence_length": 64}, "negative_prompt": "x"}),
    "CogView3PlusPipeline": (_cogview3, {"pipeline_args": {"max_sequence_length": 16}}),
    "AuraFlowPipeline": (_aura_flow, _SMALL),
    "PixArtAlphaPipeline": (_pixart_alpha, _UNBINNED),
    "LuminaPipeline": (_lumina, {"negative_prompt": "x"}),
    "OvisImagePipeline": (_ovis, _SMALL),
    "Kandinsky3Pipeline": (_kandinsky3, _SMALL),
    "IFPipeline": (_deep_floyd, _SMALL),
    "BriaPipeline": (_bria, _SMALL),
    "LongCatImagePipeline": (_longcat, {"pipeline_args": {"enable_prompt_rewrite": False}}),
    "Krea2Pipeline": (_krea2, {"pipeline_args": {"max_sequence_length": 32}}),
    "AmusedPipeline": (_amused, _SMALL),
    "LDMTextToImagePipeline": (_latent_diffusion, _SMALL),
}
