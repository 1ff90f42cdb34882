"""A model folder is a stranger's: what its documents may say, and which of its files are read.

diffusers gives a component's constructor what its signature names, and drops the rest of a config. transformers keeps every key
it meets, and some of them fetch kernels, quantisers or other models, or run code. So every key of a transformers document is held
to a list here, and of diffusers' own documents those keys are refused that are looked at before the constructor is.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.files import open_regular
from allfour.models.files import FileStamp

_READ = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""What diffusers and transformers read of a folder; all of it is hashed."""
_MAX_DOCUMENT_BYTES = 64 * 2**20
_NEVER = frozenset({
    "auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines", "custom_revision", "custom_generate", "quantization_config",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
    "_experts_implementation", "_experts_implementation_internal", "use_kernels", "compile_config", "tokenizer_file", "vocab_file",
    "merges_file", "chat_template_file",
})  # fmt: skip
"""Keys that fetch or run something, at any depth of any document."""
_MODEL_KEYS = frozenset({
    "_name_or_path", "_commit_hash", "name_or_path", "model_type", "torch_dtype", "use_bfloat16", "torchscript", "tf_legacy_loss", "pruned_heads",
    "tie_word_embeddings", "cross_attention_hidden_size", "add_cross_attention", "is_decoder", "tie_encoder_decoder", "finetuning_task",
    "prefix", "sep_token_id", "tokenizer_class", "task_specific_params", "num_labels", "dropout", "logit_scale_init_value",
    "text_config_dict", "vision_config_dict", "n_positions", "output_past", "gradient_checkpointing", "dense_act_fn", "is_gated_act",
    "rope_theta", "rope_scaling", "rope_parameters", "max_window_layers", "sliding_window", "use_sliding_window", "use_cache",
    "layer_types", "output_attentions", "bos_token_id", "eos_token_id", "pad_token_id", "transformers_weights", "output_hidden_states",
    "relative_attention_max_distance", "pad_token", "model_max_length", "initializer_factor", "vision_token_id", "in_chans",
    "spatial_patch_size",
})  # fmt: skip
_TOKENIZER_KEYS = frozenset({
    "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder", "additional_special_tokens", "backend", "bos_token",
    "chat_template", "clean_up_tokenization_spaces", "cls_token", "do_lower_case", "eos_token", "errors", "extra_ids",
    "extra_special_tokens", "is_local", "legacy", "local_files_only", "mask_token", "max_length", "model_max_length",
    "model_specific_special_tokens", "name_or_path", "_name_or_path", "pad_to_multiple_of", "pad_token", "pad_token_type_id",
    "padding_side", "processor_class", "sep_token", "sp_model_kwargs", "special_tokens_map_file", "split_special_tokens", "stride",
    "strip_accents", "tokenize_chinese_chars", "tokenizer_class", "truncation_side", "truncation_strategy", "unk_token", "use_fast",
    "image_token", "video_token", "spaces_between_special_tokens", "return_token_type_ids", "never_split", "do_basic_tokenize",
})  # fmt: skip
_PROCESSOR_KEYS = frozenset({
    "crop_size", "data_format", "default_to_square", "device", "disable_grouping", "do_center_crop", "do_convert_rgb", "do_normalize",
    "do_pad", "do_rescale", "do_resize", "feature_extractor_type", "feature_size", "image_mean", "image_processor_type", "image_std",
    "input_data_format", "max_pixels", "merge_size", "min_pixels", "pad_size", "padding_side", "padding_value", "patch_size",
    "processor_class", "resample", "rescale_factor", "return_attention_mask", "return_tensors", "sampling_rate", "size",
    "temporal_patch_size", "use_square_size", "_name_or_path", "_processor_class", "image_seq_length", "image_processor",
})  # fmt: skip
_DOCUMENTS = {
    "tokenizer_config.json": _TOKENIZER_KEYS,
    "preprocessor_config.json": _PROCESSOR_KEYS,
    "processor_config.json": _PROCESSOR_KEYS,
    "special_tokens_map.json": _TOKENIZER_KEYS,
}
_ADAPTER_KEYS = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout", "modules_to_save", "peft_type", "peft_version",
    "r", "rank_pattern", "revision", "target_modules", "target_parameters", "task_type", "use_dora", "use_rslora",
})  # fmt: skip
"""Keys of an adapter's metadata that PEFT gets; others name Python modules to import, or files."""
_MOST_LAYERS = 10_000


