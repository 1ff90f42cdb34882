"""Networks that are built before their weights are read: of tensors without numbers, which need no first ones either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within it, first numbers are given to no tensor that can hold none, and memory like such a tensor's is asked for by its shape.

    PyTorch works either out in Python, for which it imports a system of computer algebra. Tensors with numbers are treated as ever.
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
