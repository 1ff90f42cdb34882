"""Networks that are built before their weights are read."""

from __future__ import annotations

import torch

from allfour.models.generators._diffusion.unfilled import nothing_drawn


def test_only_tensors_without_numbers_get_none() -> None:
    torch.manual_seed(0)
    usual = torch.nn.Linear(3, 2).weight
    torch.manual_seed(0)
    with nothing_drawn(), torch.device("cpu"):
        drawn = torch.nn.Linear(3, 2).weight
        filled = torch.nn.init.constant_(torch.empty(2), 7.0)
    assert torch.equal(drawn, usual)
    assert filled.tolist() == [7.0, 7.0]


def test_what_is_made_of_a_tensor_without_numbers_has_its_shape_and_type() -> None:
    with nothing_drawn(), torch.device("meta"):
        layer = torch.nn.Embedding(5, 4)
        assert torch.nn.init.normal_(layer.weight) is layer.weight
        places = torch.arange(6).expand((1, -1))
        memory = torch.empty_like(places, device="cpu")
        turned = torch.empty_like(torch.empty(2, 3).T, device="cpu")
    assert layer.weight.is_meta and layer.weight.shape == (5, 4)
    assert (memory.device.type, memory.shape, memory.dtype) == ("cpu", (1, 6), torch.int64)
    assert turned.stride() == (1, 3)  # in the order of the one that it is like
