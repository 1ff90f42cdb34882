"""Resizing on the device that encodes, to the bytes that Pillow gives.

Pillow resamples rows, then columns, in whole numbers: weights are rounded to 22 bits, a sum of products is rounded to a byte after each of
the two passes. Whole numbers do not depend on the order in which they are added, so a device that multiplies matrices exactly makes the
same bytes. It does so in half precision: pixels have 8 bits, and a weight is split into two digits of 11 bits, which float16 holds; their
sums stay below 2**24, which float32 holds. That saves a processor 2.4 ms for a picture of 512 x 512, more than decoding it takes.

Only what is a resize with at most a crop after it is done so, and the bytes of every size of picture are compared once with Pillow's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

_log = logging.getLogger(__name__)

Step = Callable[[Any], Any]
"""Of a transform: an image in Pillow's form to another."""

_WEIGHT_BITS = 22
"""Of a weight's fraction, in Pillow's resampling of bytes."""
_DIGIT = 2**11
"""Base of the two digits of a weight."""
_EXACT = 2**24
"""Below it float32 holds every whole number."""
_CHUNK = 2**25
"""Bytes of pictures that are resized at once: what is made on the way takes some 12 times as much of the device's memory."""
_MOST_PIXELS = 2**24
"""Of a picture whose crop can be found out: a pixel's number is written in its 24 bits."""
_STRIP = 16
"""Sides to one another above which a picture is left to Pillow: brought to a crop's height, a strip has more pixels than it is worth."""
_SIZES = 64
"""Sizes of pictures whose weights are kept."""


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -0.5."""
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


_KERNELS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bicubic": (_bicubic, 2.0),
    "bilinear": (_bilinear, 1.0),
}
"""Interpolation, as torchvision names it -> its kernel and how far that reaches."""


def pillow_weights(length: int, wanted: int, interpolation: str) -> NDArray[np.int64]:
    """[length, wanted] weights of each place of a line in each place of the line it becomes, in units of 2**-22, as Pillow rounds them."""
    kernel, reach = _KERNELS[interpolation]
    scale = length / wanted
    widened = max(scale, 1.0)
    support, step = reach * widened, 1.0 / widened
    found = np.zeros((length, wanted), dtype=np.int64)
    for place in range(wanted):
        center = (place + 0.5) * scale
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)
        weights = kernel((np.arange(first, last, dtype=np.float64) - center + 0.5) * step)
        weights = weights / np.add.accumulate(weights)[-1]  # in this order, so that the last bits are Pillow's
        found[first:last, place] = np.trunc(weights * 2.0**_WEIGHT_BITS + np.copysign(0.5, weights))
    return found


def _digits(weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights as high + low / 2**11, both in units of 2**-11; see `DeviceResize`."""
    high = np.floor_divide(weights + _DIGIT // 2, _DIGIT)
    return high / _DIGIT, (weights - high * _DIGIT) / _DIGIT


def _exact(weights: NDArray[np.int64]) -> bool:
    """Whether both digits of these weights are what float16 holds, and their sums with 8-bit pixels what float32 does.

    Weights above 1 may not be, which pictures have that are enlarged: they are small.
    """
    digits = _digits(weights)
    held = all((digit.astype(np.float16) == digit).all() for digit in digits)
    return held and all(255 * _DIGIT * np.abs(digit).sum(axis=0).max() < _EXACT for digit in digits)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a transform does to pictures of one size."""

    across: NDArray[np.int64]
    """[width, W] weights of the columns."""
    down: NDArray[np.int64]
    """[height, H] weights of the rows."""


def _plan(steps: Sequence[Step], height: int, width: int) -> _Plan | None:
    """Found out by what the steps do; None where that is more than resizing and cropping, or not exact in half precision."""
    first, *rest = steps
    interpolation = getattr(getattr(first, "interpolation", None), "value", None)
    if type(first).__name__ != "Resize" or interpolation not in _KERNELS or height * width > _MOST_PIXELS:
        return None
    if max(height, width) > _STRIP * min(height, width):
        return None
    resized = first(Image.new("L", (width, height))).size[::-1]
    if math.prod(resized) > _MOST_PIXELS:
        return None
    numbers = np.arange(math.prod(resized), dtype="<u4").reshape(resized)
    image: Any = Image.fromarray(np.ascontiguousarray(numbers[..., None].view(np.uint8)[..., :3]))
    for step in rest:
        image = step(image)
    seen = np.asarray(image, dtype=np.uint32)
    if seen.ndim != 3 or seen.shape[2] != 3:
        return None
    kept = seen[..., 0] | seen[..., 1] << 8 | seen[..., 2] << 16
    top, left = divmod(int(kept[0, 0]), resized[1])
    bottom, right = top + kept.shape[0], left + kept.shape[1]
    if not np.array_equal(numbers[top:bottom, left:right], kept):  # padded, say
        return None
    across = pillow_weights(width, resized[1], interpolation)[:, left:right]
    down = pillow_weights(height, resized[0], interpolation)[:, top:bottom]
    return _Plan(across, down) if _exact(across) and _exact(down) else None


class _Pass:
    """Weights of one of the two passes on a device, those of the high digit before those of the low one."""

    def __init__(self, weights: NDArray[np.int64], device: torch.device) -> None:
        used = np.flatnonzero(weights.any(axis=1))
        self.reads = slice(int(used[0]), int(used[-1]) + 1)
        """Places of the line that are used at all."""
        both = np.concatenate(_digits(weights[self.reads]), axis=1)
        self.weights = torch.from_numpy(both).to(device, _exact_dtype(device))


def _exact_dtype(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[N, A, B] x [N, B, C] in float32, exact for what this module multiplies."""
    if a.dtype == torch.float16:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a, b)


