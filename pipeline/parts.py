"""Scored shards on disk: each is committed whole, and the final tables are their concatenation in the source's order.

RUN/parts/part-<shard id>.images.parquet, .scores.parquet and RUN/embeddings/part-<shard id>.parquet first, then the manifest
RUN/parts/part-<shard id>.json. A shard is done when its manifest stands and its fingerprint (input + scoring config) matches; so
any number of launchers may run the same shard any number of times, and its rows are in the tables once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import IMAGES_SCHEMA, SCORES_SCHEMA
from pipeline.run_folder import RunFolder, atomic_file, fingerprint, write_json, write_table


@dataclass(frozen=True, slots=True)
class ShardTables:
    """What scoring one shard gives."""

    images: pa.Table
    """IMAGES_SCHEMA."""
    scores: pa.Table
    """SCORES_SCHEMA."""
    embeddings: pa.Table | None
    """embeddings_schema(D), where the classifier has embeddings."""


class PartStore:
    """Reads and commits the parts of one run under one scoring config."""

    def __init__(self, run: RunFolder, *, scoring_fingerprint: str) -> None:
        self._run = run
        self._scoring = scoring_fingerprint

    def _path(self, shard_id: str, kind: str) -> Path:
        return self._run.parts_folder / f"part-{shard_id}.{kind}"

    def _embeddings_path(self, shard_id: str) -> Path:
        return self._run.embeddings_folder / f"part-{shard_id}.parquet"

    def wanted(self, input_fingerprint: str) -> str:
        """Fingerprint of a part made from this input under this scoring config."""
        return fingerprint(input_fingerprint, self._scoring)

    def manifest(self, shard_id: str) -> dict[str, Any] | None:
        """The manifest of a part, or None where there is none that can be read."""
        with contextlib.suppress(OSError, ValueError):
            manifest = json.loads(self._path(shard_id, "json").read_text(encoding="utf-8"))
            if isinstance(manifest, dict):
                return manifest
        return None

    def done(self, shard_id: str, input_fingerprint: str) -> bool:
        manifest = self.manifest(shard_id)
        return (
            manifest is not None
            and manifest.get("fingerprint") == self.wanted(input_fingerprint)
            and self._path(shard_id, "images.parquet").exists()
            and self._path(shard_id, "scores.parquet").exists()
        )

    def commit(self, shard_id: str, input_fingerprint: str, tables: ShardTables) -> None:
        """Tables first, manifest last: a kill in between leaves a shard that is simply not done."""
        self._path(shard_id, "json").unlink(missing_ok=True)
        write_table(self._path(shard_id, "images.parquet"), tables.images)
        write_table(self._path(shard_id, "scores.parquet"), tables.scores)
        if tables.embeddings is not None:
            write_table(self._embeddings_path(shard_id), tables.embeddings)
        else:
            self._embeddings_path(shard_id).unlink(missing_ok=True)
        write_json(
            self._path(shard_id, "json"),
            {
                "fingerprint": self.wanted(input_fingerprint),
                "images": tables.images.num_rows,
                "scores": tables.scores.num_rows,
            },
        )

    def merge(self, shard_ids: Iterable[str], *, images: bool) -> tuple[int, int]:
        """Write scores.parquet (and images.parquet) from the parts, a part at a time, and sweep parts of no listed shard.

        Returns
        -------
        Rows of images and of scores.
        """
        ids = list(shard_ids)
        scored = self._concatenate(ids, "scores.parquet", self._run.scores_path, SCORES_SCHEMA)
        listed = self._concatenate(ids, "images.parquet", self._run.images_path, IMAGES_SCHEMA) if images else 0
        keep = set(ids)
        for folder in (self._run.parts_folder, self._run.embeddings_folder):
            for path in folder.glob("part-*"):
                if path.name.removeprefix("part-").split(".", 1)[0] not in keep:
                    path.unlink(missing_ok=True)
        return listed, scored

    def _concatenate(self, ids: list[str], kind: str, target: Path, schema: pa.Schema) -> int:
        rows = 0
        with atomic_file(target) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for shard_id in ids:
                table = pq.read_table(self._path(shard_id, kind), schema=schema)
                writer.write_table(table)
                rows += table.num_rows
        return rows
