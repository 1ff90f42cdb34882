"""Ranks: processes that share the work of one run folder."""

from __future__ import annotations

from allfour.errors import UsageError


def check_rank(rank: int, world_size: int) -> None:
    """Raise UsageError where there is no such rank."""
    if world_size < 1 or not 0 <= rank < world_size:
        raise UsageError(f"--rank {rank} --world-size {world_size}: ranks run from 0 to world size - 1")
