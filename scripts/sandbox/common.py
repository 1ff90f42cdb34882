"""What the training steps share: places, progress, checkpoints, averaged gradients of several processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "sandbox"
WEIGHTS = ROOT / "models" / "sandbox"
PLANTED = ROOT / "configs" / "references" / "sandbox-planted.yaml"
SIZE = 64


class Progress:
    """One line of progress with the time left, every few seconds."""

    def __init__(self, name: str, *, total: int, every: float = 20.0) -> None:
        self.name, self.total, self.every = name, total, every
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def show(self, step: int, **figures: float) -> None:
        if self._first is None:
            self._first = step
        now = time.monotonic()
        if now - self._last < self.every and step < self.total:
            return
        self._last = now
        rate = (now - self._start) / max(1, step - self._first)
        text = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
        left = (self.total - step) * rate / 60
        print(f"[{self.name}] {step}/{self.total}  {text}  {rate:.3f} s/step  {left:.1f} min left", flush=True)


class Average:
    """Exponential moving average of a module's floating-point weights."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        # A short memory early on, so that the average forgets the initial weights.
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def save(path: Path, **content: object) -> None:
    """Writes a checkpoint in one step, so that a kill leaves the one before."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def load(path: Path) -> dict[str, object] | None:
    """The checkpoint, or None where there is none. Tensors and plain values only: nothing else is unpickled."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def share_gradients(modules: Iterable[nn.Module], *, world: int) -> None:
    """Averages gradients over processes. One thread each with one exchange per step beats one process of many threads where
    other work shares the cores, because an operator never waits for a thread that lost its core."""
    if world == 1:
        return
    grads = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= world
    at = 0
    for grad in grads:
        grad.copy_(flat[at : at + grad.numel()].view_as(grad))
        at += grad.numel()


def cosine(step: int, *, total: int, warmup: int, low: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `low`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return low + (1 - low) * 0.5 * (1 + float(torch.cos(torch.tensor(progress * 3.141592653589793))))
