"""The model config of a CLIP folder: read once, held to a list of known keys, and built from what was read.

open_clip hands a folder's config on as it is: its `tokenizer_kwargs` reach a tokenizer loader that runs code where the folder
asks for it, and its text tower may be fetched by a name that the folder chooses. So nothing here passes on a key that is not
listed, or a value of another kind, and the model is built from the checked copy and not from the file a second time.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import ClassifierError

CONFIG_NAME = "open_clip_config.json"
_MAX_CONFIG_BYTES = 1_000_000
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                    "vocab.json", "merges.txt", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")  # fmt: skip
"""What a tokenizer is read from; with their sha256 they are part of the model's identity."""

_Rule = Callable[[Any], bool]


def _whole(low: int, high: int) -> _Rule:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> _Rule:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _one_of(*words: str) -> _Rule:
    return lambda value: isinstance(value, str) and value in words


def _word(pattern: str) -> _Rule:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(rule: _Rule) -> _Rule:
    return lambda value: value is None or rule(value)


def _several(rule: _Rule, *lengths: int) -> _Rule:
    return lambda value: isinstance(value, list) and len(value) in lengths and all(map(rule, value))


def _any_of(*rules: _Rule) -> _Rule:
    return lambda value: any(rule(value) for rule in rules)


def _mapping(keys: Mapping[str, _Rule]) -> _Rule:
    return lambda value: isinstance(value, dict) and all(key in keys and keys[key](value[key]) for key in value)


