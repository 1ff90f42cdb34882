"""Resizing on a device: Pillow's bytes, or Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from allfour.models.classifiers._clip import device_resize
from allfour.models.classifiers._clip.device_resize import DeviceTransform, pillow_weights

CPU = torch.device("cpu")
SIZES = [(64, 64), (64, 96), (51, 47), (200, 40), (40, 201), (300, 500)]


def steps(**settings: Any) -> list[Any]:
    """Of open_clip's transform, as far as they run on images."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    made = image_transform_v2(PreprocessCfg(size=(32, 32), **settings), is_train=False).transforms
    return [step for step in made if "ToTensor" not in type(step).__name__ and "Normalize" not in type(step).__name__]


def pictures(height: int, width: int, count: int = 3) -> torch.Tensor:
    """Noise, edges from 0 to 255, and one colour."""
    random = np.random.default_rng(height * 1000 + width)
    found = random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    found[1] = np.where(found[1] < 100, 0, 255)
    found[2] = 255
    return torch.from_numpy(found)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_its_bytes_are_pillows(mode: str, interpolation: str, caplog: pytest.LogCaptureFixture) -> None:
    own = steps(interpolation=interpolation, resize_mode=mode)
    transform = DeviceTransform(own, CPU)
    for height, width in SIZES:
        assert transform.takes(height, width)
        batch = pictures(height, width)
        expected = torch.stack([transform._by_pillow(one) for one in batch.numpy()])
        assert transform._resizes.get((height, width), "not yet") == "not yet"
        made = transform(batch)
        assert torch.equal(made, expected), (height, width)
        assert made.is_contiguous()
        assert transform._resizes[height, width] is not None
    assert not caplog.records


def test_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = DeviceTransform(steps(), CPU)
    batch = pictures(48, 64, count=7)
    whole = transform(batch)
    monkeypatch.setattr(device_resize, "_CHUNK", 2 * 48 * 64 * 3)
    assert torch.equal(DeviceTransform(steps(), CPU)(batch), whole)


def test_what_is_more_than_a_resize_and_a_crop_is_pillows(caplog: pytest.LogCaptureFixture) -> None:
    from torchvision.transforms import InterpolationMode, Resize

    padded = DeviceTransform(steps(resize_mode="longest"), CPU)
    assert not padded.takes(64, 64)
    other = DeviceTransform([Resize(32, InterpolationMode.LANCZOS), *steps()[1:]], CPU)
    assert not other.takes(64, 64)
    mirrored = DeviceTransform([*steps(), lambda image: image.transpose(0)], CPU)
    assert not mirrored.takes(64, 64)
    assert not DeviceTransform(steps(), CPU).takes(5000, 5000)
    assert not DeviceTransform(steps(), CPU).takes(1, 2**24)  # 17 billion pixels, brought to a height of 32
    assert not DeviceTransform(steps(), CPU).takes(14, 14)  # enlarged: a weight at the edge is above 1
    assert torch.equal(padded(pictures(40, 64)), torch.stack([padded._by_pillow(p) for p in pictures(40, 64).numpy()]))
    assert not caplog.records


def test_other_bytes_are_noticed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Such as those of another version of Pillow, or of a device that does not multiply exactly."""

    def a_little_more(*arguments: Any) -> Any:
        found = pillow_weights(*arguments)
        found[: len(found) // 2] += 2**12
        return found

    monkeypatch.setattr(device_resize, "pillow_weights", a_little_more)
    transform, batch = DeviceTransform(steps(), CPU), pictures(64, 64)
    assert transform.takes(64, 64)
    assert torch.equal(transform(batch), torch.stack([transform._by_pillow(one) for one in batch.numpy()]))
    transform(batch)
    assert [record.getMessage() for record in caplog.records] == [
        "cpu resizes pictures of 64 x 64 to other bytes than Pillow: Pillow does it"
    ]


def test_a_device_that_cannot_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refused(*arguments: Any) -> torch.Tensor:
        raise RuntimeError("no such kernel\nof this card")

    monkeypatch.setattr(device_resize, "_product", refused)
    transform, batch = DeviceTransform(steps(), CPU), pictures(64, 64)
    assert not transform.works(64, 64)
    assert torch.equal(transform(batch), torch.stack([transform._by_pillow(one) for one in batch.numpy()]))
    assert [record.getMessage() for record in caplog.records] == [
        "cpu cannot resize pictures of 64 x 64 (no such kernel): Pillow does it"
    ]


def test_digits_are_what_half_precision_holds() -> None:
    """Of weights of every size that pictures have, and so are their sums what float32 holds."""
    for length in (225, 300, 512, 768, 1024, 2048, 4096):
        weights = pillow_weights(length, 224, "bicubic")
        assert abs(weights.sum(axis=0) - 2**22).max() < 40
        for digit in device_resize._digits(weights):
            assert (digit.astype(np.float16) == digit).all()
        assert device_resize._exact(weights)
    assert not device_resize._exact(pillow_weights(4096, 20, "bicubic"))  # a sum of 800 low digits may be too much
    high, low = device_resize._digits(weights)
    assert (high * 2**22 + low * 2**11 == weights).all()
