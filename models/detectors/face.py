"""Faces, by dlib's frontal face detector: the extra `face`."""

from __future__ import annotations

import importlib.metadata
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allfour.errors import ClassifierError
from allfour.files import sha256_of
from allfour.models.detectors.base import Detection, DetectorSettings

if TYPE_CHECKING:
    from PIL import Image


class FaceDetectorConfig(DetectorSettings):
    """Faces are looked for (extra `face`); images with two or more are read face by face."""

    needs = "allfour[face]"

    detector: Literal["face"]
    min_confidence: float = Field(default=0.2, ge=0, le=10)
    """Faces that the detector is less sure of are left out, on its own scale."""
    size: int = Field(default=1280, ge=80, le=4096)
    """Longer side, in pixels, that images are brought to before faces are looked for; the smallest face found is 80 pixels of it."""

    def build(self) -> FaceDetector:
        return FaceDetector(size=self.size, min_confidence=self.min_confidence)


class FaceDetector:
    """dlib's frontal face detector (histograms of oriented gradients; King 2009, JMLR 10, 1755-1758).

    It sees faces of at least about 80 pixels. So that what is found does not depend on the resolution that a generator works in,
    every image is brought to one size first: the smallest face is then 80 / `size` of the longer side.

    Parameters
    ----------
    size
        Longer side, in pixels, that images are brought to (enlarged at most fourfold).
    min_confidence
        Candidates below this are left out; dlib's own threshold is 0.

    Raises
    ------
    ClassifierError
        dlib is not installed.
    """

    _of_thread = threading.local()
    """dlib's detector keeps the pyramid of its image: one to a thread. It takes long to make, and its settings are ours, not its own."""

    def __init__(self, *, size: int = 1280, min_confidence: float = 0.2) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ClassifierError(
                f"classifier.people.detector: face needs the package dlib-bin ({error}). Install it:  pip install 'allfour[face]'  Or read whole images:  --set classifier.people.detector=none"
            ) from None
        self._dlib: Any = dlib
        self._size, self._min_confidence = size, min_confidence

    def _detector(self) -> Any:
        if not hasattr(self._of_thread, "detector"):
            self._of_thread.detector = self._dlib.get_frontal_face_detector()
        return self._of_thread.detector

    def identity(self) -> Mapping[str, Any]:
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:  # dlib's is compiled in, and serialised to files alone
            path = Path(folder) / "detector"
            self._detector().save(str(path))
            digest = sha256_of(path)
        return {
            "detector": "dlib HOG frontal face detector",
            "package": f"dlib-bin {importlib.metadata.version('dlib-bin')}",
            "weights_sha256": digest,
            "size": self._size,
            "min_confidence": self._min_confidence,
        }

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        import numpy as np
        from PIL import Image

        longer = max(image.size)
        scale = min(self._size, 4 * longer) / longer
        shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        pixels = np.asarray(image.resize(shape, Image.Resampling.BILINEAR))
        boxes, confidences, _ = self._detector().run(pixels, 0, self._min_confidence)
        across, down = image.width / shape[0], image.height / shape[1]
        return [
            Detection(
                box=(
                    round(box.left() * across),
                    round(box.top() * down),
                    round((box.right() + 1) * across),
                    round((box.bottom() + 1) * down),
                ),
                confidence=float(confidence),
            )
            for box, confidence in zip(boxes, confidences, strict=True)
        ]