def check_folder(folder: Path, diffusers: Any) -> None:
    """Raise BackendError where a folder in diffusers format asks for more than known components with known keys."""
    index = _document(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]{1,80}Pipeline", name):
        raise _refused(folder / "model_index.json", "_class_name", name, "is not a pipeline of diffusers")
    pipeline = getattr(diffusers, name, None)
    if pipeline is None:
        raise _refused(
            folder / "model_index.json", "_class_name", name, "is not a pipeline of this version of diffusers"
        )
    takes = inspect.signature(pipeline.__init__).parameters
    known = set(takes) - {"self"}
    for key, value in index.items():
        if key in {"_class_name", "_diffusers_version", "_name_or_path"} or (key.startswith("_") and value is None):
            continue
        if key not in known:
            raise _refused(folder / "model_index.json", key, value, f"is not a part of a {name}")
        if isinstance(value, list) and not (takes[key].default is not inspect.Parameter.empty and _plain(value)):
            _check_component(folder, key, value, diffusers)
    if any((folder / name).exists() for name in ("adapter_config.json", "config.json")):
        raise BackendError(
            f"stable-diffusion: {folder}: there is a config beside model_index.json that belongs to no part. Remove it"
        )


def _plain(value: list[Any]) -> bool:
    """Whether a list is a setting, such as the layers of a text encoder that are read, and names no class."""
    return bool(value) and all(isinstance(item, int | float) for item in value)


def _check_component(folder: Path, part: str, value: list[Any], diffusers: Any) -> None:
    where = folder / "model_index.json"
    if len(value) < 2 or not all(item is None or isinstance(item, str | bool | int | float) for item in value):
        raise _refused(where, part, value, "is not a pair of library and class")
    library, name = value[0], value[1]
    if library is None and name is None:
        return
    kind = _component_class(library, name, diffusers)
    if kind is None:
        raise _refused(
            where, part, value, "is not a model, scheduler, tokenizer or processor of diffusers or transformers"
        )
    if not (folder / part).is_dir():
        raise BackendError(f"stable-diffusion: {folder}: the part {part!r} is missing")
    if (folder / part / "adapter_config.json").exists():
        raise BackendError(
            f"stable-diffusion: {folder / part}: adapter_config.json would load another model. Remove it"
        )
    for path in sorted((folder / part).iterdir()):
        if path.name.endswith(".index.json"):
            _check_shards(path)
        elif path.name == "config.json" and hasattr(kind, "config_class") and kind.config_class is not None:
            _check_model_config(path, _document(path), kind.config_class)
        elif path.name in _DOCUMENTS:
            _hold(path, _document(path), _DOCUMENTS[path.name] | _parameters(kind))
        elif path.name in {"config.json", "scheduler_config.json"}:
            _check_sizes(path, _document(path))


def _component_class(library: Any, name: Any, diffusers: Any) -> Any:
    """The class that model_index.json names, where it is one that diffusers should load; else None."""
    import transformers

    if not isinstance(library, str) or not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,100}", name):
        return None
    if library in {"diffusers", "transformers"}:
        home: Any = diffusers if library == "diffusers" else transformers
    elif re.fullmatch(r"[a-z0-9_]{1,60}", library):
        home = getattr(diffusers.pipelines, library, None)
    else:
        return None
    found = getattr(home, name, None) if home is not None else None
    bases = (
        diffusers.ModelMixin, diffusers.SchedulerMixin, transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase,
        transformers.FeatureExtractionMixin, transformers.ImageProcessingMixin, transformers.ProcessorMixin,
    )  # fmt: skip
    return found if inspect.isclass(found) and issubclass(found, bases) else None


def _parameters(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}


def _check_model_config(
    path: Path, document: Mapping[str, Any], kind: Any, around: frozenset[str] = frozenset()
) -> None:
    """Hold a config of transformers to what its class takes.

    Parameters
    ----------
    around
        Keys of the config that it is a part of: older versions wrote keys of the whole into the parts, and of the parts into the whole.
    """
    from transformers import AutoConfig, GenerationConfig

    if kind is AutoConfig:
        kind = _named_config(path, document)
    inner: Mapping[str, Any] = getattr(kind, "sub_configs", {})
    family = around | _config_keys(kind)
    for name, sub in inner.items():
        value = document.get(name)
        if sub is not AutoConfig:
            family |= _config_keys(sub)
        elif isinstance(value, Mapping):
            family |= _config_keys(_named_config(path, value))
    for key, value in document.items():
        sub = inner.get(key.removesuffix("_dict"))
        if isinstance(value, Mapping) and sub is not None:
            _check_model_config(path, value, sub, family)
    # older versions wrote the settings of text generation into every config
    generation = frozenset(GenerationConfig().to_dict())  # type: ignore[no-untyped-call,unused-ignore]
    _hold(path, document, _MODEL_KEYS | family | generation | frozenset(inner))
    _check_sizes(path, document)


