"""torch.compile of the denoising network, where it pays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from allfour.errors import BackendError

_LOG = logging.getLogger(__name__)

BREAK_EVEN = 40_000
"""Denoising steps of 512 x 512 pixels above which `compile: auto` compiles.

Twice the 19,200 that were measured on an H100 for Stable Diffusion 1.5's sizes (53 s to compile; 2.8 of 8.4 ms a step saved), since other
cards and compilers take other times. `scripts/bench_generation.py` gives the number for a machine and a model.
"""

Choice = Literal["auto"] | bool


def pays(choice: Choice, *, device: str, images: int, steps: int, pixels: int) -> bool:
    """Whether to compile for a run of `images` images, of `steps` steps and `pixels` pixels each."""
    if choice != "auto":
        return choice
    return device.startswith("cuda") and work(images=images, steps=steps, pixels=pixels) >= BREAK_EVEN


def work(*, images: int, steps: int, pixels: int) -> float:
    """A run's work in denoising steps of 512 x 512 pixels."""
    return images * steps * pixels / 512**2


def network_of(pipe: Any) -> Any:
    """The module that runs at every step.

    Raises
    ------
    BackendError
        The pipeline has none that we know.
    """
    for name in ("unet", "transformer"):
        if (network := getattr(pipe, name, None)) is not None:
            return network
    raise BackendError(
        f"generator.compile: {type(pipe).__name__} has neither a unet nor a transformer. Set generator.compile=false"
    )


class CompiledNetwork:
    """Compiles a network's forward in place, and times the first call of each batch size, which is when the compiler works.

    Shapes are static: callers keep to one batch size.
    """

    def __init__(self, network: Any, device: str) -> None:
        import torch

        self.seconds: dict[int, float] = {}
        """By batch size of the network's input (with guidance twice the images): time of its first call."""
        self._device = device
        self._plain: Callable[..., Any] = network.forward
        self._compiled: Callable[..., Any] = torch.compile(self._plain, dynamic=False)
        self.paused = False
        """While set, the plain forward is called."""
        network.forward = self._forward

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        if self.paused:
            return self._plain(*args, **kwargs)
        size = next(int(v.shape[0]) for v in (*args, *kwargs.values()) if torch.is_tensor(v) and v.ndim)
        if size in self.seconds:
            return self._compiled(*args, **kwargs)
        _LOG.info("compiling the network for a batch of %d", size)
        self._wait()
        started = time.perf_counter()
        result = self._compiled(*args, **kwargs)
        self._wait()
        self.seconds[size] = time.perf_counter() - started
        _LOG.warning("compiled the network for a batch of %d in %.1f s", size, self.seconds[size])
        return result

    def _wait(self) -> None:
        import torch

        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)


def compiler_failed(error: BaseException) -> bool:
    """Whether an error comes from the compiler and not from the model."""
    return any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__)