_LAYERS, _WIDTH, _SIDE = _whole(1, 512), _whole(1, 32_768), _whole(1, 8192)
_NORM = _or_none(_mapping({"eps": _number(0, 1), "elementwise_affine": _flag, "bias": _flag}))
_ACTIVATION = _or_none(_mapping({"approximate": _one_of("none", "tanh")}))
_ATTENTION: dict[str, _Rule] = {
    "block_type": _or_none(_one_of("default", "custom")),
    **dict.fromkeys(("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), _flag),
}  # fmt: skip
_VISION: dict[str, _Rule] = {
    "layers": _any_of(_LAYERS, _several(_LAYERS, 4)),
    "width": _WIDTH,
    "head_width": _WIDTH,
    "mlp_ratio": _number(0.1, 64),
    "patch_size": _any_of(_SIDE, _several(_SIDE, 2)),
    "image_size": _any_of(_SIDE, _several(_SIDE, 2)),
    "ls_init_value": _or_none(_number(0, 100)),
    "patch_dropout": _number(0, 1),
    "attentional_pool": _any_of(_flag, _one_of("parallel", "cascade")),
    "attn_pooler_queries": _WIDTH,
    "attn_pooler_heads": _WIDTH,
    "no_ln_pre": _flag,
    "pos_embed_type": _one_of("learnable", "sin_cos_2d"),
    "final_ln_after_pool": _flag,
    "pool_type": _one_of("tok", "avg", "none", "avg_all"),
    "output_tokens": _flag,
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    **_ATTENTION,
    # a name of the timm package and not an address of its own: those are written hf-hub:NAME and local-dir:FOLDER
    "timm_model_name": _or_none(_word(r"[A-Za-z0-9_.]{1,100}")),
    "timm_model_pretrained": _flag,
    "timm_pool": _one_of("", "avg", "abs_attn", "rot_attn", "token", "map"),
    "timm_proj": _or_none(_one_of("", "linear", "mlp", "none")),
    "timm_proj_bias": _flag,
    "timm_drop": _number(0, 1),
    "timm_drop_path": _or_none(_number(0, 1)),
}
_TEXT: dict[str, _Rule] = {
    "context_length": _whole(1, 65_536),
    "vocab_size": _whole(1, 2_000_000),
    "hf_tokenizer_name": _or_none(_word(r"[A-Za-z0-9_./-]{0,200}")),
    "tokenizer_mode": _or_none(_one_of("", "clips")),
    "tokenizer_kwargs": _or_none(
        _mapping({"clean": _one_of("lower", "whitespace", "canonicalize"), "strip_sep_token": _flag})
    ),
    "width": _WIDTH,
    "heads": _WIDTH,
    "layers": _LAYERS,
    "mlp_ratio": _number(0.1, 64),
    "ls_init_value": _or_none(_number(0, 100)),
    "embed_cls": _flag,
    "pad_id": _whole(0, 2_000_000),
    "eos_id": _whole(0, 2_000_000),
    "no_causal_mask": _flag,
    "final_ln_after_pool": _flag,
    "pool_type": _one_of("argmax", "eos", "first", "last", "none"),
    "proj_bias": _flag,
    "proj_type": _one_of("linear", "none"),
    "output_tokens": _flag,
    "act_kwargs": _ACTIVATION,
    "norm_kwargs": _NORM,
    **_ATTENTION,
}
_MULTIMODAL: dict[str, _Rule] = {**_TEXT, "dim_head": _WIDTH, "n_queries": _WIDTH, "attn_pooler_heads": _WIDTH}
_MODEL: dict[str, _Rule] = {
    "embed_dim": _WIDTH,
    "quick_gelu": _flag,
    "custom_text": _flag,
    "init_logit_scale": _number(-100, 100),
    "init_logit_bias": _or_none(_number(-1000, 1000)),
    "nonscalar_logit_scale": _flag,
}
_BLOCKS = {"vision_cfg": _VISION, "text_cfg": _TEXT, "multimodal_cfg": _MULTIMODAL}
_PREPROCESS: dict[str, _Rule] = {
    "size": _any_of(_SIDE, _several(_SIDE, 2)),
    "mode": _one_of("RGB"),
    "mean": _any_of(_number(-10, 10), _several(_number(-10, 10), 3)),
    "std": _any_of(_number(1e-6, 100), _several(_number(1e-6, 100), 3)),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _whole(0, 255),
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
            with self._path.open("rb") as file:
                data = file.read(_MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            raise ClassifierError(
                f"{self._folder}: not a folder in open_clip's own format: {CONFIG_NAME} is missing. For a transformers checkpoint, "
                "convert it first, or name an architecture and a pretrained tag"
            ) from None
        except OSError as error:
            raise ClassifierError(f"{self._path}: cannot be read: {error.strerror}") from None
        try:
            if len(data) > _MAX_CONFIG_BYTES:
                raise ValueError(f"it is larger than {_MAX_CONFIG_BYTES:,} bytes")
            parsed = read_json(data)
            if not isinstance(parsed, dict) or not isinstance(parsed.get("model_cfg"), dict):
                raise ValueError("model_cfg is no mapping")
        except (ValueError, RecursionError) as error:
            raise ClassifierError(f"{self._path}: not an open_clip model config: {error}") from None
        return parsed

    def _checked(self, parsed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        model = dict(parsed["model_cfg"])
        blocks = {name: model.pop(name) for name in _BLOCKS if name in model}
        for name in ("vision_cfg", "text_cfg"):
            if not isinstance(blocks.get(name), dict):
                raise ClassifierError(f"{self._path}: model_cfg.{name} is no mapping")
        self._hold(model, _MODEL, "model_cfg")
        for name, block in blocks.items():
            self._hold(block, _BLOCKS[name], f"model_cfg.{name}")
        preprocess = parsed.get("preprocess_cfg", {})
        self._hold(preprocess, _PREPROCESS, "preprocess_cfg")
        return copy.deepcopy({**model, **blocks}), copy.deepcopy(preprocess)

    def _hold(self, block: Any, rules: Mapping[str, _Rule], where: str) -> None:
        if not isinstance(block, dict):
            raise ClassifierError(f"{self._path}: {where} is no mapping")
        for key, value in block.items():
            shown = json.dumps(value)[:80]
            if key not in rules:
                raise ClassifierError(
                    f"{self._path}: {where}.{key[:80]} is not passed on to open_clip (its value: {shown}): a model folder says what the "
                    "network is and no more. Remove the key, or use an architecture of open_clip by its name"
                )
            if not rules[key](value):
                raise ClassifierError(
                    f"{self._path}: {where}.{key} is {shown}, which is not a value of an open_clip model"
                )

    def check_size(self, weights: Path) -> None:
        """Raise ClassifierError where the config describes far more weights than the file holds, before they are allocated."""
        text, vision = self.model["text_cfg"], self.model["vision_cfg"]
        width = text.get("width", 512)
        declared = width * (text.get("vocab_size", 49_408) + text.get("context_length", 77))
        declared += text.get("layers", 12) * 4 * width * width
        if not vision.get("timm_model_name") and isinstance(vision.get("layers", 12), int):
            declared += vision.get("layers", 12) * 4 * vision.get("width", 768) ** 2
        held = weights.stat().st_size  # a value takes a byte at least
        if declared > held:
            raise ClassifierError(
                f"{weights}: open_clip cannot load these weights as {self._folder.name}: {CONFIG_NAME} describes at least {declared:,} "
                f"values and the file has {held:,} bytes"
            )

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
        model = kind(**config)
        load_checkpoint(model, str(weights), strict=True, weights_only=True, device="cpu")
        chosen = merge_preprocess_dict(asdict(PreprocessCfg()), self.preprocess)
        chosen["size"] = model.visual.image_size
        set_model_preprocess_cfg(model, chosen)
        return model, image_transform_v2(PreprocessCfg(**chosen), is_train=False)

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files of the folder that its tokenizer is read from; none where it is CLIP's own."""
        if not self.model["text_cfg"].get("hf_tokenizer_name"):
            return []
        return [self._folder / name for name in _TOKENIZER_FILES if (self._folder / name).is_file()]

    def tokenizer(self) -> Any:
        """The tokenizer: CLIP's own, or one of the folder's files. No code of the folder is run.

        Raises
        ------
        ClassifierError
            Its files are missing, damaged, or ask for code.
        """
        import open_clip

        text = self.model["text_cfg"]
        options = dict(text.get("tokenizer_kwargs") or {})
        length = text.get("context_length", 77)
        if not text.get("hf_tokenizer_name"):
            options.pop("strip_sep_token", None)
            return open_clip.SimpleTokenizer(context_length=length, **options)
        self._check_tokenizer_config()
        try:
            return open_clip.tokenizer.HFTokenizer(
                str(self._folder),
                context_length=length,
                tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False,
                local_files_only=True,
                **options,
            )
        except Exception as error:
            raise ClassifierError(
                f"{self._folder}: its tokenizer cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
            ) from None

    def _check_tokenizer_config(self) -> None:
        for name in ("tokenizer_config.json", "config.json"):
            path = self._folder / name
            if not path.is_file():
                continue
            try:
                parsed = read_json(path.read_bytes())
            except (OSError, ValueError, RecursionError) as error:
                raise ClassifierError(f"{path}: cannot be read: {error}") from None
            if not isinstance(parsed, dict):
                raise ClassifierError(f"{path}: is no mapping")
            for key in ("auto_map", "trust_remote_code"):
                if key in parsed:
                    raise ClassifierError(
                        f"{path}: {key} asks for code of the model folder to be run, which is never done"
                    )
