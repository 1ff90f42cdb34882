"""A CLIP folder is a stranger's: no code of it runs, no key of it is passed on unseen, and what is loaded is what is hashed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.clip import ClipClassifier

ATTRIBUTES = AttributeSet.model_validate(
    {"attributes": {"gender": {"labels": {"woman": ["a woman"], "man": ["a man"], "other": ["nobody"]}}}}
)
Change = Callable[[dict[str, Any]], Any]


def folder_of(tiny_clip: Path, target: Path, change: Change | None = None) -> Path:
    shutil.copytree(tiny_clip, target)
    if change is not None:
        config = json.loads((target / "open_clip_config.json").read_text())
        change(config)
        (target / "open_clip_config.json").write_text(json.dumps(config))
    return target


def load(folder: Path) -> ClipClassifier:
    return ClipClassifier(attributes=ATTRIBUTES, model=None, pretrained=str(folder), device="cpu")


def add_code(folder: Path, proof: Path) -> None:
    """A tokenizer whose class is a file of the folder that leaves a proof when it is imported."""
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(proof)!r}).write_text('ran')\n"
        "from transformers import PreTrainedTokenizerFast\nclass Evil(PreTrainedTokenizerFast): pass\n"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}})
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoConfig": "evil.Evil"}}))


@pytest.mark.parametrize("kwargs", [{"trust_remote_code": True}, {}, None])
def test_no_code_of_the_folder_runs(tiny_clip: Path, tmp_path: Path, kwargs: dict[str, Any] | None) -> None:
    def change(config: dict[str, Any]) -> None:
        config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "any/name", "tokenizer_kwargs": kwargs}

    folder = folder_of(tiny_clip, tmp_path / "m", change)
    add_code(folder, tmp_path / "proof")
    with pytest.raises(ClassifierError, match=r"tokenizer_kwargs|auto_map"):
        load(folder)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("text_cfg", "hf_model_name", "./evil"),
        ("text_cfg", "tokenizer_kwargs", {"bpe_path": "/etc/passwd"}),
        ("text_cfg", "layers", 10**9),
        ("text_cfg", "vocab_size", 1_999_999),
        ("text_cfg", "context_length", 20_000),
        ("vision_cfg", "timm_model_name", "local-dir:/tmp/evil"),
        ("vision_cfg", "image_size", 10**7),
        ("vision_cfg", "width", "64"),
        ("vision_cfg", "layers", True),
        (None, "cast_dtype", "float16"),
    ],
)
def test_what_is_not_listed_is_refused_by_name(
    tiny_clip: Path, tmp_path: Path, where: str | None, key: str, value: object
) -> None:
    def change(config: dict[str, Any]) -> None:
        block = config["model_cfg"] if where is None else config["model_cfg"][where]
        block[key] = value

    started = time.process_time()
    with pytest.raises(ClassifierError, match=key if value != 1_999_999 else "describes at least"):
        load(folder_of(tiny_clip, tmp_path / "m", change))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("vision_cfg", {"image_size": 8192, "patch_size": 1}),
        ("vision_cfg", {"image_size": [32, 32], "patch_size": [8192, 8192]}),
        ("vision_cfg", {"layers": [1, 1, 1, 1], "width": 2048}),
        ("vision_cfg", {"layers": [512, 512, 512, 512]}),
        ("vision_cfg", {"mlp_ratio": 64, "layers": 512}),
        ("multimodal_cfg", {"width": 4096, "layers": 512}),
    ],
)
def test_no_part_of_a_network_is_made_far_larger_than_the_file(
    tiny_clip: Path, tmp_path: Path, where: str, said: dict[str, Any]
) -> None:
    folder = folder_of(tiny_clip, tmp_path / "m", lambda config: config["model_cfg"].setdefault(where, {}).update(said))
    with pytest.raises(ClassifierError, match="describes at least"):
        load(folder)


def test_preprocessing_is_held_to_its_keys(tiny_clip: Path, tmp_path: Path) -> None:
    folder = folder_of(tiny_clip, tmp_path / "m", lambda config: config["preprocess_cfg"].update(std=[0, 0, 0]))
    with pytest.raises(ClassifierError, match=r"preprocess_cfg\.std"):
        load(folder)


def test_the_file_that_is_hashed_is_the_file_that_is_loaded(tiny_clip: Path, tmp_path: Path) -> None:
    """Every name that open_clip itself would rather load lies beside it, with other weights or as a pickle."""
    folder = folder_of(tiny_clip, tmp_path / "m")
    shutil.move(folder / "open_clip_model.safetensors", folder / "model.safetensors")
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "open_clip_model.pt"):
        torch.save({"logit_scale": torch.tensor(0.0)}, folder / name)
    found = load(folder)
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found.identity()["encoder"]["weights_sha256"] == sha256
    assert found.identity()["encoder"]["logit_scale"] == load(tiny_clip).identity()["encoder"]["logit_scale"]


def test_weights_that_change_after_they_were_found_have_no_identity(tiny_clip: Path, tmp_path: Path) -> None:
    folder = folder_of(tiny_clip, tmp_path / "m")
    found = clip_weights.resolve(model=None, pretrained=str(folder))
    weights = folder / "open_clip_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    with pytest.raises(ClassifierError, match="changed while it was in use"):
        found.sha256()


def test_a_folders_own_tokenizer_is_part_of_the_identity(tiny_clip: Path, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    folder = folder_of(
        tiny_clip, tmp_path / "m", lambda c: c["model_cfg"]["text_cfg"].update(hf_tokenizer_name="x", context_length=77)
    )
    words = {word: k for k, word in enumerate(("[UNK]", "[PAD]", "a", "woman", "man", "nobody"))}

    def save(vocabulary: dict[str, int]) -> None:
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.save(str(folder / "tokenizer.json"))

    save(words)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"})
    )
    first = load(folder).identity()["encoder"]
    save({**words, "nurse": 6})
    assert load(folder).identity()["encoder"]["tokenizer_sha256"] != first["tokenizer_sha256"]
    assert "tokenizer_sha256" not in load(tiny_clip).identity()["encoder"]
