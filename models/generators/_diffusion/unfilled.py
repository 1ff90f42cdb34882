"""Builds networks before their weights are read, from tensors without values, so that no initial values are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within this context, tensors on the device `meta` get no initial values, and memory like theirs is allocated by their shape.

    PyTorch computes both in Python, and imports a computer algebra system for it. Other tensors are treated as usual.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Unfilled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = dict(kwargs or {})
            tensor = args[0] if args else options.get("tensor")
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                if getattr(func, "__module__", None) == "torch.nn.init":
                    return tensor
                if func is torch.empty_like and set(options) == {"device"} and tensor.is_contiguous():
                    return torch.empty(tensor.shape, dtype=tensor.dtype, device=options["device"])
            return func(*args, **options)

    with Unfilled():
        yield
