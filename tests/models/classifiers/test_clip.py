"""Parity of the zero-shot classifier with open_clip's own recipe and with transformers, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.clip_weights import resolve
from tests.conftest import TINY_CLIP

ATTRIBUTES = AttributeSet.model_validate(
    {
        "templates": ["a photo of {}.", "a drawing of {}"],
        "attributes": {
            "gender": {"labels": {"woman": ["a woman", "a lady"], "man": ["a man"]}},
            "age": {"labels": {"young": ["a young person"], "old": ["an old person"], "other": ["someone"]}},
        },
    }
)


def classifier(folder: Path, attributes: AttributeSet = ATTRIBUTES) -> ClipClassifier:
    return ClipClassifier(attributes=attributes, model=None, pretrained=str(folder))


def ours(folder: Path, images: list[Image.Image], attributes: AttributeSet = ATTRIBUTES) -> dict[str, np.ndarray]:
    model = classifier(folder, attributes)
    return model.probabilities(model.encode(np.stack([model.prepare(image) for image in images])))


@pytest.fixture
def images(picture: Callable[..., Image.Image]) -> list[Image.Image]:
    return [picture(i, size) for i, size in enumerate([(32, 32), (100, 40), (33, 200), (640, 480)])]


def test_probabilities_agree_with_open_clips_own_recipe(tiny_clip: Path, images: list[Image.Image]) -> None:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    model.eval()
    found = ours(tiny_clip, images)
    with torch.no_grad():
        features = model.encode_image(torch.stack([preprocess(i) for i in images]), normalize=True)
        for question in ATTRIBUTES.questions:
            weights = []
            for texts in ATTRIBUTES.prompts(question).values():
                embedded = model.encode_text(tokenizer(list(texts)), normalize=True).mean(dim=0)
                weights.append(embedded / embedded.norm())
            expected = (model.logit_scale.exp() * features @ torch.stack(weights).T).softmax(dim=-1)
            assert np.abs(found[question] - expected.numpy()).max() < 1e-4


def test_probabilities_agree_with_transformers(tiny_clip: Path, images: list[Image.Image]) -> None:
    """The same weights in transformers' CLIPModel, with its own image processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    text, vision = TINY_CLIP["model_cfg"]["text_cfg"], TINY_CLIP["model_cfg"]["vision_cfg"]
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            hidden_size=text["width"], intermediate_size=4 * text["width"], num_hidden_layers=text["layers"], num_attention_heads=text["heads"],
            projection_dim=32, hidden_act="quick_gelu", eos_token_id=49407, bos_token_id=49406, pad_token_id=0,
        ).to_dict(),
        vision_config=CLIPVisionConfig(
            hidden_size=vision["width"], intermediate_size=4 * vision["width"], num_hidden_layers=vision["layers"], num_attention_heads=2,
            image_size=32, patch_size=8, projection_dim=32, hidden_act="quick_gelu",
        ).to_dict(),
        projection_dim=32,
    )  # fmt: skip
    reference = CLIPModel(config).eval()
    reference.load_state_dict(_as_transformers(tiny_clip, text["layers"], vision["layers"]), strict=False)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32, use_fast=False)

    import open_clip

    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    attributes = AttributeSet.model_validate(
        {
            "attributes": {
                "gender": {
                    "labels": {"woman": ["a photo of a woman"], "man": ["a photo of a man"], "x": ["nobody at all"]}
                }
            }
        }
    )
    tokens = tokenizer([texts[0] for texts in attributes.prompts("gender").values()])
    with torch.no_grad():
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        expected = reference(input_ids=tokens, pixel_values=pixels).logits_per_image.softmax(dim=-1).numpy()
    found = ours(tiny_clip, images, attributes)["gender"]
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected, axis=0).max() > 1e-3  # the images do differ


