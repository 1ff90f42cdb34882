"""Tables whose names are written as codes are, in the file, tables of strings; and rows that repeat are found by their short keys."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.parquet import concatenate, read_coded, repeating_columns, table_writer
from allfour.pipeline.run.repeats import repeated_rows
from allfour.pipeline.scoring.score_tables import CODED_SCHEMA


def scores(prompt: str, rows: int) -> pa.Table:
    made = [
        {"prompt_id": prompt, "index": n, "person": 0, "attribute": "gender", "decision": "woman", "probability": 0.5 + n / 100,
         "margin": None, "probabilities": [("woman", 0.5 + n / 100), ("man", 0.5 - n / 100)] if n else None, "box": [n, 1, 2, 3]}
        for n in range(rows)
    ]  # fmt: skip
    return pa.Table.from_pylist(made, schema=SCORES_SCHEMA)


def images(rows: list[tuple[str, int, str | None]]) -> pa.Table:
    made = [
        {"prompt_id": p, "prompt": p, "index": n, "status": "generated", "sha256": d, "extra": [("a", str(n))]}
        for p, n, d in rows
    ]
    return pa.Table.from_pylist(made, schema=IMAGES_SCHEMA)


@pytest.mark.parametrize("coded", [False, True])
def test_parts_written_either_way_are_merged_into_one_table_of_strings(tmp_path: Path, *, coded: bool) -> None:
    tables = [scores("nurse", 5), scores("maestro", 3)]
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, table in zip(paths, tables, strict=True):
        if coded:
            with path.open("wb") as file, table_writer(file, CODED_SCHEMA) as writer:
                writer.write_table(table.cast(CODED_SCHEMA))
        else:  # as earlier versions wrote them
            pq.write_table(table, path)
    assert pa.types.is_dictionary(read_coded(paths[0], SCORES_SCHEMA)["decision"].type)
    with (tmp_path / "all.parquet").open("wb") as file:
        assert concatenate(paths, file, SCORES_SCHEMA) == 8
    read = pq.read_table(tmp_path / "all.parquet")
    assert read.schema.equals(SCORES_SCHEMA) and read.equals(pa.concat_tables(tables))
    assert pq.ParquetFile(tmp_path / "all.parquet").num_row_groups == 2


def test_a_part_without_a_column_that_came_later_has_nothing_in_it(tmp_path: Path) -> None:
    table = images([("p", 0, "a")])
    pq.write_table(table.drop_columns(["truth"]), tmp_path / "old.parquet")
    pq.write_table(table, tmp_path / "new.parquet")
    with (tmp_path / "all.parquet").open("wb") as file:
        concatenate([tmp_path / "new.parquet", tmp_path / "old.parquet"], file, IMAGES_SCHEMA)
    assert pq.read_table(tmp_path / "all.parquet").equals(pa.concat_tables([table, table]))


def test_no_parts_are_an_empty_table(tmp_path: Path) -> None:
    with (tmp_path / "all.parquet").open("wb") as file:
        assert concatenate([], file, IMAGES_SCHEMA) == 0
    assert pq.read_table(tmp_path / "all.parquet").equals(IMAGES_SCHEMA.empty_table())


def test_measured_numbers_and_single_names_get_no_dictionary() -> None:
    assert repeating_columns(SCORES_SCHEMA) == ["prompt_id", "attribute", "decision", "probabilities.key_value.key"]
    assert not {"path", "sha256", "size"} & set(repeating_columns(IMAGES_SCHEMA))


@pytest.mark.parametrize("group", [2, 100])
def test_every_image_whose_bytes_come_twice_is_told(tmp_path: Path, group: int) -> None:
    hexes = [f"{n:064x}" for n in range(6)]
    last = hexes[3][:-1] + "f"  # differs in its last character alone
    rows = [("a", 0, hexes[3]), ("a", 1, None), ("b", 0, hexes[1]), ("b", 1, "short"), ("b", 2, hexes[3]), ("c", 0, last), ("c", 1, "short"),
            ("c", 2, hexes[5])]  # fmt: skip
    pq.write_table(images(rows), tmp_path / "images.parquet", row_group_size=group)
    found = repeated_rows([tmp_path / "images.parquet"])
    assert [(r["prompt_id"], r["index"], r["file_row_number"]) for r in found.to_pylist()] == [
        ("a", 0, 0), ("b", 1, 3), ("b", 2, 4), ("c", 1, 6)
    ]  # fmt: skip
    pq.write_table(images(rows[:4]), tmp_path / "images.parquet")
    assert repeated_rows([tmp_path / "images.parquet"]).num_rows == 0


def test_runs_that_are_counted_together_have_their_copies_told_across_them(tmp_path: Path) -> None:
    for name, prompt in (("one", "a"), ("two", "b")):
        pq.write_table(images([(prompt, 0, f"{0:064x}"), (prompt, 1, f"{ord(prompt):064x}")]), tmp_path / name)
    found = repeated_rows([tmp_path / "one", tmp_path / "two"])
    assert [(r["prompt_id"], r["file_row_number"]) for r in found.to_pylist()] == [("a", 0), ("b", 2)]
