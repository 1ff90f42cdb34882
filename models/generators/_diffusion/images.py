"""From pixels on a device to outcomes: copy back, safety check, PNG. Runs beside the next batch, in threads of the caller."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.models.generators._diffusion.memory import first_line, free_memory
from allfour.models.generators.base import Failed, Finish, Generated, GenerationRequest, Outcome, Refused

_LOG = logging.getLogger(__name__)
BLACK = "the image is all black: the decoder overflowed. Try --set generator.dtype=float32"
"""Also what becomes of an image with a pixel that is not a number: a part of it would be scored as if it had been drawn."""


class SafetyChecker:
    """A pipeline's own checker, taken out of it, so that its preparation on the CPU does not keep the device waiting.

    It sees what it would see inside the pipeline, the 8-bit image, and so flags the same images.
    """

    def __init__(self, pipe: Any) -> None:
        self._model, self._prepare = pipe.safety_checker, pipe.feature_extractor
        self._one_at_a_time = threading.Lock()
        pipe.safety_checker = None

    @staticmethod
    def of(pipe: Any) -> SafetyChecker | None:
        """The checker of a pipeline; None where it has none, or where it is called in a way that we do not know."""
        parts = ("safety_checker", "feature_extractor", "run_safety_checker")
        return SafetyChecker(pipe) if all(getattr(pipe, name, None) is not None for name in parts) else None

    def flags(self, images: Sequence[Image.Image]) -> list[bool]:
        """Which images are withheld. Raises whatever the checker raises."""
        import torch

        with self._one_at_a_time, torch.inference_mode(), _own_stream(self._model.device):
            prepared = self._prepare(list(images), return_tensors="pt").pixel_values
            # It blackens what it flags; these are stand-ins, since a flagged image is never kept.
            blank = [np.zeros(1, np.float32) for _ in images]
            _, found = self._model(images=blank, clip_input=prepared.to(self._model.device, self._model.dtype))
        return [bool(flag) for flag in found]


def _own_stream(device: Any) -> contextlib.AbstractContextManager[Any]:
    """A stream of its own, so that the copy need not wait for the next batch in the device's queue."""
    import torch

    if device.type != "cuda":
        return contextlib.nullcontext()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    beside: contextlib.AbstractContextManager[Any] = torch.cuda.stream(stream)
    return beside


class ImageBatch:
    """The images of one call of the pipeline.

    Parameters
    ----------
    requests
        One per image; surplus images at the end (padding) are left out.
    images
        N x 3 x H x W in [0, 1] on any device, or PIL images.
    flagged
        What a checker inside the pipeline said of each.
    """

    def __init__(
        self,
        requests: Sequence[GenerationRequest],
        images: Any,
        flagged: Sequence[bool] | None,
        checker: SafetyChecker | None,
    ) -> None:
        self._requests = requests
        self._flagged = list(flagged[: len(requests)]) if flagged else None
        self._checker = checker
        self._lock = threading.Lock()
        self._checked: list[bool | str] | None = None
        self._pixels, self._event = _start_copy(images[: len(requests)])

    def finishes(self) -> list[tuple[GenerationRequest, Finish]]:
        """Each request with what brings it to its outcome."""
        return [(request, _Finish(self, position)) for position, request in enumerate(self._requests)]

    def outcome(self, position: int) -> Outcome:
        """The outcome of one image. Never raises."""
        request = self._requests[position]
        try:
            if self._event is not None:
                self._event.synchronize()
            verdict = self._verdicts()[position]
            return _outcome(request, self._image(position), verdict)
        except Exception as error:
            return Failed(request, error=f"{type(error).__name__}: {first_line(error)}")

    def _image(self, position: int) -> Image.Image:
        pixels: NDArray[np.uint8] = self._pixels[position]
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def _verdicts(self) -> list[bool | str]:
        """Of each image whether it is withheld, or why that could not be found out. Found out once, by the first thread to ask."""
        with self._lock:
            if self._checked is None:
                if self._checker is None:
                    self._checked = list(self._flagged or [False] * len(self._requests))
                else:
                    self._checked = self._check(self._checker)
            return self._checked

    def _check(self, checker: SafetyChecker) -> list[bool | str]:
        images = [self._image(k) for k in range(len(self._requests))]
        try:
            return list(checker.flags(images))
        except Exception as error:
            _LOG.warning("the safety checker failed on %d images, so each is tried alone: %s", len(images), error)
        free_memory()
        verdicts: list[bool | str] = []
        for image in images:
            try:
                verdicts += checker.flags([image])
            except Exception as error:
                verdicts.append(f"the safety checker failed: {type(error).__name__}: {first_line(error)}")
        return verdicts


class _Finish:
    """`ImageBatch.outcome` of one position."""

    def __init__(self, batch: ImageBatch, position: int) -> None:
        self._batch, self._position = batch, position

    def __call__(self) -> Outcome:
        return self._batch.outcome(self._position)


def _start_copy(images: Any) -> tuple[Any, Any]:
    """8-bit pixels, N x H x W x C, on their way to this side, and the event that says that they are there (None: they are)."""
    import torch

    if not torch.is_tensor(images):
        return np.stack([np.atleast_3d(np.asarray(image)) for image in images]), None
    # As diffusers rounds for PIL, but on the device: a quarter of the bytes to copy.
    images = images.float()
    whole = images.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    pixels = torch.where(whole, images, 0).permute(0, 2, 3, 1).clamp(0, 1).mul(255).round().to(torch.uint8)
    if pixels.device.type != "cuda":
        return pixels.cpu().numpy(), None
    try:
        host = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:  # no memory may be locked here, as in some containers: slower, and the same bytes
        _LOG.debug("no pinned memory: %s", error)
        return pixels.cpu().numpy(), None
    host.copy_(pixels, non_blocking=True)
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record()
    return host.numpy(), event


def _outcome(request: GenerationRequest, image: Image.Image, verdict: bool | str) -> Outcome:
    if isinstance(verdict, str):
        return Failed(request, error=verdict)
    if verdict:
        return Refused(request, reason="the model's safety checker withheld the image", code="safety_checker")
    if not np.asarray(image).any():
        return Failed(request, error=BLACK)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Generated(request, data=buffer.getvalue(), extension="png")
