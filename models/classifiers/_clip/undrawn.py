"""Networks whose weights are all read from a file: nothing is drawn for them before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within it, what would draw numbers for a tensor leaves it as it is, in this thread.

    For a network that is then loaded strictly. Random first weights of ViT-L/14 take two processor seconds.
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
