"""Pictures on their way to a CUDA device, beside what it computes, and embeddings on their way back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from allfour.models.classifiers.base import PIECE, ByteArray, FloatArray

_LANES = 6
"""Pieces that may be under way: while one is copied to the device others are resized there, and the next is filled."""
_BACK = 2
"""Batches that may be under way; see `StagingEncoder`."""


def _event() -> Any:
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # others need the core meanwhile


class _Lane:
    """Pinned memory for one piece."""

    def __init__(self) -> None:
        self._memory: torch.Tensor | None = None
        self._moved: Any = None

    def filled(self, pictures: ByteArray) -> torch.Tensor:
        """A copy of the pictures in pinned memory, when what was there before has left it."""
        if self._moved is not None:
            self._moved.synchronize()
        if self._memory is None or self._memory.numel() < pictures.size:
            self._memory = torch.empty(max(pictures.size, PIECE), dtype=torch.uint8, pin_memory=True)
        found = self._memory[: pictures.size].view(pictures.shape)
        found.copy_(torch.from_numpy(pictures))
        return found

    def leaves(self) -> None:
        """Its copy was asked for just now, in the current stream."""
        self._moved = self._moved or _event()
        self._moved.record()


class _Back:
    """Pinned memory for the embeddings of one batch."""

    def __init__(self) -> None:
        self._memory: torch.Tensor | None = None
        self._done = _event()

    def fetch(self, features: torch.Tensor) -> Callable[[], FloatArray]:
        if self._memory is None or self._memory.shape != features.shape:
            self._memory = torch.empty(features.shape, dtype=torch.float32, pin_memory=True)
        memory = self._memory
        memory.copy_(features, non_blocking=True)
        self._done.record()

        def landed() -> FloatArray:
            self._done.synchronize()
            return np.array(memory.numpy(), dtype=np.float32)  # a copy: the memory goes on to another batch

        return landed


class CudaStaging:
    """Moves pictures to a device and resizes them there in a stream of its own.

    Parameters
    ----------
    resized
        [N, h, w, 3] uint8 on the device -> [N, H, W, 3] uint8 there.
    """

    def __init__(self, device: torch.device, resized: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._device, self._resized = device, resized
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._lanes, self._backs = [_Lane() for _ in range(_LANES)], [_Back() for _ in range(_BACK)]
        self._piece = self._batch = 0

    def stage(self, pictures: ByteArray) -> list[torch.Tensor]:
        """[N, h, w, 3] uint8, which may change when this returns -> [N, H, W, 3] uint8 on the device, in parts."""
        at_once = max(1, PIECE // math.prod(pictures.shape[1:]))
        return [self._moved(pictures[start : start + at_once]) for start in range(0, max(1, len(pictures)), at_once)]

    def _moved(self, pictures: ByteArray) -> torch.Tensor:
        lane = self._lanes[self._piece % _LANES]
        self._piece += 1
        pinned = lane.filled(pictures)
        with torch.cuda.stream(self._stream):
            there = pinned.to(self._device, non_blocking=True)
            lane.leaves()
            return self._resized(there)

    def gathered(self, staged: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """[N, H, W, 3] of everything staged, for the current stream."""
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._stream)
        parts = [part for several in staged for part in several]
        for part in parts:
            part.record_stream(now)  # else its memory could be given away while it is read
        return torch.cat(parts)

    def fetch(self, features: torch.Tensor) -> Callable[[], FloatArray]:
        """What waits for [N, D] float32 of the device and gives it, in a copy."""
        back = self._backs[self._batch % _BACK]
        self._batch += 1
        return back.fetch(features)