def _rounded(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Bytes of sums of products: (high * 2**11 + low * 2**11 * 2**-11 + half of 2**22) // 2**22, held to 0..255, all steps of it exact."""
    return torch.add(high, low.floor_(), alpha=1 / _DIGIT).add_(0.5).clamp_(0.0, 255.5).to(torch.uint8)


class DeviceResize:
    """A transform's resize and crop for pictures of one size, on a device.

    With a weight w = (h * 2**11 + l) * 2**-22, where h and l are whole numbers, a byte is floor(sum(p w) + 1/2)
    = floor((sum(p h) + floor(sum(p l) / 2**11)) / 2**11 + 1/2), since sum(p h) and 2**10 are whole.
    """

    def __init__(self, plan: _Plan, device: torch.device) -> None:
        (height, self._height), (width, self._width) = plan.down.shape, plan.across.shape
        self._across, self._down = _Pass(plan.across, device), _Pass(plan.down, device)
        self._dtype = _exact_dtype(device)
        self._at_once = max(1, _CHUNK // (height * width * 3))

    @torch.inference_mode()
    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N, height, width, 3] uint8 on the device -> [N, H, W, 3] uint8 there."""
        parts = [self._resized(part) for part in torch.split(pictures, self._at_once)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _resized(self, pictures: torch.Tensor) -> torch.Tensor:
        planes = pictures[:, self._down.reads, self._across.reads].permute(0, 3, 1, 2).to(self._dtype)
        count, channels, height, width = planes.shape
        lines = planes.reshape(1, -1, width)
        across = _product(lines, self._across.weights[None])
        narrowed = _rounded(across[..., : self._width], across[..., self._width :]).to(self._dtype)
        columns = narrowed.reshape(count * channels, height, self._width)
        down = _product(self._down.weights.T.expand(count * channels, -1, -1), columns)
        made = _rounded(down[:, : self._height], down[:, self._height :])
        planes = made.reshape(count, channels, self._height, self._width)
        # laid out as what `prepare` gives: kernels, and last bits, depend on it
        return planes.permute(0, 2, 3, 1).contiguous()


class DeviceTransform:
    """Resizing on a device for pictures of any size, where it gives Pillow's bytes.

    Parameters
    ----------
    steps
        Of the transform, from an RGB image in Pillow's form to one at the input size.
    """

    def __init__(self, steps: Sequence[Step], device: torch.device) -> None:
        self._steps, self._device = steps, device
        self._plans: dict[tuple[int, int], _Plan | None] = {}
        self._resizes: dict[tuple[int, int], DeviceResize | None] = {}

    def takes(self, height: int, width: int) -> bool:
        """Whether pictures of this size are only resized and cropped, by weights that the device multiplies exactly. Needs no device."""
        return self._planned(height, width) is not None

    def _planned(self, height: int, width: int) -> _Plan | None:
        size = height, width
        if size not in self._plans:
            if len(self._plans) >= _SIZES:
                self._plans.clear()
            self._plans[size] = _plan(self._steps, height, width)
        return self._plans[size]

    def works(self, height: int, width: int) -> bool:
        """Whether the device resizes pictures of this size as Pillow does."""
        return self._resize(height, width) is not None

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N, height, width, 3] uint8 on the device -> [N, H, W, 3] uint8 there, as Pillow makes them."""
        resize = self._resize(int(pictures.shape[1]), int(pictures.shape[2]))
        if resize is not None:
            return resize(pictures)
        return torch.stack([self._by_pillow(one) for one in pictures.cpu().numpy()]).to(self._device)

    def _resize(self, height: int, width: int) -> DeviceResize | None:
        size = height, width
        if size not in self._resizes:
            if len(self._resizes) >= _SIZES:
                self._resizes.clear()
            self._resizes[size] = self._checked(*size)
        return self._resizes[size]

    def _checked(self, height: int, width: int) -> DeviceResize | None:
        """For pictures of this size; None where Pillow's bytes are not met."""
        plan = self._planned(height, width)
        if plan is None:
            return None
        random = np.random.default_rng(0)
        noise = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        noise[1] = np.where(noise[1] < 128, 0, 255)  # as far beyond 0 and 255 as sums can come
        try:
            resize = DeviceResize(plan, self._device)
            made = resize(torch.from_numpy(noise).to(self._device)).cpu()
        except RuntimeError as error:  # such as one without products of half precision that are summed in single
            _log.warning(
                "%s cannot resize pictures of %d x %d (%s): Pillow does it",
                self._device,
                width,
                height,
                str(error).splitlines()[0],
            )
            return None
        if all(torch.equal(one, self._by_pillow(of)) for one, of in zip(made, noise, strict=True)):
            return resize
        _log.warning(
            "%s resizes pictures of %d x %d to other bytes than Pillow: Pillow does it", self._device, width, height
        )
        return None

    def _by_pillow(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        value: Any = Image.fromarray(picture)
        for step in self._steps:
            value = step(value)
        return torch.from_numpy(np.array(value, dtype=np.uint8))
