"""Batches of a small model side by side on a CPU, one core each.

What an operation of a small model has to do is too little to be shared by cores: they wait for each other hundreds of times per step, and
beside other processes for much longer than that. So each core draws a batch of its own.

The images are those that two cores draw together, byte for byte, whatever the number of cores: `fits`, `products_agree` and
`as_by_several_cores` see to it. (Four cores that draw together may give another colour by one count of 255 here and there.) The rest of a plan that fills no batch
is drawn by all cores together, since matrix products of an odd number of rows are rounded in another order on one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

Made = TypeVar("Made")

STATELESS = frozenset({"StableDiffusionPipeline", "StableDiffusionXLPipeline"})
"""Pipelines that keep what a call needs in themselves and their scheduler, and nothing in their networks."""
MOST = 16
"""Batches at a time: Python, which all share, keeps up with no more."""
LARGEST = 2**17
"""Pixels of a batch, such as 8 of 128 x 128: larger ones keep the cores busy together, and would fill the memory side by side."""
_ROWS = 4
"""Products of a multiple of so many rows are the same on one core and on two."""
_SINGLE = 20_480
"""Numbers of a single image's layer beyond which PyTorch gives it to oneDNN."""


def fits(pipe: Any, *, images: int, pixels: int) -> bool:
    """Whether batches of `images` images of `pixels` pixels are drawn side by side, by a pipeline as it was loaded, on the CPU."""
    return type(pipe).__name__ in STATELESS and images % _ROWS == 0 and images * pixels <= LARGEST


def products_agree(pipe: Any, draw: Callable[[], Any]) -> bool:
    """Whether the matrix products that `draw` asks of the pipeline's layers come out on one core as on all of them, to the last bit.

    `draw` draws a batch in a few steps. Which code a library takes for a product of given sizes, and in which order that sums up, is
    not ours to know: on AMD's processors they agree; on Intel's most do, but for products of a few rows.
    """
    import torch

    found: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}

    def keep(layer: Any, given: tuple[Any, ...], made: Any) -> None:
        found.setdefault((*layer.weight.shape, layer.bias is None, *given[0].shape), (layer, given[0], made))

    hooks = [
        layer.register_forward_hook(keep)
        for part in pipe.components.values()
        if isinstance(part, torch.nn.Module)
        for layer in part.modules()
        if isinstance(layer, torch.nn.Linear) and layer.weight.dtype == torch.float32
    ]
    several = torch.get_num_threads()
    # The batch by one core, and only its products by all: a batch by all is hundreds of steps for which they wait for each other.
    torch.set_num_threads(1)
    try:
        draw()
    finally:
        torch.set_num_threads(several)
        for hook in hooks:
            hook.remove()
    with torch.inference_mode():
        return all(torch.equal(layer(given), made) for layer, given, made in found.values())


def as_by_several_cores(pipe: Any) -> None:
    """Have a pipeline's networks compute on one core what they compute on several.

    On one core alone, PyTorch gives convolutions of 1 x 1 to another library, which rounds in another order.
    """
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for part in pipe.components.values():
        for layer in part.modules() if isinstance(part, torch.nn.Module) else ():
            if type(layer) is torch.nn.Conv2d and layer.kernel_size == (1, 1) and layer.padding == (0, 0):
                layer._conv_forward = partial(_by_one_library, layer)  # type: ignore[method-assign]


def _by_one_library(layer: Any, values: Any, weight: Any, bias: Any) -> Any:
    import torch

    how = (layer.stride, layer.padding, layer.dilation, layer.groups)
    if values.dtype == torch.float32 and (len(values) > 1 or values.numel() > _SINGLE):
        stride, padding, dilation, groups = how
        return torch.mkldnn_convolution(values, weight, bias, padding, stride, dilation, groups)
    return torch.conv2d(values, weight, bias, *how)


class Lanes:
    """So many copies of a pipeline, each with a thread and a core of its own. They share weights; a scheduler keeps state and is copied."""

    def __init__(self, pipe: Any, count: int) -> None:
        self._pipes = [_twin(pipe) for _ in range(count)]
        self._free = list(self._pipes)

    def __len__(self) -> int:
        return len(self._pipes)

    def each(self, batches: Iterator[Sequence[Any]], make: Callable[[Any, Sequence[Any]], Made]) -> Iterator[Made]:
        """`make(pipe, batch)` of every batch, in the order in which they are made.

        An error of one is raised here. However this is left, batches that are under way are given up first.
        """
        import torch

        threads = ThreadPoolExecutor(
            len(self), thread_name_prefix="draw", initializer=partial(torch.set_num_threads, 1)
        )
        under_way: set[Future[Made]] = set()
        try:
            while True:
                # one more than there are lanes, so that none waits for the caller
                while len(under_way) <= len(self) and (batch := next(batches, None)) is not None:
                    under_way.add(threads.submit(self._made, make, batch))
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda each: each.exception() is not None):
                    yield future.result()
        finally:
            for pipe in self._pipes:
                pipe._interrupt = True  # its loop leaves out the steps to come
            threads.shutdown(wait=True, cancel_futures=True)
            # threads to come take the last number that was set, by any thread: those above set 1
            torch.set_num_threads(torch.get_num_threads())

    def _made(self, make: Callable[[Any, Sequence[Any]], Made], batch: Sequence[Any]) -> Made:
        pipe = self._free.pop()
        try:
            return make(pipe, batch)
        finally:
            self._free.append(pipe)


def _twin(pipe: Any) -> Any:
    twin = copy.copy(pipe)
    twin.scheduler = copy.deepcopy(pipe.scheduler)
    return twin
