"""What a command says at its end of images that are missing: how many, and why most of them are."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.archives.unprompted import LACKS_PROMPT, NOT_ONE, Reasons, why_missing
from allfour.pipeline.commands.summary import print_missing
from allfour.pipeline.run.columns import IMAGES_SCHEMA
from allfour.pipeline.run.database import database
from allfour.pipeline.run.writing import write_table


def _table(folder: Path, errors: list[tuple[str, str | None]]) -> Path:
    rows = [{"prompt_id": "p", "prompt": "x", "index": n, "status": s, "error": e} for n, (s, e) in enumerate(errors)]
    write_table(folder / "images.parquet", pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA))
    return folder / "images.parquet"


def test_the_commonest_reasons_are_told_and_the_rest_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [("failed", f"HTTP 500: boom [req_{n}]") for n in range(5)]
    errors += [("refused", "=no\x1b[31m\u202e")] * 3 + [("failed", "x" * 500)] * 2
    errors += [("failed", "a"), ("failed", "b"), ("generated", None), ("unreadable", f"{LACKS_PROMPT}no caption")]
    _table(tmp_path, errors)
    summary: Any = SimpleNamespace(missing=12, run=tmp_path)
    print_missing(summary)
    said = capsys.readouterr().out.splitlines()
    assert said[-4:-1] == [
        "  5 failed: HTTP 500: boom",
        "  3 refused: =no\\x1b[31m\\u202e",
        f"  2 failed: {'x' * 200}…",
    ]
    assert said[-1] == "  and 2 other reasons"


def test_each_kind_of_reason_is_counted_apart_and_as_many_as_asked_for_are_told(tmp_path: Path) -> None:
    errors: list[tuple[str, str | None]] = [("unreadable", f"{NOT_ONE}grid {n % 3}") for n in range(4)]
    errors += [("unreadable", f"{LACKS_PROMPT}no caption")] * 2 + [("unreadable", "cut [short] short"), ("failed", "")]
    table = _table(tmp_path, errors)
    nameless = pq.read_table(table)
    nameless = nameless.set_column(nameless.schema.get_field_index("prompt"), "prompt", pa.array([""] * len(errors)))
    table = table.rename(tmp_path / "*[1]?.parquet")
    found = why_missing(table, most=2)
    assert list(found.grids.items()) == [("grid 0", 2), ("grid 1", 1)]
    assert not found.unprompted  # those have a prompt
    assert (found.others, found.more) == ({("unreadable", "cut [short] short"): 1}, 0)
    assert why_missing(table, most_others=0).more == 1
    write_table(table, nameless)
    found = why_missing(table)
    assert (found.grids, found.unprompted) == ({}, {"no caption": 2})


def test_reasons_are_counted_in_the_database_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with database(spill=tmp_path / "spill", memory="100MB"):
        pass
    monkeypatch.setattr(
        duckdb, "connect", lambda *_, **__: pytest.fail("another is made, which takes longer than to count")
    )
    for _ in range(2):
        assert why_missing(_table(tmp_path, [("unreadable", "cut short")])).others == {("unreadable", "cut short"): 1}


def test_a_table_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    table = tmp_path / "images.parquet"
    assert why_missing(table) == Reasons()
    table.write_bytes(b"no table")
    assert why_missing(table) == Reasons()
    table.unlink()
    os.mkfifo(table)
    assert why_missing(table) == Reasons()
