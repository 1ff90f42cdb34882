"""CLIP and SigLIP folders in transformers' format, and ids of the hub: the figures of transformers itself, and nothing of the folder runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.run.identities import differing, reading
from tests.conftest import TINY_CLIP

TEXTS = {"woman": "a photo of a woman", "man": "a photo of a man", "x": "nobody at all"}
ATTRIBUTES = AttributeSet.model_validate({"attributes": {"gender": {"labels": {k: [v] for k, v in TEXTS.items()}}}})
VISION = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip


def save_clips_tokenizer(folder: Path) -> None:
    """CLIP's own tokenizer, as transformers keeps it."""
    import open_clip

    own = open_clip.SimpleTokenizer()
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    (folder / "vocab.json").write_text(json.dumps({ends.get(word, word): n for word, n in own.encoder.items()}))
    merges = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]), encoding="utf-8")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP that transformers has saved."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(1)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "projection_dim": 32, "hidden_act": "gelu", "eos_token_id": 49407, "layer_norm_eps": 1e-6},
        # a width whose 60 / 44 of it open_clip would round down to 59
        vision_config={
            **VISION,
            "hidden_size": 44,
            "intermediate_size": 60,
            "projection_dim": 32,
            "hidden_act": "gelu",
        },
        projection_dim=32,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, use_fast=False).save_pretrained(folder)
    save_clips_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SigLIP that transformers has saved, with a tokenizer of a few words."""
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(2)
    text = {**TEXT, "vocab_size": 20, "max_position_embeddings": 12, "projection_size": 64}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
    with torch.no_grad():  # as trained ones have them
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, use_fast=False).save_pretrained(folder)
    words = {
        word: n for n, word in enumerate(["[UNK]", "[PAD]", *sorted({w for t in TEXTS.values() for w in t.split()})])
    }
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    random = np.random.default_rng(3)
    small = [Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(4)]
    sizes = [(32, 32), (100, 40), (33, 200), (640, 480)]
    return [image.resize(size, Image.Resampling.BICUBIC) for image, size in zip(small, sizes, strict=True)]


def ours(folder: str | Path, images: list[Image.Image], **named: Any) -> tuple[np.ndarray, dict[str, Any]]:
    model = ClipClassifier(attributes=ATTRIBUTES, **{"model": None, "pretrained": str(folder), **named})
    found = model.probabilities(model.encode(np.stack([model.prepare(image) for image in images])))["gender"]
    return found, dict(model.identity())


def theirs(folder: Path, images: list[Image.Image], length: int, pad: int) -> np.ndarray:
    """The softmax of transformers' own logits."""
    return np.asarray(their_logits(folder, images, list(TEXTS.values()), length, pad).softmax(dim=-1))


