"""Files of records -> rows: CSV, JSON lines, parquet, and the scores of a run."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.files import read_regular

Row = tuple[str, Mapping[str, Any]]
"""Where it stands, and column -> value."""

_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def rows_of(file: Path) -> tuple[Iterator[Row], str]:
    """The rows of a file or of a run's readings, and the sha256 of what was read.

    Raises
    ------
    ClassifierError
        The file is of another kind or cannot be read; on the way through the rows, too.
    """
    if file.is_dir():
        file = file / "scores.parquet"
    try:
        data = read_regular(file)
    except OSError as error:
        raise ClassifierError(f"classifier.file: {file}: {error.strerror or error}") from None
    digest = hashlib.sha256(data)
    kind = file.suffix.lower()
    if kind == ".parquet":
        table = _table(file, data)
        if {"attribute", "probabilities", "person", "prompt_id", "index"} <= set(table.column_names):
            beside = file.with_name("images.parquet")
            try:
                images = read_regular(beside)
            except OSError as error:
                raise ClassifierError(
                    f"{file}: these are the scores of a run, so its images.parquet must be in the same folder: {error.strerror or error}"
                ) from None
            digest.update(images)
            return _of_run(table, _table(beside, images)), digest.hexdigest()
        return ((f"row {n}", row) for n, row in enumerate(table.to_pylist(), start=1)), digest.hexdigest()
    if kind not in _KINDS:
        raise ClassifierError(
            f"classifier.file: {file} is neither a run folder nor one of these kinds of file: {', '.join(_KINDS)}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClassifierError(f"{file}: not UTF-8, at byte {error.start}. Save it as UTF-8") from None
    rows = (
        _of_lines(file, text) if kind in (".jsonl", ".ndjson") else _of_csv(file, text, "\t" if kind == ".tsv" else ",")
    )
    return rows, digest.hexdigest()


def _table(file: Path, data: bytes) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ClassifierError(f"{file}: not a parquet file: {str(error)[:200]}") from None


def _of_csv(file: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ClassifierError(f"{file}: line {reader.line_num} does not have as many fields as the first line")
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise ClassifierError(f"{file}: line {reader.line_num}: {error}") from None


def _of_lines(file: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except (ValueError, RecursionError) as error:
            raise ClassifierError(f"{file}: line {number}: not JSON: {str(error)[:100]}") from None
        people = row.get("people") if isinstance(row, dict) else None
        if not isinstance(row, dict) or (people is not None and not isinstance(people, list)):
            raise ClassifierError(f"{file}: line {number}: not an object, or its `people` is not a list")
        if people is None:
            yield f"line {number}", row
            continue
        shared = {key: value for key, value in row.items() if key != "people"}
        for place, person in enumerate(people):
            if not isinstance(person, dict):
                raise ClassifierError(f"{file}: line {number}: person {place} is not an object")
            yield f"line {number}", {**shared, "person": place, **person}


def _of_run(scores: pa.Table, images: pa.Table) -> Iterator[Row]:
    """A row per image and person of a run's tables. Unreadable images have none: they are unreadable again."""
    hashes = {
        (i["prompt_id"], i["index"]): i["sha256"] for i in images.select(["prompt_id", "index", "sha256"]).to_pylist()
    }
    people: dict[tuple[str, int], dict[str, Any]] = {}
    for score in scores.to_pylist():
        image = (score["prompt_id"], score["index"])
        digest = hashes.get(image)
        if digest is None or score["decision"] == "unreadable":
            continue
        person = people.setdefault((digest, score["person"]), {"sha256": digest, "person": score["person"]})
        given = score["probabilities"]
        person[score["attribute"]] = dict(given) if given else ("no_person" if score["decision"] == "no_person" else "")
        if score["box"]:
            person["box"] = score["box"]
    for (digest, number), row in people.items():
        yield f"person {number} of {digest[:12]}", row
