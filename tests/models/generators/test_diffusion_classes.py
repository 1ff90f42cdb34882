"""A pipeline of each class runs: doctor says so, and images come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from allfour.errors import BackendError
from allfour.models.generators._diffusion import foreign, pipelines
from allfour.models.generators._diffusion.readiness import check
from allfour.models.generators.base import Generated
from allfour.models.generators.stable_diffusion import StableDiffusion
from allfour.pipeline.config import load_config
from tests.models.generators.hosted_helpers import requests
from tests.places import REPOSITORY
from tests.tiny_more_pipelines import MORE
from tests.tiny_pipelines import PIPELINES, save_pipeline

SMALLER = {"HiDreamImagePipeline": {"default_sample_size": 32}, "Kandinsky5T2IPipeline": {"resolutions": [(32, 32)]}}
"""Sizes that a class has of its own, whatever height and width say."""


ALL = {**PIPELINES, **MORE}


def test_the_classes_that_doctor_calls_tried_are_those_that_are_tried_here() -> None:
    assert set(ALL) == pipelines.TRIED


@pytest.mark.parametrize("name", ALL)
def test_a_pipeline_of_the_class_is_found_ready_and_draws(tmp_path: Path, name: str) -> None:
    folder, settings = save_pipeline(*ALL[name], tmp_path)
    readiness = check(model=str(folder), device="cpu", **settings)
    assert readiness.ok, readiness.message
    assert readiness.message.startswith(f"{name}, weights of")
    assert "no weight was loaded" in readiness.message
    assert readiness.warnings == ()
    generator = StableDiffusion(model=str(folder), device="cpu", **settings)
    for attribute, value in SMALLER.get(name, {}).items():
        setattr(generator._pipe, attribute, value)
    found = list(generator.generate(requests(["a", "a nurse"], 1)))
    assert all(isinstance(outcome, Generated) for outcome in found), found
    assert len({outcome.data for outcome in found if isinstance(outcome, Generated)}) == 2


CONFIGS = {
    "flux1-dev": "FluxPipeline", "flux1-schnell": "FluxPipeline", "flux2-dev": "Flux2Pipeline", "flux2-klein": "Flux2KleinPipeline",
    "qwen-image": "QwenImagePipeline", "sana-1.6b": "SanaPipeline", "sd3.5-medium": "StableDiffusion3Pipeline",
    "sdxl": "StableDiffusionXLPipeline", "sdxl-lightning": "StableDiffusionXLPipeline", "sdxl-turbo": "StableDiffusionXLPipeline",
    "stable-diffusion-1.5": "StableDiffusionPipeline", "stable-diffusion-2.1": "StableDiffusionPipeline",
    "z-image-turbo": "ZImagePipeline",
}  # fmt: skip
"""What the models' own folders name."""


def test_the_configs_set_what_the_class_of_their_model_takes() -> None:
    """Their weights are not here: an audit would find out after the download alone."""
    listed = {
        path.stem for path in (REPOSITORY / "configs").glob("*.yaml") if "backend: stable-diffusion" in path.read_text()
    }
    assert listed - {"sandbox", "sandbox-large"} == CONFIGS.keys()
    for config, name in CONFIGS.items():
        settings: Any = load_config(REPOSITORY / "configs" / f"{config}.yaml", []).generator
        given = {n: getattr(settings, n) for n in ("guidance_scale", "height", "width", "negative_prompt")}
        message = {n: value for n, value in given.items() if value is not None}
        pipelines.check_arguments(getattr(diffusers, name), message, settings.pipeline_args or {})
        assert name in pipelines.TRIED


# --- what text encoders of models out there say of themselves --------------------------------------------------------

QWEN_VL_OF_MID_2025 = {  # keys of Qwen2.5-VL configs that transformers 4.54 wrote, values shortened
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 16, "image_token_id": 3, "initializer_range": 0.02, "intermediate_size": 16,
    "max_position_embeddings": 64, "max_window_layers": 28, "model_type": "qwen2_5_vl", "num_attention_heads": 2,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": {"rope_type": "default"},
    "rope_theta": 1e6, "sliding_window": 32768, "tie_word_embeddings": False, "torch_dtype": "float32",
    "transformers_version": "4.54.0", "use_cache": True, "use_sliding_window": False, "video_token_id": 4,
    "vision_end_token_id": 5, "vision_start_token_id": 6, "vision_token_id": 7, "vocab_size": 99,
    "text_config": {
        "hidden_size": 16, "image_token_id": None, "layer_types": ["full_attention"], "model_type": "qwen2_5_vl_text",
        "rope_theta": 1e6, "video_token_id": None, "vision_end_token_id": 5, "vision_start_token_id": 6, "vision_token_id": 7,
        "vocab_size": 99,
    },
    "vision_config": {
        "depth": 1, "fullatt_block_indexes": [7], "hidden_act": "silu", "hidden_size": 16, "in_channels": 3, "in_chans": 3,
        "initializer_range": 0.02, "intermediate_size": 16, "model_type": "qwen2_5_vl", "num_heads": 2, "out_hidden_size": 16,
        "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2, "tokens_per_second": 2,
        "window_size": 112,
    },
}  # fmt: skip
MISTRAL = {
    "architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 10, "model_type": "mistral3",
    "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2, "vision_feature_layer": -1,
    "text_config": {"model_type": "mistral", "hidden_size": 16, "head_dim": 8, "rope_theta": 1e6, "vocab_size": 99},
    "vision_config": {"model_type": "pixtral", "hidden_size": 16, "patch_size": 14, "rope_theta": 1e4},
}  # fmt: skip


def folder_with(tmp_path: Path, library_class: str, document: Any) -> Path:
    (tmp_path / "text_encoder").mkdir(exist_ok=True)
    index = {"_class_name": "QwenImagePipeline", "text_encoder": ["transformers", library_class]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps(document))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "document"),
    [("Qwen2_5_VLForConditionalGeneration", QWEN_VL_OF_MID_2025), ("Mistral3ForConditionalGeneration", MISTRAL)],
)
def test_configs_of_models_made_of_models_pass_and_strange_keys_in_them_do_not(
    tmp_path: Path, kind: str, document: Any
) -> None:
    foreign.check_folder(folder_with(tmp_path, kind, document), diffusers)
    for change in (
        {"text_config": {**document["text_config"], "any_other": 1}},
        {"any_other": 1},
        {"vision_config": {**document["vision_config"], "auto_map": {"AutoModel": "evil.Evil"}}},
    ):
        with pytest.raises(BackendError, match=r"any_other|auto_map"):
            foreign.check_folder(folder_with(tmp_path, kind, {**document, **change}), diffusers)


def test_a_part_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    document = {**MISTRAL, "text_config": {"model_type": "somebodys"}}
    with pytest.raises(BackendError, match="is not a kind of model that transformers has"):
        foreign.check_folder(folder_with(tmp_path, "Mistral3ForConditionalGeneration", document), diffusers)
