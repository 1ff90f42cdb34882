"""Builds networks whose weights are all read from a file, without drawing random initial weights first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within this context, and in this thread, functions that would fill a tensor with random values leave it as it is.

    For a network whose weights are then loaded strictly. Random first weights of ViT-L/14 take two processor seconds.
    """
    import torch
    from torch.nn import init
    from torch.overrides import TorchFunctionMode

    drawing = {init.normal_, init.uniform_, init.kaiming_uniform_, torch.Tensor.normal_, torch.Tensor.uniform_}

    class Undrawn(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = dict(kwargs or {})
            if func in drawing:
                return args[0] if args else options["tensor"]
            return func(*args, **options)

    with Undrawn():
        yield
