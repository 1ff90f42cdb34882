"""Which processor a model runs on."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator


@functools.cache
def granted_cores() -> int:
    """Cores that this process may use: its affinity and its container's CPU quota are counted, not the host's cores."""
    from joblib.externals.loky import cpu_count

    return max(1, int(cpu_count()))


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Within it, what torch computes in the thread that calls is computed by one core, as by each of many workers: by several it may differ
    in its last bits."""
    import torch

    several = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(several)


def choose_device(name: str) -> str:
    """A device of this machine by its name; `auto` is the first of cuda, mps, cpu that it has.

    Of several GPUs, `auto` takes the one that LOCAL_RANK counts to, as launchers of several processes set it.

    Raises
    ------
    ValueError
        It has no such device. Says which it has, without the name of the key that asked for it.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {"cuda": gpus > 0, "mps": torch.backends.mps.is_available(), "cpu": True}
    if not (gpus and name != "cpu"):
        torch.set_num_threads(min(torch.get_num_threads(), granted_cores()))  # it counts the host's
    if name == "auto" and gpus > 1 and (rank := os.environ.get("LOCAL_RANK", "")).isdecimal():
        return f"cuda:{int(rank) % gpus}"
    if name == "auto":
        return next(kind for kind, present in there.items() if present)
    kind, colon, number = name.partition(":")
    if not there.get(kind, False):
        available = ", ".join(kind for kind, present in there.items() if present)
        raise ValueError(f"{name!r} does not exist here. Available: {available}; 'auto' takes the first of them")
    count = gpus if kind == "cuda" else 1
    if colon and not (number.isdecimal() and int(number) < count):
        raise ValueError(f"{name!r} does not exist here. Devices of kind {kind}: {count}, numbered from 0")
    return name
