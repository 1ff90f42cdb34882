"""Images of a run that no prompt could be found for: how many, and what they lack."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

LACKS_PROMPT = "no prompt: "
"""How the error of such an image begins; what it lacks follows."""


def lacking_prompts(table: Path) -> dict[str, int]:
    """What images lack to have a prompt, such as `no caption file ... beside it`, and how many lack it; most first.

    Parameters
    ----------
    table
        Images.parquet of a run. One that cannot be read says nothing.
    """
    rows = (pc.field("prompt") == "") & pc.starts_with(pc.field("error"), LACKS_PROMPT)
    try:
        errors = ds.dataset(table, format="parquet").to_table(["error"], filter=rows)["error"]
    except (pa.ArrowException, OSError):
        return {}
    counts = {entry["values"]: entry["counts"] for entry in errors.value_counts().to_pylist()}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {error.removeprefix(LACKS_PROMPT): count for error, count in ordered}
