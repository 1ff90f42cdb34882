"""The images of a run folder, verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.archives import ArchiveError, ArchiveOptions, RunImages, open_source
from allfour.pipeline.archives.base import HasDoubts
from allfour.pipeline.run.columns import IMAGES_SCHEMA
from allfour.pipeline.run.writing import write_json
from tests.hostile_images import good_file
from tests.pipeline.archives.helpers import check_contract

PNG = good_file(0, "png")


def run_folder(root: Path, rows: list[dict[str, Any]]) -> Path:
    defaults = {"prompt": "a nurse", "group": "she", "seed": 1, "status": "generated", "size": len(PNG)}
    full = [{**defaults, "sha256": hashlib.sha256(PNG).hexdigest(), **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, schema=IMAGES_SCHEMA), root / "images.parquet")
    (root / "images" / "nurse").mkdir(parents=True, exist_ok=True)
    for row in full:
        if str(row.get("path", "")).startswith("images/"):
            (root / row["path"]).write_bytes(PNG)
    return root


def row(index: int, **more: Any) -> dict[str, Any]:
    return {"prompt_id": "nurse", "index": index, "path": f"images/nurse/{index}.png", **more}


def test_generated_rows_in_their_order(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, status="refused", path=None),
        row(2, extra=[("model", "x"), ("note", None)]),
        row(3, status="failed", path=None),
    ]
    source = RunImages(run_folder(tmp_path, rows), shard_size=1)
    items = check_contract(source)
    assert [(item.image.index, item.data) for item in items] == [(0, PNG), (2, PNG)]
    assert items[1].image.extra == {"model": "x"}
    assert (items[0].image.group, items[0].image.seed, items[0].image.path) == ("she", 1, "images/nurse/0.png")


def test_bytes_are_verified(tmp_path: Path) -> None:
    source = RunImages(run_folder(tmp_path, [row(0), row(1), row(2)]))
    (tmp_path / "images/nurse/0.png").write_bytes(PNG + b"\0")
    (tmp_path / "images/nurse/1.png").unlink()
    assert [item.error for item in check_contract(source)] == [
        "bytes changed since generation",
        "the file is missing",
        None,
    ]


def test_paths_stay_in_the_run(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(PNG)
    run = run_folder(tmp_path, [row(0)]).rename(tmp_path.parent / f"{tmp_path.name}-run")
    outside = run / "outside.png"
    inner = run / "run"
    inner.mkdir()
    rows = [row(0), row(1, path="../outside.png"), row(2, path=str(outside)), row(3, path=None), row(4, path="a\0.png")]
    run_folder(inner, rows)
    (inner / "images/nurse/0.png").unlink()
    (inner / "images/nurse/0.png").symlink_to(outside)
    assert [item.error for item in check_contract(RunImages(inner))] == [
        "the path leads out of the run folder",
        "the path leads out of the run folder",
        "the path leads out of the run folder",
        "the table names no file",
        "no valid path",
    ]


def test_opened_as_an_archive(tmp_path: Path) -> None:
    run_folder(tmp_path, [row(0)])
    assert open_source(tmp_path, options=ArchiveOptions(layout="run")).identity()["layout"] == "run"
    (tmp_path / "run.json").write_text('{"format": 1}')
    assert open_source(tmp_path).summary().layout == "run"


def test_what_is_said_beforehand(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(2, prompt_id="nurse-2", prompt="A nurse"), row(3, prompt_id="pilot", prompt="a pilot")]
    write_json(run_folder(tmp_path, rows) / "run.json", {"format": 1})
    (tmp_path / "images/nurse/3.png").unlink()
    source = open_source(tmp_path)
    summary = source.summary()
    assert (summary.probed["missing"], summary.probed["copies"], summary.without_copies) == (1, 2, {1: 3})
    shown = "\n".join(summary.notes)
    assert "1 of 4 images of images.parquet are not there any more" in shown
    assert "2 prompts of the run are spelled as another one is" in shown
    assert "1 image is a byte for byte copy" in shown
    assert isinstance(source, HasDoubts) and source.doubts() == [summary.notes[0]]


def test_a_run_without_an_image(tmp_path: Path) -> None:
    run_folder(tmp_path, [row(0, status="refused")])
    (tmp_path / "run.json").write_text('{"format": 1}')
    with pytest.raises(ArchiveError, match="no image of this run was made"):
        open_source(tmp_path)
    audited = open_source(
        tmp_path, options=ArchiveOptions(layout="run")
    )  # as an audit that was refused altogether reads it
    assert check_contract(audited) == []


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no images.parquet in"):
        list(RunImages(tmp_path).shards())
    (tmp_path / "images.parquet").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match=r"images\.parquet: .* no whole table"):
        list(RunImages(tmp_path).shards())
    pq.write_table(pa.table({"status": ["generated"]}), tmp_path / "images.parquet")
    with pytest.raises(ArchiveError, match="cannot be read as a table of images"):
        list(RunImages(tmp_path).shards())


def test_half_a_run_is_no_tree_of_images(tmp_path: Path) -> None:
    """Read as one, its images would be of prompts that nobody asked for."""
    run_folder(tmp_path, [row(0)])
    with pytest.raises(ArchiveError, match=r"a run folder without its run\.json"):
        open_source(tmp_path)
    (tmp_path / "images.parquet").unlink()
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "config": {}, "stages": {}}))
    with pytest.raises(ArchiveError, match=r"a run folder without its images\.parquet"):
        open_source(tmp_path)
    assert open_source(tmp_path / "images").summary().layout == "folder"


def test_a_folder_of_runs_is_no_archive(tmp_path: Path) -> None:
    for place in ("runs/a", "study/cells/a"):
        (tmp_path / place).mkdir(parents=True)
        run = run_folder(tmp_path / place, [row(0)])
        write_json(run / "run.json", {"format": 1, "config": {}, "stages": {}})
        with pytest.raises(ArchiveError, match=f"holds runs of allfour, such as {run}"):
            open_source(str(tmp_path / place.split("/")[0]))
