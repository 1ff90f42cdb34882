"""A diffusers folder and an adapter are a stranger's: no code runs, no key is passed on unseen, every file that is read is hashed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from allfour.errors import BackendError
from allfour.models.generators._diffusion import foreign, loading
from allfour.models.generators._diffusion.readiness import check
from allfour.models.generators.stable_diffusion import StableDiffusion
from tests.places import REPOSITORY

SANDBOX = REPOSITORY / "models" / "sandbox" / "diffusion"
OLD_CLIP = {  # what transformers 4.1x wrote into the text_config of Stable Diffusion's safety checker
    "_name_or_path": "", "add_cross_attention": False, "architectures": None, "attention_dropout": 0.0, "bad_words_ids": None,
    "bos_token_id": 0, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": None, "decoder_start_token_id": None,
    "diversity_penalty": 0.0, "do_sample": False, "dropout": 0.0, "early_stopping": False, "encoder_no_repeat_ngram_size": 0,
    "eos_token_id": 2, "finetuning_task": None, "forced_bos_token_id": None, "hidden_act": "quick_gelu", "hidden_size": 768,
    "id2label": {"0": "LABEL_0"}, "initializer_factor": 1.0, "is_decoder": False, "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0}, "length_penalty": 1.0, "max_length": 20, "min_length": 0, "model_type": "clip_text_model",
    "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "output_scores": False, "prefix": None, "problem_type": None,
    "pruned_heads": {}, "remove_invalid_values": False, "return_dict": True, "sep_token_id": None, "task_specific_params": None,
    "tf_legacy_loss": False, "tie_encoder_decoder": False, "tie_word_embeddings": True, "tokenizer_class": None, "top_k": 50,
    "torch_dtype": None, "torchscript": False, "transformers_version": "4.21.0.dev0", "typical_p": 1.0, "use_bfloat16": False,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SANDBOX, tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def test_a_plain_folder_passes(folder: Path) -> None:
    foreign.check_folder(folder, diffusers)


def test_configs_of_older_versions_pass(folder: Path) -> None:
    (folder / "safety_checker").mkdir()
    change(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    change(folder / "safety_checker" / "config.json", _commit_hash=None, text_config=OLD_CLIP, text_config_dict=None)
    change(
        folder / "text_encoder" / "config.json", dropout=0.0, torch_dtype="float32", transformers_version="4.22.0.dev0"
    )
    change(folder / "tokenizer" / "tokenizer_config.json", special_tokens_map_file="./special_tokens_map.json")
    foreign.check_folder(folder, diffusers)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("model_index.json", "_class_name", ["evil", "StableDiffusionPipeline"]),
        ("model_index.json", "_class_name", "evil.StableDiffusionPipeline"),
        ("model_index.json", "unet", ["evil", "UNet2DConditionModel"]),
        ("model_index.json", "unet", ["os", "system"]),
        ("model_index.json", "unet", ["diffusers", "DiffusionPipeline"]),
        ("model_index.json", "unet", ["diffusers", "OnnxRuntimeModel"]),
        ("model_index.json", "unet", ["transformers", "pipeline"]),
        ("model_index.json", "more", ["diffusers", "UNet2DConditionModel"]),
        ("model_index.json", "unet", [1, 2]),
        ("text_encoder/config.json", "auto_map", {"AutoModel": "evil.Evil"}),
        ("text_encoder/config.json", "attn_implementation", "somebody/kernel"),
        ("text_encoder/config.json", "quantization_config", {"quant_method": "gptq"}),
        ("text_encoder/config.json", "any_other", 1),
        ("text_encoder/config.json", "num_hidden_layers", 10**8),
        ("tokenizer/tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.Evil", None]}),
        ("tokenizer/tokenizer_config.json", "vocab_file", "/etc/passwd"),
        ("tokenizer/tokenizer_config.json", "added_tokens_decoder", {"1": {"auto_map": "x"}}),
        ("unet/config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
        ("unet/diffusion_pytorch_model.safetensors.index.json", "weight_map", {"a": "../vae/diffusion_pytorch_model.safetensors"}),
        ("unet/adapter_config.json", "base_model_name_or_path", "./evil"),
    ],
)  # fmt: skip
def test_what_is_not_listed_is_refused_by_name(folder: Path, file: str, key: str, value: object) -> None:
    change(folder / file, **{key: value})
    with pytest.raises(BackendError) as caught:
        foreign.check_folder(folder, diffusers)
    named = next(iter(value["1"])) if key == "added_tokens_decoder" else key  # type: ignore[index]
    assert named in str(caught.value) or "adapter_config.json" in str(caught.value)
    with pytest.raises(BackendError, match="stable-diffusion") as audited:  # and the loader asks for it
        StableDiffusion(model=str(folder), device="cpu")
    found = check(model=str(folder), device="cpu")  # as does doctor, in the same words
    assert (found.ok, found.message) == (False, str(audited.value))


@pytest.mark.parametrize(
    ("part", "key"), [("unet", "conv_in.weight"), ("text_encoder", "encoder.layers.1.layer_norm1.bias")]
)
def test_a_tensor_that_is_in_no_file_is_not_made_up(folder: Path, part: str, key: str) -> None:
    """One flipped bit in the name of a tensor: transformers would draw another at random, diffusers would fail at its first use."""
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    (name,) = (name for name in tensors if name.endswith(key))
    tensors["n" + name] = tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BackendError, match=rf"lacks the tensor \S*{re.escape(key)}, so its weights are damaged"):
        StableDiffusion(model=str(folder))


def test_every_file_that_is_read_is_hashed(folder: Path, tmp_path: Path) -> None:
    before = loading.weights_sha256(folder, None)
    (folder / "tokenizer" / "spiece.model").write_bytes(b"pieces")
    assert (after := loading.weights_sha256(folder, None)) != before
    (folder / "unet").rename(tmp_path / "unet-elsewhere")
    (folder / "unet").symlink_to(tmp_path / "unet-elsewhere")
    assert loading.weights_sha256(folder, None) == after  # a linked folder is read, so it is hashed
    change(tmp_path / "unet-elsewhere" / "config.json", sample_size=9)
    assert loading.weights_sha256(folder, None) != after


def test_files_that_change_after_loading_have_no_identity(folder: Path) -> None:
    stamps = loading.file_stamps(folder, None)
    change(folder / "unet" / "config.json", sample_size=16)
    with pytest.raises(BackendError, match="changed while they were in use"):
        loading.weights_sha256(folder, None, loaded=stamps)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unet.megatron_core", "evil"),
        ("unet.auto_mapping", {"parent_library": "evil"}),
        ("unet.init_lora_weights", "corda"),
        ("unet.base_model_name_or_path", "./evil"),
        ("unet.runtime_config", {}),
    ],
)
def test_an_adapters_metadata_is_held_to_its_shape(tmp_path: Path, key: str, value: object) -> None:
    tensors = {"unet.x.lora_A.weight": np.zeros((2, 2), np.float32)}
    good = {"unet.r": 2, "unet.lora_alpha": 4, "unet.target_modules": ["to_q"], "unet.init_lora_weights": True}
    save_file(tensors, tmp_path / "good.safetensors", metadata={"lora_adapter_metadata": json.dumps(good)})
    foreign.check_adapter(tmp_path / "good.safetensors")
    metadata = {"lora_adapter_metadata": json.dumps({**good, key: value})}
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata)
    with pytest.raises(BackendError, match=key):
        foreign.check_adapter(tmp_path / "bad.safetensors")
