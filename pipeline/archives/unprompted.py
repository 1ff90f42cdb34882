"""Images of a run that are in no set: those that no prompt could be found for, and grids of several pictures."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

LACKS_PROMPT = "no prompt: "
"""How the error of such an image begins; what it lacks follows."""
NOT_ONE = "not one picture: "
"""How the error of an image begins that is a grid of several."""


def lacking_prompts(table: Path) -> dict[str, int]:
    """What images lack to have a prompt, such as `no caption file ... beside it`, and how many lack it; most first.

    Parameters
    ----------
    table
        Images.parquet of a run. One that cannot be read says nothing.
    """
    return _counted(table, pc.field("prompt") == "", LACKS_PROMPT)


def seen_as_grids(table: Path) -> dict[str, int]:
    """What images are that are in no set for being several pictures each, and how many are; as `lacking_prompts`."""
    return _counted(table, pc.field("prompt") != "", NOT_ONE)


def _counted(table: Path, which: pc.Expression, beginning: str) -> dict[str, int]:
    rows = which & pc.starts_with(pc.field("error"), beginning)
    try:
        errors = ds.dataset(table, format="parquet").to_table(["error"], filter=rows)["error"]
    except (pa.ArrowException, OSError):
        return {}
    counts = {entry["values"]: entry["counts"] for entry in errors.value_counts().to_pylist()}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {error.removeprefix(beginning): count for error, count in ordered}
