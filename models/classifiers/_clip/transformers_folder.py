"""A CLIP or SigLIP in transformers' format: config.json, model.safetensors, preprocessor_config.json and a tokenizer.

A CLIP becomes open_clip's model of the same network, tensor by tensor, so that one set of weights gives the same figures and has the
same identity in whichever format it lies. A SigLIP, whose image tower open_clip takes from another package, is transformers' own class.
Nothing of the folder's files is passed on but what is listed here, and its weights are read from safetensors alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allfour.errors import ClassifierError
from allfour.models.classifiers._clip import tokenizers
from allfour.models.classifiers._clip.rules import (
    LENGTH,
    Rule,
    any_of,
    check_declared,
    flag,
    hold,
    in_patches,
    mapping,
    number,
    one_of,
    or_none,
    read_mapping,
    several,
    whole,
    word,
)

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
_PREPROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")
MODEL_TYPES = ("clip", "siglip")

_LAYERS, _WIDTH, _SIDE, _TOKEN = whole(1, 512), whole(1, 32_768), whole(1, 8192), whole(0, 2_000_000)
_TOWER: dict[str, Rule] = {
    "hidden_size": _WIDTH,
    "intermediate_size": whole(1, 262_144),
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _WIDTH,
    "hidden_act": one_of("quick_gelu", "gelu", "gelu_pytorch_tanh"),
    "layer_norm_eps": number(0, 1),
}
_TEXT: dict[str, Rule] = {
    **_TOWER,
    "vocab_size": whole(1, 2_000_000),
    "max_position_embeddings": LENGTH,
    "eos_token_id": or_none(_TOKEN),
}
_VISION: dict[str, Rule] = {**_TOWER, "image_size": _SIDE, "patch_size": _SIDE, "num_channels": whole(3, 3)}
_RULES: dict[str, tuple[dict[str, Rule], dict[str, Rule], dict[str, Rule]]] = {
    "clip": ({"projection_dim": _WIDTH}, _TEXT, _VISION),
    "siglip": (
        {},
        {**_TEXT, "projection_size": or_none(_WIDTH)},
        {**_VISION, "vision_use_head": lambda value: value is True},
    ),
}
"""What is passed on: of the whole, of the text tower and of the image tower."""

# fmt: off
_BOOKKEEPING = frozenset({
    "_commit_hash", "_name_or_path", "add_cross_attention", "architectures", "attention_dropout",
    "attn_implementation", "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "dropout", "dtype",
    "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_eos_token_id", "id2label", "initializer_factor", "initializer_range",
    "is_composition", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "logit_scale_init_value",
    "max_length", "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix",
    "problem_type", "projection_dim", "pruned_heads", "remove_invalid_values", "renormalize_logits",
    "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "text_config_dict", "tf_legacy_loss", "tie_encoder_decoder",
    "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version",
    "typical_p", "use_bfloat16", "use_cache", "vision_config_dict",
})
# fmt: on
"""Keys that say nothing of what the network computes when it reads an image: they are left out."""

_CLIP_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 49_408,
              "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49_407}  # fmt: skip
_CLIP_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
                "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # fmt: skip
"""What transformers takes for a CLIP where a config leaves a key out."""

_SIZE = any_of(_SIDE, mapping({"shortest_edge": _SIDE}), mapping({"height": _SIDE, "width": _SIDE}))
_PREPROCESSOR: dict[str, Rule] = {
    "do_resize": lambda value: value is True,
    "size": _SIZE,
    "resample": whole(2, 3),
    "do_center_crop": flag,
    "crop_size": _SIZE,
    "do_rescale": lambda value: value is True,
    "rescale_factor": lambda value: isinstance(value, float) and math.isclose(value, 1 / 255, rel_tol=1e-6),
    "do_normalize": lambda value: value is True,
    "image_mean": several(number(-10, 10), 3),
    "image_std": several(number(1e-6, 100), 3),
    "do_convert_rgb": flag,
    "default_to_square": flag,
    "use_fast": flag,
    **dict.fromkeys(("image_processor_type", "feature_extractor_type", "processor_class", "data_format"), word(r"\w{1,100}")),
}  # fmt: skip
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}

_EARLIEST_EOS = 2
"""In configs from before July 2023 the number of the end token is wrong; transformers then takes the highest token of a text, as open_clip does."""


def is_transformers(folder: Path) -> bool:
    """Whether a folder has a config of that name."""
    return (folder / CONFIG_NAME).is_file()


class TransformersFolder:
    """A checked folder in transformers' format.

    Raises
    ------
    ClassifierError
        A file is missing or cannot be read, or has a key or a value that is not passed on; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = read_mapping(folder / CONFIG_NAME, "a transformers config")
        self.kind = str(config.get("model_type"))
        if self.kind not in MODEL_TYPES:
            raise ClassifierError(
                f"{folder / CONFIG_NAME}: its model_type is {str(config.get('model_type'))[:60]!r}, and allfour reads {' and '.join(MODEL_TYPES)} (SigLIP 2 of one resolution is saved as siglip). Save another kind of model in open_clip's format"
            )
        self._whole, self._text, self._vision = self._checked(config)
        self._preprocess = self._checked_preprocessing()
        if not tokenizers.has_vocabulary(folder):
            raise ClassifierError(
                f"{folder} has no tokenizer. Save it beside the model (tokenizer.save_pretrained), or copy tokenizer.json there"
            )
        self._clips_tokenizer = self.kind == "clip" and tokenizers.is_clips(folder)

    # --- the configs -----------------------------------------------------------------------------------------------------

    def _checked(self, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        found = []
        rules = _RULES[self.kind]
        towers = {name: _with_older(config, name) for name in ("text_config", "vision_config")}
        rest = {key: value for key, value in config.items() if key not in towers}
        for where, given, known in zip(("", *towers), (rest, *towers.values()), rules, strict=True):
            block = given
            if isinstance(given, dict):
                block = {k: v for k, v in given.items() if k in known or not (k in _BOOKKEEPING or v is None)}
            hold(self._folder / CONFIG_NAME, where, block, known, passed_to="transformers")
            found.append(dict(block))
        whole_, text, vision = found
        if self.kind == "clip":
            text, vision = {**_CLIP_TEXT, **text}, {**_CLIP_VISION, **vision}
        return whole_, text, vision

    def _checked_preprocessing(self) -> dict[str, Any]:
        path, block = self._preprocessor()
        block = {key: value for key, value in block.items() if value is not None and not key.startswith("_")}
        hold(path, "", block, _PREPROCESSOR, passed_to="transformers")
        side = self._vision.get("image_size", 224)
        resized = _sides(block.get("size", {"shortest_edge": 224} if self.kind == "clip" else 224))
        cropped = _sides(block.get("crop_size", side)) if block.get("do_center_crop", self.kind == "clip") else None
        shape = (side, side)
        if isinstance(resized, int) and (resized, cropped) == (side, shape):
            mode = "shortest"
        elif resized == shape and cropped in (None, shape):
            mode = "squash"
        else:
            raise ClassifierError(
                f"{path}: images are resized to {block.get('size')} and cropped to {block.get('crop_size')}, but the network takes {side} x {side} pixels; open_clip has no such preprocessing. Use another model"
            )
        clip = self.kind == "clip"
        return {
            "size": shape,
            "mode": "RGB",
            "mean": tuple(block.get("image_mean", (0.48145466, 0.4578275, 0.40821073) if clip else (0.5,) * 3)),
            "std": tuple(block.get("image_std", (0.26862954, 0.26130258, 0.27577711) if clip else (0.5,) * 3)),
            "interpolation": _INTERPOLATIONS[block.get("resample", 3)],
            "resize_mode": mode,
            "fill_color": 0,
        }

    def _preprocessor(self) -> tuple[Path, dict[str, Any]]:
        for name in _PREPROCESSOR_NAMES:
            path = self._folder / name
            if path.is_file():
                found = read_mapping(path, "a transformers config")
                block = found.get("image_processor", found)
                if not isinstance(block, dict):
                    raise ClassifierError(f"{path}: image_processor is not a mapping")
                return path, block
        raise ClassifierError(
            f"{self._folder} has no {_PREPROCESSOR_NAMES[0]}, so it is not known how images must be prepared; a guess would give scores that look right and are wrong. Copy that file from where the model came from"
        )

    # --- the model -------------------------------------------------------------------------------------------------------

    def build(self, weights: Path) -> tuple[Any, Any]:
        """The model with the weights of this very file, and its transform for inference. Raises whatever a damaged file raises."""
        from open_clip.model import set_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from safetensors.torch import load_file

        self._check_size(weights)
        tensors = {k: v for k, v in load_file(weights, device="cpu").items() if not k.endswith(".position_ids")}
        model = self._clip(tensors) if self.kind == "clip" else self._siglip(tensors)
        set_model_preprocess_cfg(model, self._preprocess)
        return model, image_transform_v2(PreprocessCfg(**self._preprocess), is_train=False)

    def _check_size(self, weights: Path) -> None:
        """Raise ClassifierError where the config describes far more weights than the file holds, before they are allocated."""
        positions, pixels = in_patches(self._vision.get("image_size", 224), self._vision.get("patch_size", 16))
        declared = self._vision.get("hidden_size", 768) * (positions + 3 * pixels)
        words = self._text.get("vocab_size", 0) + self._text.get("max_position_embeddings", 64)
        declared += words * self._text.get("hidden_size", 768)
        for tower in (self._text, self._vision):
            width = tower.get("hidden_size", 768)
            declared += (
                tower.get("num_hidden_layers", 12) * width * (4 * width + 2 * tower.get("intermediate_size", 3072))
            )
        check_declared(weights, declared, CONFIG_NAME, reader="transformers")

    def _clip(self, tensors: Mapping[str, Any]) -> Any:
        import open_clip

        from allfour.models.classifiers._clip.transformers_tensors import as_open_clip

        model = open_clip.CLIP(**self._open_clip_config())
        layers = self._text["num_hidden_layers"], self._vision["num_hidden_layers"]
        model.load_state_dict(as_open_clip(tensors, text_layers=layers[0], vision_layers=layers[1]), strict=True)
        return model

    def _open_clip_config(self) -> dict[str, Any]:
        """`open_clip.CLIP`'s arguments for the network of a CLIP's config."""
        text, vision = self._text, self._vision
        acts = {tower["hidden_act"] for tower in (text, vision)}
        if "quick_gelu" in acts and len(acts) > 1:
            raise ClassifierError(
                f"{self._folder / CONFIG_NAME}: the image and text towers have different activations, which no CLIP in open_clip has. Use another model"
            )
        end = text.get("eos_token_id")
        ends = {} if end in (None, _EARLIEST_EOS, text["vocab_size"] - 1) else {"pool_type": "eos", "eos_id": end}
        return {
            "embed_dim": self._whole.get("projection_dim", 512),
            "quick_gelu": acts == {"quick_gelu"},
            "vision_cfg": {
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                **_shared(vision),
            },
            "text_cfg": {
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
                "heads": text["num_attention_heads"],
                **_shared(text),
                **ends,
            },
        }

    def _siglip(self, tensors: Mapping[str, Any]) -> Any:
        from transformers import SiglipConfig, SiglipModel

        from allfour.models.classifiers._clip.siglip import Siglip

        # its numbers of the first and last token are of no use, and out of range for small vocabularies
        text = {**self._text, "bos_token_id": None, "eos_token_id": None}
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=dict(self._vision)))
        model.load_state_dict(tensors, strict=True)
        return Siglip(model)

    # --- the tokenizer ---------------------------------------------------------------------------------------------------

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files of the folder that its tokenizer is read from; none where it is CLIP's own."""
        return [] if self._clips_tokenizer else tokenizers.files_of(self._folder)

    def tokenizer(self) -> Any:
        """The tokenizer: CLIP's own where the folder's is that one, else the folder's. Raises ClassifierError."""
        import open_clip

        length = self._text.get("max_position_embeddings", 64)
        if self._clips_tokenizer:
            return open_clip.SimpleTokenizer(context_length=length)
        return tokenizers.load(self._folder, context_length=length)


