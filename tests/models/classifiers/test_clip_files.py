"""One set of weights by tag and by file: the same identity and figures, or a refusal where a file does not say what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from allfour.errors import ClassifierError
from allfour.models.classifiers import clip_weights
from allfour.models.classifiers.clip import ClipClassifier
from allfour.pipeline.config import load_attributes
from tests.conftest import TINY_CLIP

ATTRIBUTES = load_attributes("configs/attributes/utkface.yaml")
NAME = "tiny-for-tests"


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_clip: Path) -> Callable[..., Path]:
    """An architecture of open_clip's whose tags have the settings given; its weights file, which is every tag's."""
    import open_clip

    architecture = {key: value for key, value in TINY_CLIP["model_cfg"].items() if key != "quick_gelu"}  # type: ignore[attr-defined]
    (tmp_path / f"{NAME}.json").write_text(json.dumps(architecture))
    weights = tiny_clip / "open_clip_model.safetensors"

    def known(**settings: dict[str, Any]) -> Path:
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path / f"{NAME}.json"])
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
        open_clip.factory._rescan_model_configs()
        table = {tag: {"hf_hub": "none/none", **found} for tag, found in settings.items()}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, table)
        monkeypatch.setattr(clip_weights, "_cached", lambda config: weights)
        return weights

    return known


def figures(picture: Image.Image, **named: Any) -> tuple[np.ndarray, dict[str, Any]]:
    classifier = ClipClassifier(attributes=ATTRIBUTES, model=NAME, **named)
    found = classifier.probabilities(classifier.encode(classifier.prepare(picture)[None]))
    return np.concatenate(list(found.values()), axis=1), dict(classifier.identity())


def test_a_file_with_its_tag_is_the_tag(tags: Callable[..., Path], picture: Callable[..., Image.Image]) -> None:
    weights = tags(
        quick={"quick_gelu": True, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
        plain={"mean": [0.4] * 3, "std": [0.3] * 3},
    )
    by_tag, identity = figures(picture(1), pretrained="quick")
    by_file, same = figures(picture(1), pretrained=str(weights), tag="quick")
    other, another = figures(picture(1), pretrained=str(weights), tag="plain")
    np.testing.assert_allclose(by_file, by_tag, atol=1e-6)
    assert same == identity
    assert np.abs(other - by_tag).max() > 1e-4
    assert another != identity


def test_a_file_of_an_architecture_whose_tags_differ_is_refused(tags: Callable[..., Path]) -> None:
    weights = tags(one={"quick_gelu": True}, two={}, three={})
    with pytest.raises(ClassifierError, match=r"classifier\.tag=TAG  \(tags that are alike: one; two, three\)"):
        clip_weights.resolve(model=NAME, pretrained=str(weights))
    with pytest.raises(ClassifierError, match=r"classifier\.tag: .* no pretrained tag 'tow'.*Did you mean 'two'"):
        clip_weights.resolve(model=NAME, pretrained=str(weights), tag="tow")
    with pytest.raises(ClassifierError, match=r"classifier.tag .* does not name a file"):
        clip_weights.resolve(model=NAME, pretrained="one", tag="one")


def test_a_file_needs_no_tag_where_all_agree_or_there_is_none(tags: Callable[..., Path]) -> None:
    siglip = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    weights = tags(one=siglip, two=siglip)
    overrides = clip_weights.resolve(model=NAME, pretrained=str(weights)).overrides
    assert overrides["image_mean"] == [0.5] * 3
    assert overrides["image_resize_mode"] == "squash"
    weights = tags()
    assert clip_weights.resolve(model=NAME, pretrained=str(weights)).overrides == {}


def test_a_tokenizer_that_cannot_be_had_is_one_clear_error(
    tags: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    weights = tags(one={})

    def offline(name: str) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(open_clip, "get_tokenizer", offline)
    with pytest.raises(
        ClassifierError, match=rf"(?s)the tokenizer of {NAME} is not on this machine.*get_tokenizer\('{NAME}'\)"
    ):
        ClipClassifier(attributes=ATTRIBUTES, model=NAME, pretrained=str(weights))


def test_a_folder_of_the_working_directory_is_not_taken_for_a_text_tower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xlm-roberta-base").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClassifierError, match="'xlm-roberta-base' on the model hub"):
        ClipClassifier(attributes=ATTRIBUTES, model="xlm-roberta-base-ViT-B-32", pretrained="laion5b_s13b_b90k")
