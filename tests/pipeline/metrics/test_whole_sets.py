"""Sets of many images are counted in the memory of their labels, and nothing of them passes through the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allfour.errors import RunFolderError
from allfour.pipeline.archives import INDEX_STRIDE
from allfour.pipeline.metrics import whole_sets
from allfour.pipeline.metrics.whole_sets import unanimous_sets
from allfour.pipeline.run.columns import AMBIGUOUS, IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.tables import SPILL, batches, connect
from tests.pipeline.metrics.test_compute import build

IMAGES = 200_000
LABELS = ["woman", "man", AMBIGUOUS]


def drawn(folder: Path, index: np.ndarray) -> tuple[RunFolder, np.ndarray]:
    """A run of three prompts whose images lie between each other, with these numbers; and the places of their labels, [prompts, images]."""
    run = RunFolder(folder)
    folder.mkdir()
    labels = np.random.default_rng(5).choice(3, p=[0.6, 0.35, 0.05], size=(3, IMAGES))
    rows = 3 * IMAGES
    ids = pa.array(["p", "q", "r"]).take(pa.array(np.tile(np.arange(3), IMAGES)))
    both = {"prompt_id": ids, "index": pa.array(np.repeat(index, 3))}
    images = both | {"prompt": ids, "status": pa.repeat("generated", rows)}
    scores = both | {
        "person": pa.repeat(pa.scalar(0, pa.int32()), rows),
        "attribute": pa.repeat("gender", rows),
        "decision": pa.array(LABELS).take(pa.array(labels.T.ravel())),
    }
    for path, schema, columns in ((run.images_path, IMAGES_SCHEMA, images), (run.scores_path, SCORES_SCHEMA, scores)):
        table = [columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema]
        pq.write_table(pa.table(table, schema=schema), path)
    return run, labels


@pytest.mark.parametrize("anew", [False, True], ids=["numbered from 0 on", "counted anew in every shard"])
def test_many_sets_do_not_pass_through_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, anew: bool) -> None:
    index = np.arange(IMAGES)
    run, labels = drawn(tmp_path / "run", index // 10 * INDEX_STRIDE + index % 10 if anew else index)
    monkeypatch.setattr(whole_sets, "_RANKED", "no SQL")
    blocks = labels.reshape(3, -1, 4)
    expected = (
        ((blocks == blocks[..., :1]).all(axis=-1) & (blocks[..., 0] != LABELS.index(AMBIGUOUS))).sum(axis=1).tolist()
    )
    with connect(run, memory="16MB") as connection:
        found = unanimous_sets(connection, dict.fromkeys("pqr", IMAGES), attribute="gender", labels=LABELS, size=4)
        assert not [*run.path.rglob(SPILL)]
    assert found == dict(zip("pqr", expected, strict=True))


@pytest.mark.parametrize("index", [[5, 6, 7, 9, 3, 2, 1, 0], [0, 1, 2, 3, 10, 13, 12, 11]])
def test_rows_that_do_not_lie_in_the_order_of_their_indexes_are_ranked(tmp_path: Path, index: list[int]) -> None:
    run = build(tmp_path, {"nurse": ["woman"] * 8, "maestro": ["man", *["woman"] * 4, *["man"] * 3]})
    for path in (run.images_path, run.scores_path):
        table = pq.read_table(path)
        numbers = pa.array([index[i] for i in table["index"].to_pylist()], pa.int64())
        pq.write_table(table.set_column(table.schema.get_field_index("index"), "index", numbers), path)
    labels = dict(zip(index, ["man", *["woman"] * 4, *["man"] * 3], strict=True))
    ordered = [labels[i] for i in sorted(index)]
    sets = sum(len(set(ordered[start : start + 4])) == 1 for start in (0, 4))
    with connect(run) as connection:
        found = unanimous_sets(
            connection, {"nurse": 8, "maestro": 8}, attribute="gender", labels=["woman", "man"], size=4
        )
    assert found == {"nurse": 2, "maestro": sets}


def test_images_without_any_label_are_no_set(tmp_path: Path) -> None:
    run = build(tmp_path, {"nurse": [AMBIGUOUS] * 8})
    with connect(run) as connection:
        assert unanimous_sets(connection, {"nurse": 8}, attribute="gender", labels=[AMBIGUOUS], size=4) == {"nurse": 0}


def test_rows_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    run = build(tmp_path, {"nurse": ["woman"] * 8})
    with pytest.raises(RunFolderError, match="cannot be read"), connect(run) as connection:
        list(batches(connection, "SELECT CASE WHEN \"index\" = 7 THEN error('broken') ELSE 1 END FROM images", {}))
