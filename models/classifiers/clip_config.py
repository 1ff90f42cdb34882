"""The model config of a CLIP folder: read once, held to a list of known keys, and built from what was read.

open_clip hands a folder's config on as it is: its `tokenizer_kwargs` reach a tokenizer loader that runs code where the folder
asks for it, and its text tower may be fetched by a name that the folder chooses. So nothing here passes on a key that is not
listed, or a value of another kind, and the model is built from the checked copy and not from the file a second time.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import asdict
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
from allfour.models.classifiers._clip.undrawn import nothing_drawn

CONFIG_NAME = "open_clip_config.json"

_LAYERS, _WIDTH, _SIDE = whole(1, 512), whole(1, 32_768), whole(1, 8192)
_NORM = or_none(mapping({"eps": number(0, 1), "elementwise_affine": flag, "bias": flag}))
_ACTIVATION = or_none(mapping({"approximate": one_of("none", "tanh")}))
_ATTENTION: dict[str, Rule] = {
    "block_type": or_none(one_of("default", "custom")),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), flag),
}  # fmt: skip
_VISION: dict[str, Rule] = {
    "layers": any_of(_LAYERS, several(_LAYERS, 4)),
    "width": _WIDTH,
    "head_width": _WIDTH,
    "mlp_ratio": number(0.1, 64),
    "patch_size": any_of(_SIDE, several(_SIDE, 2)),
    "image_size": any_of(_SIDE, several(_SIDE, 2)),
    "ls_init_value": or_none(number(0, 100)),
    "patch_dropout": number(0, 1),
    "attentional_pool": any_of(flag, one_of("parallel", "cascade")),
    "attn_pooler_queries": _WIDTH,
    "attn_pooler_heads": _WIDTH,
    "no_ln_pre": flag,
    "pos_embed_type": one_of("learnable", "sin_cos_2d"),
    "final_ln_after_pool": flag,
    "pool_type": one_of("tok", "avg", "none", "avg_all"),
    "output_tokens": flag,
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    **_ATTENTION,
    # a name of the timm package and not an address of its own: those are written hf-hub:NAME and local-dir:FOLDER
    "timm_model_name": or_none(word(r"[A-Za-z0-9_.]{1,100}")),
    "timm_model_pretrained": flag,
    "timm_pool": one_of("", "avg", "abs_attn", "rot_attn", "token", "map"),
    "timm_proj": or_none(one_of("", "linear", "mlp", "none")),
    "timm_proj_bias": flag,
    "timm_drop": number(0, 1),
    "timm_drop_path": or_none(number(0, 1)),
}
_TEXT: dict[str, Rule] = {
    "context_length": LENGTH,
    "vocab_size": whole(1, 2_000_000),
    "hf_tokenizer_name": or_none(word(r"[A-Za-z0-9_./-]{0,200}")),
    "tokenizer_mode": or_none(one_of("", "clips")),
    "tokenizer_kwargs": or_none(
        mapping({"clean": one_of("lower", "whitespace", "canonicalize"), "strip_sep_token": flag})
    ),
    "width": _WIDTH,
    "heads": _WIDTH,
    "layers": _LAYERS,
    "mlp_ratio": number(0.1, 64),
    "ls_init_value": or_none(number(0, 100)),
    "embed_cls": flag,
    "pad_id": whole(0, 2_000_000),
    "eos_id": whole(0, 2_000_000),
    "no_causal_mask": flag,
    "final_ln_after_pool": flag,
    "pool_type": one_of("argmax", "eos", "first", "last", "none"),
    "proj_bias": flag,
    "proj_type": one_of("linear", "none"),
    "output_tokens": flag,
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    **_ATTENTION,
}
_MULTIMODAL: dict[str, Rule] = {**_TEXT, "dim_head": _WIDTH, "n_queries": _WIDTH, "attn_pooler_heads": _WIDTH}
_MODEL: dict[str, Rule] = {
    "embed_dim": _WIDTH,
    "quick_gelu": flag,
    "custom_text": flag,
    "init_logit_scale": number(-100, 100),
    "init_logit_bias": or_none(number(-1000, 1000)),
    "nonscalar_logit_scale": flag,
}
_BLOCKS = {"vision_cfg": _VISION, "text_cfg": _TEXT, "multimodal_cfg": _MULTIMODAL}
_PREPROCESS: dict[str, Rule] = {
    "size": any_of(_SIDE, several(_SIDE, 2)),
    "mode": one_of("RGB"),
    "mean": any_of(number(-10, 10), several(number(-10, 10), 3)),
    "std": any_of(number(1e-6, 100), several(number(1e-6, 100), 3)),
    "interpolation": one_of("bicubic", "bilinear", "random"),
    "resize_mode": one_of("shortest", "longest", "squash"),
    "fill_color": whole(0, 255),
}


class FolderConfig:
    """A checked config of a folder in open_clip's own format.

    Raises
    ------
    ClassifierError
        It cannot be read, or has a key or a value that is not passed on; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / CONFIG_NAME
        self.model, self.preprocess = self._checked(self._parsed())

    def _parsed(self) -> dict[str, Any]:
        try:
            parsed = read_mapping(self._path, "an open_clip model config")
        except FileNotFoundError:
            raise ClassifierError(
                f"{self._folder} is neither a folder in open_clip's format ({CONFIG_NAME} is missing) nor one in transformers' format (config.json is missing). Name a folder in one of these formats, or an architecture and a pretrained tag"
            ) from None
        if not isinstance(parsed.get("model_cfg"), dict):
            raise ClassifierError(f"{self._path}: not an open_clip model config: model_cfg is not a mapping")
        return parsed

    def _checked(self, parsed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        model = dict(parsed["model_cfg"])
        blocks = {name: model.pop(name) for name in _BLOCKS if name in model}
        for name in ("vision_cfg", "text_cfg"):
            if not isinstance(blocks.get(name), dict):
                raise ClassifierError(f"{self._path}: model_cfg.{name} is not a mapping")
        self._hold(model, _MODEL, "model_cfg")
        for name, block in blocks.items():
            self._hold(block, _BLOCKS[name], f"model_cfg.{name}")
        preprocess = parsed.get("preprocess_cfg", {})
        self._hold(preprocess, _PREPROCESS, "preprocess_cfg")
        return copy.deepcopy({**model, **blocks}), copy.deepcopy(preprocess)

    def _hold(self, block: Any, rules: Mapping[str, Rule], where: str) -> None:
        hold(self._path, where, block, rules, passed_to="open_clip")

    def check_size(self, weights: Path) -> None:
        """Raise ClassifierError where the config describes far more weights than the file holds, before they are allocated."""
        text, vision = self.model["text_cfg"], self.model["vision_cfg"]
        declared = text.get("width", 512) * (text.get("vocab_size", 49_408) + text.get("context_length", 77))
        declared += _in_blocks(text, width=512)
        if "multimodal_cfg" in self.model:
            declared += _in_blocks({**self.model["multimodal_cfg"], "mlp_ratio": 4}, width=512)
        if not vision.get("timm_model_name"):
            declared += _in_resnet(vision) if isinstance(vision.get("layers"), list) else _in_vit(vision)
        check_declared(weights, declared, CONFIG_NAME, reader="open_clip")

    def build(self, weights: Path) -> tuple[Any, Any]:
        """The model with the weights of this very file, and its transform for inference. Raises whatever a damaged file raises."""
        import open_clip
        from open_clip.factory import load_checkpoint
        from open_clip.model import set_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

        self.check_size(weights)
        config = copy.deepcopy(self.model)
        custom = config.pop("custom_text", False)
        if config["vision_cfg"].get("timm_model_name"):
            config["vision_cfg"]["timm_model_pretrained"] = False
        kind: Any = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        if custom and "multimodal_cfg" in config:
            kind = open_clip.CoCa
        with nothing_drawn():
            model = kind(**config)
        load_checkpoint(model, str(weights), strict=True, weights_only=True, device="cpu")
        chosen = merge_preprocess_dict(asdict(PreprocessCfg()), self.preprocess)
        chosen["size"] = model.visual.image_size
        set_model_preprocess_cfg(model, chosen)
        return model, image_transform_v2(PreprocessCfg(**chosen), is_train=False)

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files of the folder that its tokenizer is read from; none where it is CLIP's own."""
        return tokenizers.files_of(self._folder) if self.model["text_cfg"].get("hf_tokenizer_name") else []

    def tokenizer(self) -> Any:
        """The tokenizer: CLIP's own, or one of the folder's files. Raises ClassifierError where those cannot be used."""
        text = self.model["text_cfg"]
        options = dict(text.get("tokenizer_kwargs") or {})
        length = text.get("context_length", 77)
        if not text.get("hf_tokenizer_name"):
            options.pop("strip_sep_token", None)
            return _own_tokenizer(length, json.dumps(options))
        return tokenizers.load(self._folder, context_length=length, mode=text.get("tokenizer_mode"), options=options)


def _in_blocks(tower: Mapping[str, Any], *, width: int) -> int:
    """Values of a transformer's layers, at least; `width` is open_clip's where the config leaves it out."""
    width = tower.get("width", width)
    return int(tower.get("layers", 12)) * width * (4 * width + 2 * int(width * tower.get("mlp_ratio", 4)))


def _in_vit(vision: Mapping[str, Any]) -> int:
    """Values of a vision transformer, at least."""
    positions, pixels = in_patches(vision.get("image_size", 224), vision.get("patch_size", 16))
    return int(vision.get("width", 768)) * (positions + 3 * pixels) + _in_blocks(vision, width=768)


def _in_resnet(vision: Mapping[str, Any]) -> int:
    """Values of a CLIP's ResNet, at least: three convolutions a block, and the attention that pools them."""
    width, side = vision.get("width", 768), vision.get("image_size", 224)
    blocks = sum(number * 14 * (width << stage) ** 2 for stage, number in enumerate(vision["layers"]))
    pooled, across = 32 * width, (side if isinstance(side, int) else min(side)) // 32
    return int(blocks + pooled * (across**2 + 3 * pooled))


@functools.lru_cache(maxsize=4)
def _own_tokenizer(length: int, options: str) -> Any:
    """CLIP's own tokenizer, with options as JSON: its 49,000 merges take long to read, and are the same for every model."""
    import open_clip

    return open_clip.SimpleTokenizer(context_length=length, **json.loads(options))
