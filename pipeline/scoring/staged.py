"""Batches for encoders on a device: pictures go there piece by piece, and as they were decoded where it resizes them itself.

Resizing is most of what an image costs a processor, and one process that feeds a device holds no more than a piece of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.models.classifiers.base import (
    PIECE,
    ByteArray,
    EmbeddingClassifier,
    FloatArray,
    Staging,
    StagingEncoder,
    people_of,
)
from allfour.pipeline.scoring.people import PreparedImage, prepare
from allfour.pipeline.scoring.rows import Row

_LOOK = 32
"""Pictures after which it is clear whether most have the size of the first."""


class Preparation:
    """What an encoder is given of each image of a shard: where its device resizes, those of the size of the first as they are.

    The others are resized here, and so are all of a shard where sizes are mixed: what a device needs to resize pictures of a size is worth
    it for many of them. What the encoder reads is the same, byte for byte.
    """

    def __init__(self, classifier: EmbeddingClassifier) -> None:
        self._classifier = classifier
        whole = isinstance(classifier, StagingEncoder) and people_of(classifier) is None
        self._resizer = classifier if isinstance(classifier, StagingEncoder) and whole else None
        self._size: tuple[int, int] | None = None
        self._seen = self._alike = 0

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Of an RGB image. May be called by several threads at once: they may count a picture too few, which moves no figure."""
        if self._resizer is not None and self._as_it_is(image.size, self._resizer):
            return PreparedImage((np.asarray(image),))
        return prepare(image, self._classifier)

    def _as_it_is(self, size: tuple[int, int], resizer: StagingEncoder) -> bool:
        width, height = size
        if self._size is None:
            fits = height * width * 3 <= PIECE
            if not fits or (height, width) == resizer.input_shape[:2] or not resizer.takes(height, width):
                self._resizer = None
                return False
            self._size = size
        alike = size == self._size
        self._seen += 1
        self._alike += alike
        if self._seen >= _LOOK and 2 * self._alike < self._seen:
            self._resizer = None
        return alike


@dataclass(slots=True)
class _Piece:
    """Pictures of one size that are staged together."""

    pictures: NDArray[np.uint8]
    """[room, height, width, 3]."""
    rows: list[Row] = field(default_factory=list)


class Batch:
    """Pictures of a batch on their way to an encoder. Filled again and again.

    Parameters
    ----------
    size
        Images of a batch.
    """

    def __init__(self, classifier: EmbeddingClassifier, size: int) -> None:
        self._device: Staging = classifier if isinstance(classifier, StagingEncoder) else _Waited(classifier)
        self._size = size
        self._pieces: dict[tuple[int, ...], _Piece] = {}
        self._rows: list[Row] = []
        self._staged: list[Any] = []

    def __len__(self) -> int:
        return len(self._rows) + sum(len(piece.rows) for piece in self._pieces.values())

    def add(self, row: Row, pixels: ByteArray) -> bool:
        """Take one picture [height, width, 3] over; whether the batch is full now."""
        piece = self._pieces.get(pixels.shape)
        if piece is None:
            room = min(self._size, max(1, PIECE // pixels.size))
            piece = self._pieces[pixels.shape] = _Piece(np.empty((room, *pixels.shape), dtype=np.uint8))
        piece.pictures[len(piece.rows)] = pixels
        piece.rows.append(row)
        if len(piece.rows) == len(piece.pictures):
            self._stage(piece)
        return len(self) == self._size

    def _stage(self, piece: _Piece) -> None:
        self._staged.append(self._device.stage(piece.pictures[: len(piece.rows)]))
        self._rows += piece.rows
        piece.rows = []

    def launch(self) -> tuple[list[Row], Callable[[], FloatArray]]:
        """Have what was added encoded: the rows, and what waits for [N, D] embeddings of them."""
        for piece in self._pieces.values():
            if piece.rows:
                self._stage(piece)
        rows, result = self._rows, self._device.encode_staged(self._staged, self._size)
        self._rows, self._staged = [], []
        return rows, lambda: result()[: len(rows)]


class _Waited:
    """An encoder that is waited for, as one that is not."""

    def __init__(self, classifier: EmbeddingClassifier) -> None:
        self._classifier = classifier

    def stage(self, pictures: ByteArray) -> ByteArray:
        return pictures.copy()

    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        vectors = self._classifier.encode(np.concatenate(staged))
        return lambda: vectors