def their_logits(folder: Path, images: list[Image.Image], texts: list[str], length: int, pad: int) -> torch.Tensor:
    """transformers' own [images, texts], through its own tokenizer and image processor."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt").input_ids
    assert tokens.shape[1] == length
    assert (tokens[0, -1] == pad).all()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)(images=images, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=tokens, pixel_values=pixels["pixel_values"]).logits_per_image
    return logits


def test_a_clip_gives_transformers_own_figures(clip: Path, images: list[Image.Image]) -> None:
    found, identity = ours(clip, images)
    expected = theirs(clip, images, 77, 49407)
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 1e-3  # the images do differ
    assert "tokenizer_sha256" not in identity["encoder"]  # CLIP's own


def test_a_siglip_gives_transformers_own_figures(siglip: Path, images: list[Image.Image]) -> None:
    found, identity = ours(siglip, images)
    expected = theirs(siglip, images, 12, 1)
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 1e-3
    assert identity["encoder"]["logit_bias"] == -1.5
    assert identity["encoder"]["preprocess"]["resize_mode"] == "squash"
    assert "tokenizer_sha256" in identity["encoder"]


def test_a_siglips_presence_gate_is_read_by_its_sigmoid(siglip: Path, images: list[Image.Image]) -> None:
    gated = AttributeSet.model_validate(
        {
            "presence": {"labels": {"person": ["a woman"], "no_person": ["nobody at all"]}},
            "attributes": {"gender": {"labels": {"woman": ["a woman"], "man": ["nobody at all"]}}},
        }
    )
    model = ClipClassifier(attributes=gated, model=None, pretrained=str(siglip))
    found = model.probabilities(model.encode(np.stack([model.prepare(image) for image in images])))
    softmax, gate = found["gender"].astype(float), found["presence"]
    difference = np.log(softmax[:, 0] / softmax[:, 1])  # of the two logits
    assert np.ptp(difference) > 0.05
    # sigmoids s, t of two logits: s / (s + t) lies between the even point and the softmax, which is the limit of small logits
    assert np.allclose(gate.sum(axis=1), 1, atol=1e-6)
    own = np.log(gate[:, 0] / gate[:, 1])
    assert (np.sign(own) == np.sign(difference)).all()
    assert (np.abs(own) < np.abs(difference)).all()
    # transformers' logits have scale and bias in them: the gate is their sigmoids, each divided by their sum
    fits = their_logits(siglip, images, ["a woman", "nobody at all"], 12, 1).sigmoid().numpy()
    np.testing.assert_allclose(gate, fits / fits.sum(axis=1, keepdims=True), atol=1e-4)
    assert np.abs(gate[:, 0] - softmax[:, 0]).max() > 1e-3  # which a softmax would not give
    again = model.reworded([gated])(model.encode(np.stack([model.prepare(image) for image in images])))
    np.testing.assert_allclose(again[0]["presence"], gate, atol=1e-6)


# --- one set of weights ----------------------------------------------------------------------------------------------------


def as_transformers(tiny: Path, folder: Path) -> Path:
    """The weights of a folder in open_clip's format, saved by transformers' own class."""
    from tests.models.classifiers.test_clip import _as_transformers

    config = transformers.CLIPConfig(
        text_config={**TEXT, "projection_dim": 32, "eos_token_id": 49407},
        vision_config={**VISION, "projection_dim": 32},
        projection_dim=32,
    )
    model = transformers.CLIPModel(config)
    model.load_state_dict(_as_transformers(tiny, 2, 2), strict=False)
    model.half().save_pretrained(folder)  # and back: the weights are rounded to what both formats can hold
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, use_fast=False).save_pretrained(folder)
    save_clips_tokenizer(folder)
    return folder


def test_one_set_of_weights_by_tag_from_a_file_and_from_both_kinds_of_folder(
    tiny_clip: Path, tmp_path: Path, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from safetensors.torch import load_file

    own = tmp_path / "open-clip"
    shutil.copytree(tiny_clip, own)
    rounded = {k: v.half().float() for k, v in load_file(own / "open_clip_model.safetensors").items()}
    save_file(rounded, own / "open_clip_model.safetensors")
    theirs = as_transformers(own, tmp_path / "transformers")
    architecture = {key: value for key, value in TINY_CLIP["model_cfg"].items() if key != "quick_gelu"}  # type: ignore[attr-defined]
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(architecture))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path / "tiny-for-tests.json"])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.factory._rescan_model_configs()
    tags = {"tag": {"hf_hub": "none/none", "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-for-tests", tags)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.half() for k, v in rounded.items()}, file)
    monkeypatch.setattr(clip_weights, "_cached", lambda config: own / "open_clip_model.safetensors")
    read = [
        ours("tag", images, model="tiny-for-tests"),
        ours(file, images, model="tiny-for-tests", tag="tag"),
        ours(own, images),
        ours(theirs, images),
    ]
    for figures, identity in read[1:]:
        np.testing.assert_allclose(figures, read[0][0], atol=1e-6)
        assert reading(identity) == reading(read[0][1])
        assert differing(identity, read[0][1]) == []
    hashes = [identity["encoder"]["weights_sha256"] for _, identity in read]
    assert len(set(hashes)) == 3  # the tag's file is the folder's; each says the very file that was loaded


# --- what is refused ---------------------------------------------------------------------------------------------------------


def changed(folder: Path, target: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    shutil.copytree(folder, target)
    found = json.loads((target / name).read_text())
    change(found)
    (target / name).write_text(json.dumps(found))
    return target


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda c: c.update(model_type="bert"), r"model_type is 'bert', and allfour reads clip and siglip"),
        ("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}), r"config\.json: auto_map"),
        ("config.json", lambda c: c["vision_config"].update(window=7), r"vision_config\.window \(its value: 7\) is not passed on"),
        ("config.json", lambda c: c["text_config"].update(vocab_size=1_999_999), r"describes at least"),
        ("config.json", lambda c: c["text_config"].update(max_position_embeddings=20_000), r"max_position_embeddings"),
        ("config.json", lambda c: c["vision_config"].update(patch_size=8192), r"describes at least"),
        ("config.json", lambda c: c["text_config"].update(hidden_act="quick_gelu"), r"different activations"),
        ("config.json", lambda c: c["vision_config"].update(num_hidden_layers=3), r"no vision_model\.encoder\.layers\.2"),
        ("config.json", lambda c: c["vision_config"].update(num_hidden_layers=1), r"which no CLIP in transformers' format has"),
        ("preprocessor_config.json", lambda c: c.update(size={"shortest_edge": 40}), r"open_clip has no such preprocessing"),
        ("preprocessor_config.json", lambda c: c.update(do_normalize=False), r"do_normalize is false"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(
    clip: Path, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(ClassifierError, match=message):
        ours(changed(clip, tmp_path / "m", name, change), [])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.safetensors", r"has config\.json but no weights"),
        ("preprocessor_config.json", r"has no preprocessor_config\.json"),
        ("vocab.json", r"the tokenizer cannot be loaded|has no tokenizer"),
    ],
)
def test_a_missing_part_is_named_and_never_guessed(clip: Path, tmp_path: Path, missing: str, message: str) -> None:
    shutil.copytree(clip, tmp_path / "m")
    (tmp_path / "m" / missing).unlink()
    if missing == "vocab.json":
        (tmp_path / "m" / "merges.txt").unlink()
    if missing == "model.safetensors":  # a pickle beside it is not taken
        torch.save({}, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ClassifierError, match=message):
        ours(tmp_path / "m", [])


# --- ids of the hub ------------------------------------------------------------------------------------------------------------


def cached(root: Path, repository: str, folder: Path) -> None:
    """A folder as the hub's client keeps it."""
    place = root / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_ids_of_the_hub_are_found_in_its_cache(
    hub_cache: Path, tiny_clip: Path, clip: Path, images: list[Image.Image]
) -> None:
    cached(hub_cache, "some/open-clip", tiny_clip)
    cached(hub_cache, "some/transformers", clip)
    for name, folder in (("some/open-clip", tiny_clip), ("some/transformers", clip)):
        figures, identity = ours("ignored", images, pretrained=f"hf-hub:{name}")
        np.testing.assert_array_equal(figures, ours(folder, images)[0])
        assert identity["encoder"]["architecture"] == name
        by_model, same = ours("ignored", images, pretrained=None, model=f"hf-hub:{name}")  # as open_clip writes it
        np.testing.assert_array_equal(by_model, figures)
        assert same == identity


def test_an_id_that_is_not_there_is_one_error_with_the_way_to_get_it(hub_cache: Path, tiny_clip: Path) -> None:
    shutil.copytree(tiny_clip, hub_cache / "x")
    (hub_cache / "x" / "open_clip_model.safetensors").unlink()
    cached(hub_cache, "some/half", hub_cache / "x")  # a config alone is no model
    for name in ("some/absent", "some/half"):
        with pytest.raises(
            ClassifierError, match=rf"(?s)hf-hub:{name} is not on this machine.*HF_HUB_OFFLINE.*hf download {name} "
        ):
            clip_weights.resolve(model=None, pretrained=f"hf-hub:{name}")
    for name in ("hf-hub:../../etc", "hf-hub:one", "hf-hub:a/b/c"):
        with pytest.raises(ClassifierError, match="not the id of a model"):
            clip_weights.resolve(model=None, pretrained=name)
