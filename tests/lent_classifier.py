"""A classifier as one on a GPU is, for processes that feed it: its model stays where it was made."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from allfour.models.attributes import AttributeSet

SIDE = 4
DEADLY = (13, 13)
"""Size of a picture that its reader dies of, as often as it is told."""
FAULTY = (17, 17)
"""Size of a picture that is no fault of the picture's."""


class Lent:
    """An embedding is the mean colour; `woman` is read off its red."""

    embedding_dim = 3
    input_shape = (SIDE, SIDE, 3)
    lendable = True

    def __init__(self, attributes: AttributeSet, *, deaths: Path | None = None, times: int = 0) -> None:
        self.attributes, self._deaths, self._times = attributes, deaths, times
        self.model: int | None = os.getpid()
        self.batches: list[int] = []
        self.as_decoded = 0
        """Pictures that came as they were decoded."""
        self.elsewhere: Any = None

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "lent"}

    def encoder_identity(self) -> Mapping[str, Any]:
        return {"backend": "lent"}

    def prepare(self, image: Image.Image) -> Any:
        if image.size == FAULTY:
            raise RuntimeError("a fault")
        if image.size == DEADLY and self._deaths is not None:
            died = len(self._deaths.read_text()) if self._deaths.exists() else 0
            if died < self._times:
                self._deaths.write_text("x" * (died + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(image.resize((SIDE, SIDE)), dtype=np.uint8)

    def takes(self, height: int, width: int) -> bool:
        return (height, width) not in (FAULTY, DEADLY)

    def encode(self, batch: Any) -> Any:
        return self.encode_staged([self.stage(batch)], len(batch))()

    def stage(self, pictures: Any) -> Any:
        if self.elsewhere is not None:
            return self.elsewhere.stage(pictures)
        if pictures.shape[1:] == self.input_shape:
            return pictures.copy()
        self.as_decoded += len(pictures)
        return np.stack([self.prepare(Image.fromarray(one)) for one in pictures])

    def encode_staged(self, staged: Any, size: int) -> Callable[[], Any]:
        if self.elsewhere is not None:
            return self.elsewhere.encode_staged(staged, size)
        assert self.model == os.getpid(), "the model stays where it was made"
        self.batches.append(size)
        batch = np.concatenate([*staged, np.zeros((size - sum(map(len, staged)), *self.input_shape), dtype=np.uint8)])
        means = batch.reshape(len(batch), -1, 3).mean(axis=1).astype(np.float32) + 1
        vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
        return lambda: vectors

    def probabilities(self, embeddings: Any) -> Any:
        red = np.asarray(embeddings, dtype=np.float32)[:, :1] ** 2
        return {"gender": np.concatenate([red, 1 - red], axis=1)}

    def lend(self) -> Lent:
        twin = copy.copy(self)
        twin.model = None
        return twin

    def encodes_at(self, elsewhere: Any) -> None:
        self.elsewhere = elsewhere
