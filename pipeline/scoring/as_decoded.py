"""Pictures that go to a device as they were decoded, where it resizes them itself: resizing is most of what an image costs a processor."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from allfour.models.classifiers.base import EmbeddingClassifier, ResizingEncoder, people_of
from allfour.pipeline.scoring.people import PreparedImage, prepare

MOST_BYTES = 2**27
"""Of a batch of pictures as they were decoded: such as 128 of 512 x 512 pixels, or 32 of 1024 x 1024."""
_LOOK = 32
"""Pictures after which it is clear whether most have the size of the first."""


class Preparation:
    """What an encoder is given of each image of a shard: to a device that resizes, those of the size of the first as they are.

    A batch holds pictures of one size. Those of other sizes are resized here, and so are all of a shard where sizes are mixed: else there
    would be a batch for every size. What the encoder reads is the same, byte for byte.

    Parameters
    ----------
    batch_size
        Pictures of a batch.
    """

    def __init__(self, classifier: EmbeddingClassifier, batch_size: int) -> None:
        self._classifier, self._batch_size = classifier, batch_size
        whole = isinstance(classifier, ResizingEncoder) and people_of(classifier) is None
        self._resizer = classifier if isinstance(classifier, ResizingEncoder) and whole else None
        self._size: tuple[int, int] | None = None
        self._seen = self._alike = 0

    def __call__(self, image: Image.Image) -> PreparedImage:
        """Of an RGB image. May be called by several threads at once: they may count a picture too few, which moves no figure."""
        if self._resizer is not None and self._as_it_is(image.size, self._resizer):
            return PreparedImage((np.asarray(image),))
        return prepare(image, self._classifier)

    def _as_it_is(self, size: tuple[int, int], resizer: ResizingEncoder) -> bool:
        width, height = size
        if self._size is None:
            fits = self._batch_size * height * width * 3 <= MOST_BYTES
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


def most_bytes(input_shape: tuple[int, ...], batch_size: int) -> int:
    """Bytes that a batch may have, prepared or as decoded."""
    return max(batch_size * math.prod(input_shape), MOST_BYTES)
