"""How many images fit onto the device at a time, and what to do when they do not."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Protocol

CPU_BATCH = 4
"""What `batch_size: auto` means without an accelerator, where larger batches bring nothing."""
UNMETERED_BATCH = 8
"""And on one whose memory cannot be asked for."""
LARGEST_BATCH = 64
"""Beyond it a device is no busier, and a kill costs more images."""
FIRST_BATCH = 2
"""Images of the batch whose need is measured."""
SAFE_SHARE = 0.8
"""Of the free memory; the rest is for fragmentation, larger kernel workspaces, the safety checker, and other processes."""


_BROKEN = (
    "CUDA error:",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "no kernel image is available",
)
"""After these a CUDA context answers nothing more, or never could."""


class MemoryMeter(Protocol):
    """Reads a device's memory, in bytes."""

    def free(self) -> int:
        """What this process could still allocate."""
        ...

    def peak(self) -> contextlib.AbstractContextManager[Peak]:
        """Meters what a block of code needs at most, above what was taken before it."""
        ...


class Peak:
    """Filled when the metered block ends."""

    bytes: int = 0


class CudaMeter:
    """Memory of a CUDA device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def free(self) -> int:
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # what this process holds and does not use counts as free
        return int(torch.cuda.mem_get_info(self._device)[0])

    @contextlib.contextmanager
    def peak(self) -> Iterator[Peak]:
        import torch

        peak = Peak()
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        yield peak
        torch.cuda.synchronize(self._device)
        peak.bytes = int(torch.cuda.max_memory_allocated(self._device)) - before


def batch_that_fits(*, need: int, images: int, free: int) -> int:
    """The largest power of two of images that fits, at least 1 and at most `LARGEST_BATCH`.

    Parameters
    ----------
    need
        Peak bytes of a batch of `images`. Its constant part is counted for every image, which errs on the safe side.
    free
        Bytes that can still be allocated.
    """
    fits = int(free * SAFE_SHARE * images // max(need, 1))
    return 1 << (min(max(fits, 1), LARGEST_BATCH).bit_length() - 1)


def meter_of(device: str) -> MemoryMeter | None:
    """The meter of a device; None where memory cannot be asked for."""
    return CudaMeter(device) if device.startswith("cuda") else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on this machine."""
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "can't allocate memory" in text


def device_lost(error: BaseException) -> bool:
    """Whether an error leaves the device of this process unusable, so that every further image would fail alike."""
    if out_of_memory(error):
        return False
    text = str(error)
    return type(error).__name__ == "AcceleratorError" or any(sign in text for sign in _BROKEN)


def free_memory() -> None:
    """Give back what nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def first_line(error: BaseException) -> str:
    """An error in one line of at most 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