@functools.cache
def _config_keys(kind: Any) -> frozenset[str]:
    """What a class of config takes, and what it writes of its own accord."""
    try:
        written = frozenset(kind().to_dict())
    except Exception:  # one that wants its parts first
        written = frozenset()
    return _parameters(kind) | written


def _named_config(path: Path, document: Mapping[str, Any]) -> Any:
    """The class of a part that names its own kind."""
    from transformers import CONFIG_MAPPING

    name = document.get("model_type")
    if not isinstance(name, str) or name not in CONFIG_MAPPING:
        raise _refused(path, "model_type", name, "is not a kind of model that transformers has")
    return CONFIG_MAPPING[name]


def _hold(path: Path, document: Mapping[str, Any], allowed: Iterable[str]) -> None:
    for key in document:
        if key not in allowed:
            raise _refused(path, key, document[key], "is not passed on to the library that reads it")


def _check_sizes(path: Path, document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and "layers" in key and number > _MOST_LAYERS:
                raise _refused(path, key, value, "is not a number of layers that a real model has")


def _check_shards(path: Path) -> None:
    named = _document(path).get("weight_map")
    if not isinstance(named, Mapping):
        raise BackendError(f"stable-diffusion: {path}: weight_map is not a mapping")
    for file in set(map(str, named.values())):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}\.safetensors", file) or not (path.parent / file).is_file():
            raise _refused(path, "weight_map", file, "is not a .safetensors file in the same folder")


def _document(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder, without a key that is never passed on."""
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_DOCUMENT_BYTES + 1)
        if len(data) > _MAX_DOCUMENT_BYTES:
            raise ValueError("it is too large")
        parsed = read_json(data)
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"stable-diffusion: cannot load {path}: {error}") from None
    if not isinstance(parsed, dict):
        raise BackendError(f"stable-diffusion: cannot load {path}: it is not a mapping")
    for key, value in _keys(parsed):
        if key in _NEVER and value is not None:
            raise _refused(
                path, key, value, "would fetch or run something other than weights, which allfour never does"
            )
    return parsed


def _keys(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refused(path: Path, key: str, value: Any, why: str) -> BackendError:
    return BackendError(
        f"stable-diffusion: {path}: {str(key)[:80]} (its value: {json.dumps(value)[:80]}) {why}. Remove it, or use another model"
    )


def check_adapter(path: Path) -> None:
    """Raise BackendError where a LoRA file is damaged, or its metadata gives PEFT more than the shape of the adapter."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            raw = (file.metadata() or {}).get("lora_adapter_metadata")
        metadata = read_json(raw) if raw else {}
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a mapping")
    except Exception as error:  # safetensors raises its own type for a damaged file
        raise BackendError(f"stable-diffusion: the adapter {path.name} cannot be read: {error}") from None
    for key, value in metadata.items():
        name = key.rpartition(".")[2]
        plain = not isinstance(value, str) or name not in {"init_lora_weights", "base_model_name_or_path", "revision"}
        if name not in _ADAPTER_KEYS or not (plain or value in {"", "gaussian"}):
            raise _refused(path, key, value, "is not passed on to PEFT")


def read_files(folder: Path, adapter: Path | None) -> list[tuple[str, Path]]:
    """Name and path of every file that a pipeline is read from, links to folders followed, in the order of their paths."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        if len(Path(root).relative_to(folder).parts) >= 3:
            folders.clear()
        found += [Path(root, name) for name in names if Path(name).suffix in _READ]
    files = [(path.relative_to(folder).as_posix(), path) for path in sorted(found) if path.is_file()]
    return files + ([("lora", adapter)] if adapter is not None else [])


def stamps(files: Iterable[tuple[str, Path]]) -> dict[str, FileStamp]:
    """The files as they are now. Raises BackendError."""
    try:
        return {name: FileStamp.of(path) for name, path in files}
    except OSError as error:
        raise BackendError(f"stable-diffusion: {error.filename}: {error.strerror}") from None
