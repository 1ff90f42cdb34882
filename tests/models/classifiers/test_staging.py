"""The order in which pinned memory is used: what a device does with it is checked by scripts/gpu_check.py, on one."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch

from allfour.models.classifiers._clip import staging
from allfour.models.classifiers.base import PIECE


class Slow:
    """A device that copies nothing before it is waited for, and then everything that was asked for before the event."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []
        device, real_to = self, torch.Tensor.to

        class Event:
            until = 0

            def __init__(self, *, blocking: bool) -> None:
                assert blocking

            def record(self) -> None:
                self.until = len(device.asked)

            def synchronize(self) -> None:
                device.run(self.until)

        def to(tensor: torch.Tensor, *arguments: Any, non_blocking: bool = False, **named: Any) -> torch.Tensor:
            if not non_blocking:
                return real_to(tensor, *arguments, **named)
            made = torch.zeros_like(tensor)
            device.asked.append((made, tensor))
            return made

        class Stream:
            def __init__(self, device: Any) -> None: ...

            def wait_stream(self, other: Stream) -> None:
                device.run(len(device.asked))

        empty = torch.empty

        def without_pins(*arguments: Any, pin_memory: bool = False, **named: Any) -> torch.Tensor:
            return empty(*arguments, **named)

        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
        monkeypatch.setattr(torch, "empty", without_pins)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)

    def run(self, until: int) -> None:
        for made, source in self.asked[:until]:
            made.copy_(source)
        self.asked[:until] = [(torch.empty(0), torch.empty(0))] * until


def test_nothing_is_filled_before_it_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece arrives as it was when it was staged, though its array is used again at once and lanes take turns."""
    Slow(monkeypatch)
    moving = staging.CudaStaging(torch.device("cpu"), lambda pictures: pictures)
    batch = np.empty((3, 2, 2, 3), dtype=np.uint8)
    staged = []
    for number in range(3 * staging._LANES + 1):
        batch[...] = number
        staged.append(moving.stage(batch))
    arrived = moving.gathered(staged)
    assert arrived[:, 0, 0, 0].tolist() == [number for number in range(3 * staging._LANES + 1) for _ in range(3)]


def test_large_pictures_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    Slow(monkeypatch)
    moving = staging.CudaStaging(torch.device("cpu"), lambda pictures: pictures)
    side = 1200  # 4.3 MB
    batch = np.repeat(np.arange(8, dtype=np.uint8), side * side * 3).reshape(8, side, side, 3)
    parts = moving.stage(batch)
    assert [len(part) for part in parts] == [3, 3, 2]
    assert all(part.numel() <= PIECE for part in parts)
    assert moving.gathered([parts])[:, 0, 0, 0].tolist() == list(range(8))
    assert moving.gathered([moving.stage(batch[:0])]).shape == (0, side, side, 3)


def test_embeddings_of_two_batches_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    Slow(monkeypatch)
    moving = staging.CudaStaging(torch.device("cpu"), lambda pictures: pictures)
    waiting = [moving.fetch(torch.full((2, 3), float(number))) for number in range(2)]
    first = waiting[0]()
    moving.fetch(torch.full((2, 3), 2.0))
    assert (first == 0).all()
    assert (waiting[1]() == 1).all()
