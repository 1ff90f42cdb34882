"""FaceRes: packages that are not it are refused, and its layers compute what TensorFlow's would."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from allfour.errors import ClassifierError
from allfour.models.classifiers._face import age_and_gender, faceres


def packed(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"package/models/faceres.{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_only_the_known_package_is_converted(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match=r"does not contain package/models/faceres\.bin"):
        faceres.convert(packed(tmp_path / "half.tgz", json=b"{}"))
    with pytest.raises(ClassifierError, match=r"faceres\.json is not the one in @vladmandic/human 3\.3\.6"):
        faceres.convert(packed(tmp_path / "other.tgz", json=b"{}", bin=b"\0" * 8))
    (tmp_path / "no.tgz").write_bytes(b"no archive")
    with pytest.raises(ClassifierError, match=r"no\.tgz is not an npm package"):
        faceres.convert(tmp_path / "no.tgz")
    with pytest.raises(ClassifierError, match=r"absent\.tgz: no such file"):
        faceres.convert(tmp_path / "absent.tgz")


def tensorflow_same(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A depthwise or dense convolution with padding SAME, by its definition: image [h, w, c], kernel [kh, kw, c, m]."""
    height, width, _ = image.shape
    out_h, out_w = -(-height // stride), -(-width // stride)
    side = kernel.shape[0]
    total = max((out_h - 1) * stride + side - height, 0)
    before = total // 2  # the odd one goes behind
    padded = np.pad(image, ((before, total - before), (before, total - before), (0, 0)))
    dense = kernel.shape[3] != 1
    result = np.zeros((out_h, out_w, kernel.shape[3] if dense else kernel.shape[2]))
    for y in range(out_h):
        for x in range(out_w):
            window = padded[y * stride : y * stride + side, x * stride : x * stride + side]
            result[y, x] = (
                np.einsum("hwc,hwcm->m", window, kernel) if dense else (window * kernel[..., 0]).sum(axis=(0, 1))
            )
    return result


def test_layers_pad_and_scale_as_tensorflow_does() -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {
        "conv1/convolution/merged_input": random.normal(size=(3, 3, 3, 4)),
        "conv1_bn/batchnorm_1/sub": random.normal(size=4),
    }
    for n in range(1, 14):
        tensors[f"conv_dw_{n}/depthwise_kernel"] = random.normal(size=(3, 3, 4, 1))
        tensors[f"conv_dw_{n}_bn/batchnorm_1/mul"] = random.normal(size=4)
        tensors[f"conv_dw_{n}_bn/batchnorm_1/sub"] = random.normal(size=4)
        tensors[f"conv_pw_{n}/convolution/merged_input"] = random.normal(size=(1, 1, 4, 4))
        tensors[f"conv_pw_{n}_bn/batchnorm_1/sub"] = random.normal(size=4)
    tensors = {name: values.astype(np.float32) for name, values in tensors.items()}
    image = random.normal(size=(64, 64, 3)).astype(np.float32)
    value = np.clip(
        tensorflow_same(image, tensors["conv1/convolution/merged_input"], 2) + tensors["conv1_bn/batchnorm_1/sub"], 0, 6
    )
    for n, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), start=1):
        value = tensorflow_same(value, tensors[f"conv_dw_{n}/depthwise_kernel"], stride)
        value = value * tensors[f"conv_dw_{n}_bn/batchnorm_1/mul"] + tensors[f"conv_dw_{n}_bn/batchnorm_1/sub"]
        value = tensorflow_same(np.clip(value, 0, 6), tensors[f"conv_pw_{n}/convolution/merged_input"], 1)
        value = np.clip(value + tensors[f"conv_pw_{n}_bn/batchnorm_1/sub"], 0, 6)
    with torch.inference_mode():
        ours = faceres.network(tensors)(torch.from_numpy(image.transpose(2, 0, 1)[None]))
    assert value.std() > 0.01
    np.testing.assert_allclose(ours[0].numpy(), value.mean(axis=(0, 1)), atol=1e-3)


def test_points_are_placed_by_the_similarity_that_landmarks_ask_for() -> None:
    angle, size, shift = 0.4, 120.0, np.asarray([300.0, 50.0])
    turn = size * np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = age_and_gender._CENTERFACE @ turn.T + shift
    placed = age_and_gender.placed([(float(x), float(y)) for x, y in landmarks])
    np.testing.assert_allclose(placed, age_and_gender._DLIB @ turn.T + shift, atol=1e-9)
