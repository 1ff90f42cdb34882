"""A caller that commits every outcome before it takes the next, to be killed at any moment.

The journal is one line per outcome, flushed to disk. A real pipeline does the same with tables and files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from allfour.models.generators.base import Generated, GenerationRequest, Generator, Refused


def read(folder: Path) -> dict[tuple[str, int], dict[str, str]]:
    """Journal entries by request; a line cut off by a kill does not count."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    path = folder / "journal"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            entry = json.loads(line)
            assert (entry["prompt_id"], entry["index"]) not in found, "an outcome was handed over twice"
            found[entry["prompt_id"], entry["index"]] = entry
    return found


def commit_all(folder: Path, generator: Generator, asked: Sequence[GenerationRequest]) -> None:
    """Ask for what the journal lacks, and commit each outcome before the next is taken."""
    have = read(folder)
    todo = [r for r in asked if r.key not in have]
    with (folder / "journal").open("rb+" if (folder / "journal").exists() else "wb+") as journal:
        text = journal.read()
        journal.seek(text.rfind(b"\n") + 1)
        journal.truncate()
        for outcome in generator.generate(todo):
            entry = {
                "prompt_id": outcome.request.prompt_id,
                "index": outcome.request.index,
                "kind": type(outcome).__name__,
                "code": str(outcome.code) if isinstance(outcome, Refused) else "",
                "sha256": hashlib.sha256(outcome.data).hexdigest() if isinstance(outcome, Generated) else "",
            }
            journal.write(json.dumps(entry).encode() + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
