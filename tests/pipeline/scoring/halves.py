"""What a run in half precision decided, and which of its embeddings were made so."""

from __future__ import annotations

import pyarrow.parquet as pq

from allfour.pipeline.config import RunConfig
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.scoring.parts import read_embeddings
from tests.places import REPOSITORY

SANDBOX = REPOSITORY / "models" / "sandbox" / "clip"
IMAGES, SHARD = 72, 24
"""Pictures of `drawn_archive`, and how many a shard has."""


def in_precision(config: RunConfig, dtype: str) -> RunConfig:
    return config.model_copy(update={"classifier": config.classifier.model_copy(update={"dtype": dtype})})


def decisions(run: RunFolder) -> list[tuple[object, ...]]:
    table = pq.read_table(run.scores_path, columns=["prompt_id", "index", "attribute", "decision"])
    return [tuple(row.values()) for row in table.to_pylist()]


def made_in_half(run: RunFolder) -> list[bool]:
    paths = sorted(run.embeddings_folder.glob("part-*.arrow"))
    return [value for path in paths for value in read_embeddings(path)["half"].to_pylist()]
