"""Why images of a run are in no set: no prompt could be found for them, they are grids of several pictures, or there is none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LACKS_PROMPT = "no prompt: "
"""How the error of such an image begins; what it lacks follows."""
NOT_ONE = "not one picture: "
"""How the error of an image begins that is a grid of several."""

_REQUEST = re.compile(r" \[[^\]]*\]$")
"""The request's id at the end of an error, which no two have in common."""


def lacking_prompts(table: Path) -> dict[str, int]:
    """What images lack to have a prompt, such as `no caption file ... beside it`, and how many lack it; most first.

    Parameters
    ----------
    table
        Images.parquet of a run. One that cannot be read says nothing.
    """
    return _counted(table, pc.equal, LACKS_PROMPT)


def seen_as_grids(table: Path) -> dict[str, int]:
    """What images are that are in no set for being several pictures each, and how many are; as `lacking_prompts`."""
    return _counted(table, pc.not_equal, NOT_ONE)


def missing_for(table: Path) -> dict[tuple[str, str], int]:
    """Of images that are missing for another reason: (status, error), and how many there are; most first. As `lacking_prompts`."""
    counts: Counter[tuple[str, str]] = Counter()
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(columns=["status", "error"]):
                errors = pc.fill_null(batch["error"], "")
                told = pc.or_(pc.starts_with(errors, LACKS_PROMPT), pc.starts_with(errors, NOT_ONE))
                rows = batch.filter(pc.and_(pc.not_equal(errors, ""), pc.invert(told)))
                reasons = (_REQUEST.sub("", error) for error in rows["error"].to_pylist())
                counts.update(zip(rows["status"].to_pylist(), reasons, strict=True))
    except (pa.ArrowException, OSError, KeyError):
        return {}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counted(table: Path, which: Callable[..., Any], beginning: str) -> dict[str, int]:
    """Errors with this beginning, without it, of rows whose prompt is (or is not) the empty one."""
    counts: Counter[str] = Counter()
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(columns=["prompt", "error"]):
                rows = pc.and_(which(batch["prompt"], ""), pc.starts_with(batch["error"], beginning))
                counts.update(batch["error"].filter(rows).to_pylist())
    except (pa.ArrowException, OSError, KeyError):
        return {}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {error.removeprefix(beginning): count for error, count in ordered}