def _as_transformers(folder: Path, text_layers: int, vision_layers: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    source = load_file(folder / "open_clip_model.safetensors")
    result = {
        "logit_scale": source["logit_scale"],
        "text_model.embeddings.token_embedding.weight": source["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": source["positional_embedding"],
        "text_projection.weight": source["text_projection"].T,
        "vision_model.embeddings.class_embedding": source["visual.class_embedding"],
        "vision_model.embeddings.position_embedding.weight": source["visual.positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": source["visual.conv1.weight"],
        "visual_projection.weight": source["visual.proj"].T,
    }
    for theirs, mine in (("text_model.final_layer_norm", "ln_final"), ("vision_model.pre_layrnorm", "visual.ln_pre"),
                         ("vision_model.post_layernorm", "visual.ln_post")):  # fmt: skip
        for part in ("weight", "bias"):
            result[f"{theirs}.{part}"] = source[f"{mine}.{part}"]
    for tower, prefix, layers in (
        ("text_model", "transformer", text_layers),
        ("vision_model", "visual.transformer", vision_layers),
    ):
        for layer in range(layers):
            mine, theirs = f"{prefix}.resblocks.{layer}", f"{tower}.encoder.layers.{layer}"
            for part in ("weight", "bias"):
                for name, rows in zip("qkv", source[f"{mine}.attn.in_proj_{part}"].chunk(3), strict=True):
                    result[f"{theirs}.self_attn.{name}_proj.{part}"] = rows
                for a, b in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):  # fmt: skip
                    result[f"{theirs}.{a}.{part}"] = source[f"{mine}.{b}.{part}"]
    return result


def test_rows_do_not_depend_on_their_batch(tiny_clip: Path, images: list[Image.Image]) -> None:
    model = classifier(tiny_clip)
    prepared = np.stack([model.prepare(image) for image in images])
    together = model.encode(prepared)
    alone = np.concatenate([model.encode(prepared[i : i + 1]) for i in range(len(prepared))])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_identity_follows_weights_and_wording(tiny_clip: Path, tmp_path: Path) -> None:
    one = classifier(tiny_clip).identity()
    other = ATTRIBUTES.model_copy(update={"templates": ("{}",)})
    assert classifier(tiny_clip).identity() == one
    assert classifier(tiny_clip, other).identity()["encoder"] == one["encoder"]
    assert classifier(tiny_clip, other).identity()["wording_sha256"] != one["wording_sha256"]
    json.dumps(one)


def refuse(**options: Any) -> str:
    with pytest.raises(ClassifierError) as caught:
        resolve(**{"model": None, "pretrained": None, **options})
    return str(caught.value)


def test_nothing_named_says_what_to_name() -> None:
    assert "--set classifier.pretrained=FOLDER" in refuse()


def test_a_missing_folder_is_named() -> None:
    assert f"looked for: {Path.cwd() / 'nowhere/x'}" in refuse(pretrained="nowhere/x")


def test_a_folder_without_weights_is_refused_and_never_random(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_clip / "open_clip_config.json", tmp_path)
    assert "random weights are refused" in refuse(pretrained=str(tmp_path))


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "open_clip_config.json is missing" in refuse(pretrained=str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    assert "must be a .safetensors file" in refuse(model="ViT-B-32", pretrained=str(tmp_path / "model.pt"))


def test_damaged_weights_name_their_file(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "m")
    weights = tmp_path / "m" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ClassifierError, match=r"open_clip_model\.safetensors: open_clip cannot load"):
        classifier(tmp_path / "m")


def test_weights_of_another_architecture_are_refused(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    (tmp_path / "m" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ClassifierError, match="cannot load these weights"):
        classifier(tmp_path / "m")


def test_unknown_architecture_and_tag_offer_the_closest() -> None:
    assert "Did you mean 'ViT-L-14'" in refuse(model="ViT-L-41", pretrained="openai").replace("'ViT-L-16' or ", "")
    assert "Did you mean 'openai'?" in refuse(model="ViT-L-14", pretrained="openia")


@pytest.mark.usefixtures("no_connection")
def test_without_a_hub_the_error_comes_at_once_and_names_the_ways_out() -> None:
    message = refuse(model="ViT-L-14", pretrained="openai")
    for part in (
        "ViT-L-14 / openai",
        "\n  - on a machine that reaches the hub",
        "\n  - use the folder",
        "classifier.backend=face",
    ):
        assert part in message
