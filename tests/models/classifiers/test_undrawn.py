"""Weights that a file brings are not drawn first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import init

from allfour.models.classifiers._clip.undrawn import nothing_drawn
from allfour.models.classifiers.clip_config import FolderConfig


def test_only_what_is_drawn_is_left_out() -> None:
    before = torch.get_rng_state()
    with nothing_drawn():
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Embedding(4, 3), torch.nn.Conv2d(1, 2, 3))
        init.xavier_uniform_(torch.empty(2, 2))
        norm = torch.nn.LayerNorm(4)
        one = torch.full((2,), 5.0).normal_()
    assert torch.equal(torch.get_rng_state(), before)
    assert norm.weight.tolist() == [1.0] * 4 and one.tolist() == [5.0, 5.0]
    assert not torch.equal(torch.full((2,), 5.0).normal_(), one)


def test_a_model_has_the_weights_of_its_file(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_clip / "open_clip_model.safetensors"
    drawn: list[Any] = []
    normal = torch.Tensor.normal_
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *args, **more: (drawn.append(args), normal(*args, **more))[1])
    model, _ = FolderConfig(tiny_clip).build(weights)
    assert drawn == []
    file = load_file(weights)
    assert model.state_dict().keys() == file.keys() and len(file) > 50
    assert all(torch.equal(tensor, file[name]) for name, tensor in model.state_dict().items())


def test_a_file_that_lacks_weights_is_no_model(tiny_clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = load_file(tiny_clip / "open_clip_model.safetensors")
    del tensors["text_projection"]
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(RuntimeError, match=r"Missing key.*text_projection"):
        FolderConfig(tiny_clip).build(tmp_path / "weights.safetensors")