def _with_older(config: Mapping[str, Any], name: str) -> Any:
    """A tower's block; transformers lets what older versions wrote beside it under another name go before it."""
    block, older = config.get(name, {}), config.get(f"{name}_dict")
    return {**block, **older} if isinstance(block, dict) and isinstance(older, dict) else block


def _sides(size: Any) -> int | tuple[int, int]:
    """One side, where images are brought to a shorter edge; else height and width."""
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if "shortest_edge" in size else (int(size["height"]), int(size["width"]))
    return int(size), int(size)


def _shared(tower: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip calls the same in both towers. What is its default is left out, as its own configs do."""
    found: dict[str, Any] = {"width": tower["hidden_size"], "layers": tower["num_hidden_layers"]}
    ratio = tower["intermediate_size"] / tower["hidden_size"]
    # open_clip takes it back so, and 44 * (60 / 44) is below 60
    if int(tower["hidden_size"] * ratio) < tower["intermediate_size"]:
        ratio = math.nextafter(ratio, math.inf)
    if ratio != 4:
        found["mlp_ratio"] = ratio
    if tower["layer_norm_eps"] != 1e-5:
        found["norm_kwargs"] = {"eps": tower["layer_norm_eps"]}
    if tower["hidden_act"] == "gelu_pytorch_tanh":
        found["act_kwargs"] = {"approximate": "tanh"}
    return found
