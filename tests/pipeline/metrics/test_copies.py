"""Images that are no draws of their own: equal bytes, pictures that prompts share, near-copies."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from allfour.pipeline.metrics import tallies
from allfour.pipeline.metrics.tallies import copy_counts
from allfour.pipeline.report.view import PageBuilder
from allfour.pipeline.run.columns import IMAGES_SCHEMA
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.run.writing import write_table
from tests.pipeline.metrics.test_compute import build, metrics_of


def test_duplicates_are_named_and_none_is_dropped(tmp_path: Path) -> None:
    run = build(tmp_path, {"nurse": ["woman"] * 4})
    table = pa.Table.from_pylist(
        [
            {
                "prompt_id": "nurse",
                "prompt": "x",
                "index": i,
                "status": "generated",
                "sha256": "same" if i < 3 else "other",
            }
            for i in range(4)
        ],
        schema=IMAGES_SCHEMA,
    )
    write_table(run.images_path, table)
    found = metrics_of(run)
    assert found["summary"]["duplicate_images"] == 2
    assert found["duplicates"] == [[{"id": "nurse", "index": i} for i in range(3)]]
    assert found["accounting"]["scored"] == 4
    assert found["summary"]["shared_images"] == 0


def test_where_no_bytes_are_those_of_another_image_nothing_is_asked_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked, scalar = build(tmp_path, {"nurse": ["woman"] * 4}), list[str](), tallies.scalar

    def noted(connection: duckdb.DuckDBPyConnection, query: str) -> int:
        asked.append(query)
        return scalar(connection, query)

    monkeypatch.setattr(tallies, "scalar", noted)
    found = metrics_of(run)
    assert (found["summary"]["duplicate_images"], found["summary"]["shared_images"]) == (0, 0)
    assert found["duplicates"] == []
    assert asked and not [query for query in asked if "repeated" in query]


def test_one_picture_for_several_prompts_is_said_where_the_finding_stands(tmp_path: Path) -> None:
    """A placeholder in the place of a refusal: it is scored, and shows none of its prompts."""
    prompts = ("nurse", "pilot", "cook")
    run = build(tmp_path, {prompt: ["woman"] * 4 for prompt in prompts})
    rows = [
        {"prompt_id": p, "prompt": p, "index": i, "status": "generated",
         "sha256": "blocked" if (p, i) in {("nurse", 0), ("pilot", 3)} else f"{p}{i}"}
        for p in prompts for i in range(4)
    ]  # fmt: skip
    write_table(run.images_path, pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA))
    found = metrics_of(run)
    assert found["summary"]["shared_images"] == 2
    assert "shared_images" in found["summary"]["headline"]["because"]
    (note,) = [n["text"] for n in found["notes"] if n["code"] == "duplicate_images"]
    assert "2 are byte-identical to an image of another prompt" in note


def test_nearly_one_picture_for_several_prompts_is_said_where_the_finding_stands(tmp_path: Path) -> None:
    run = build(tmp_path, {f"p{i}": ["woman"] * 4 for i in range(3)})
    found = metrics_of(run, nearly_shared=3)
    assert found["summary"]["nearly_shared_images"] == 3
    assert "nearly_shared_images" in found["summary"]["headline"]["because"]
    (note,) = [n["text"] for n in found["notes"] if n["code"] == "nearly_shared_images"]
    assert note.startswith("3 images are nearly the same picture as images of two other prompts or more")
    assert metrics_of(run)["summary"]["nearly_shared_images"] == 0


def test_copies_count_once_in_the_limits_and_are_named(tmp_path: Path) -> None:
    run = build(tmp_path, {f"p{i}": ["woman"] * 4 for i in range(20)})
    copied = [(f"p{i}", index) for i in range(10) for index in range(1, 4)]
    copies = copy_counts(run, attribute="gender", images=copied, set_size=4)
    found = metrics_of(run, copies=copies)
    top = found["summary"]
    assert (top["near_copies"], top["sets_with_copies"]) == (30, 10)
    assert (top["unanimous"], top["unanimity"]["value"]) == (20, 1.0)
    assert (top["unanimity_identified"]["least"], top["unanimity_identified"]["most"]) == (0.5, 1.0)
    assert top["headline"]["low"] < 0.35 and "near_copies" in top["headline"]["because"]
    assert "near_copies" in [note["code"] for note in found["notes"]]
    assert [p.get("near_copies_in_set", 0) for p in found["prompts"]] == [3] * 10 + [0] * 10
    builder = PageBuilder(Metrics.model_validate(found))
    assert [str(builder.tile("p", p, []).picture).count("near-copies") for p in builder.metrics.prompts] == [1] * 10 + [
        0
    ] * 10


def test_a_copy_that_reads_otherwise_may_show_what_the_others_show(tmp_path: Path) -> None:
    """An image in the place of a near-copy may show any label, also where the copy itself was read as another one."""
    run = build(tmp_path, {f"p{i}": ["woman"] * 3 + ["man"] for i in range(5)})
    copies = copy_counts(run, attribute="gender", images=[(f"p{i}", 3) for i in range(2)], set_size=4)
    top = metrics_of(run, copies=copies)["summary"]
    assert (top["unanimity_identified"]["least"], top["unanimity_identified"]["most"]) == (0.0, 0.4)
    assert top["unanimity_identified"] == top["unanimity_all_images_identified"]
