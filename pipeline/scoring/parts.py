"""Scored shards on disk: each is committed whole, and the final tables are their concatenation in the source's order.

RUN/parts/part-<shard id>.images.parquet, .scores.parquet and RUN/embeddings/part-<shard id>.arrow first, then the manifest
RUN/parts/part-<shard id>.json. A shard is done when its manifest stands and its fingerprint (input + scoring config) matches; so
any number of launchers may run the same shard any number of times, and its rows are in the tables once.

Before a worker begins a shard it counts the attempt in RUN/parts/part-<shard id>.attempts.json; a worker that lives takes the
count back, whatever became of the shard. So what the file counts is workers that died, and the one that is at work: it holds the
file's lock.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from allfour.border import read_json
from allfour.files import open_regular, read_regular, sha256_of
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.run import locks
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder, fingerprint
from allfour.pipeline.run.parquet import concatenate, table_writer
from allfour.pipeline.run.seal import sealed, unsealed
from allfour.pipeline.run.writing import atomic_file, write_json


@dataclass(frozen=True, slots=True)
class ShardTables:
    """What scoring one shard gives."""

    images: pa.Table
    """IMAGES_SCHEMA."""
    scores: pa.Table
    """SCORES_SCHEMA, or CODED_SCHEMA: in the file they are the same."""
    embeddings: pa.Table | None
    """embeddings_schema(D), where the classifier has embeddings."""
    people: pa.Table | None = None
    """people_schema(D), where it also looks for people."""
    precision: Mapping[str, Any] | None = None
    """How much of it was encoded in half precision, where the classifier does so: see `allfour.pipeline.scoring.precision`."""
    open: bool = False
    """Whether the same command is to try some of its images once more: the part stands, and is not done."""


_PART_NAME = re.compile(r"part-([^.]+)\.(?:json|images\.parquet|scores\.parquet|attempts\.json|people\.arrow|arrow)")
"""What this module names its files; others' are left alone."""


class PartStore:
    """Reads and commits the parts of one run under one scoring config."""

    def __init__(self, run: RunFolder, *, scoring_fingerprint: str, encoding_fingerprint: str | None = None) -> None:
        self._run = run
        self._scoring = scoring_fingerprint
        self._encoding = encoding_fingerprint

    @property
    def scoring_fingerprint(self) -> str:
        """What scores depend on besides the images."""
        return self._scoring

    def _path(self, shard_id: str, kind: str) -> Path:
        return self._run.parts_folder / f"part-{shard_id}.{kind}"

    def embeddings_path(self, shard_id: str) -> Path:
        return self._run.embeddings_folder / f"part-{shard_id}.arrow"

    def people_path(self, shard_id: str) -> Path:
        return self._run.embeddings_folder / f"part-{shard_id}.people.arrow"

    def images_path(self, shard_id: str) -> Path:
        return self._path(shard_id, "images.parquet")

    def manifest_path(self, shard_id: str) -> Path:
        return self._path(shard_id, "json")

    def wanted(self, input_fingerprint: str) -> str:
        """Fingerprint of a part made from this input under this scoring config."""
        return fingerprint(input_fingerprint, self._scoring)

    def manifest(self, shard_id: str) -> dict[str, Any] | None:
        """The manifest of a part, or None where there is none that can be read."""
        return _read(self._path(shard_id, "json"))

    def precision(self, shard_id: str) -> dict[str, Any] | None:
        """How much of a part was encoded in half precision; None where that was not asked for."""
        found = (self.manifest(shard_id) or {}).get(PRECISION)
        return found if isinstance(found, dict) else None

    def done(self, shard: Shard) -> bool:
        manifest = self.manifest(shard.id)
        return (
            manifest is not None
            and manifest.get("fingerprint") == self.wanted(shard.fingerprint)
            and unchanged(manifest, self.images_path(shard.id))
            and unchanged(manifest, self._path(shard.id, "scores.parquet"))
        )

    def encoded(self, shard: Shard) -> tuple[pa.Table, pa.Table, pa.Table | None] | None:
        """Images, embeddings and people of a part that the same encoder made from the same input, under whatever wording."""
        manifest = self.manifest(shard.id)
        if manifest is None or self._encoding is None:
            return None
        if manifest.get("input") != shard.fingerprint or manifest.get("encoding") != self._encoding:
            return None
        kept = [self.images_path(shard.id), self.embeddings_path(shard.id)]
        kept += [self.people_path(shard.id)] if manifest.get("people") else []
        if not all(unchanged(manifest, path) for path in kept):
            return None
        try:
            images = pq.read_table(self.images_path(shard.id), schema=IMAGES_SCHEMA)
            people = read_embeddings(self.people_path(shard.id)) if manifest.get("people") else None
            return images, read_embeddings(self.embeddings_path(shard.id)), people
        except (OSError, pa.ArrowException):
            return None

    def commit(self, shard: Shard, tables: ShardTables, *, rescored: bool = False, set_aside: bool = False) -> None:
        """Tables first, manifest last: a kill in between leaves a shard that is simply not done.

        Parameters
        ----------
        rescored
            Images and embeddings are those that stand: they are left alone, and can be used again after a kill here.
        set_aside
            The part holds errors in place of scores.
        """
        known: dict[str, Any] = {"input": shard.fingerprint, "ordinal": shard.ordinal}
        if tables.precision is not None:
            known[PRECISION] = dict(tables.precision)
        if tables.embeddings is not None:
            known["encoding"] = self._encoding
        if tables.people is not None:
            known["people"] = True
        manifest = self._path(shard.id, "json")
        kept = [self.images_path(shard.id), self.embeddings_path(shard.id), self.people_path(shard.id)]
        if rescored:
            write_json(manifest, sealed({"fingerprint": None, **known, TABLES: _hashes(kept)}))
        else:
            manifest.unlink(missing_ok=True)
            self._write(self.images_path(shard.id), tables.images)
            for path, table in (
                (self.embeddings_path(shard.id), tables.embeddings),
                (self.people_path(shard.id), tables.people),
            ):
                if table is not None:
                    write_embeddings(path, table)
                else:
                    path.unlink(missing_ok=True)
        self._write(self._path(shard.id, "scores.parquet"), tables.scores)
        facts = {"images": tables.images.num_rows, "scores": tables.scores.num_rows} | (
            {"set_aside": True} if set_aside else {}
        )
        made_of = None if tables.open else self.wanted(shard.fingerprint)
        known[TABLES] = _hashes([*kept, self._path(shard.id, "scores.parquet")])
        write_json(manifest, sealed({"fingerprint": made_of, **known, **facts}))

    # --- attempts ----------------------------------------------------------------------------------------------------

    def deaths(self, shard: Shard) -> int:
        """How many workers this shard has taken with it, under this input and config."""
        path = self._path(shard.id, "attempts.json")
        found = _read(path) or {}
        matches = found.get("fingerprint") == self.wanted(shard.fingerprint)
        count = found.get("attempts")
        if not matches or not isinstance(count, int):
            return 0
        return count - 1 if count and locks.held(path) else count

    @contextlib.contextmanager
    def attempt(self, shard: Shard) -> Iterator[None]:
        """Count an attempt; it is taken back when the body ends, in success or error, and stays if the process dies in it."""
        before = self.deaths(shard)
        path = self._path(shard.id, "attempts.json")
        write_json(path, sealed({"fingerprint": self.wanted(shard.fingerprint), "attempts": before + 1}))
        try:
            with locks.at_work(path):
                yield
        except BaseException:
            if before:
                write_json(path, sealed({"fingerprint": self.wanted(shard.fingerprint), "attempts": before}))
            else:
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)

    def reasons(self, shard_ids: Iterable[str]) -> Counter[str]:
        """Why images of these parts have no scores, and how many."""
        found: Counter[str] = Counter()
        for shard_id in shard_ids:
            errors = pq.read_table(self.images_path(shard_id), columns=["error"])["error"]
            found.update(reason for reason in errors.to_pylist() if reason is not None)
        return found

    def pictures_read(self, shards: Iterable[Shard]) -> int:
        """How many different pictures, by their bytes, the parts that are done have a reading of."""
        found: set[str] = set()
        for shard in shards:
            if self.done(shard):
                rows = pq.read_table(self.images_path(shard.id), columns=["sha256", "error"])
                found.update(rows.filter(pc.is_null(rows["error"]))["sha256"].drop_null().to_pylist())
        return len(found)

    def errors(self, shard_ids: Iterable[str]) -> dict[tuple[str, int], str]:
        """Prompt id and index of the images of these parts that have no scores -> why."""
        found = {}
        for shard_id in shard_ids:
            rows = pq.read_table(self.images_path(shard_id), columns=["prompt_id", "index", "error"])
            for row in rows.filter(pc.is_valid(rows["error"])).to_pylist():
                found[row["prompt_id"], row["index"]] = row["error"]
        return found

    # --- the end -----------------------------------------------------------------------------------------------------

    def merge(self, shard_ids: Iterable[str], *, images: bool) -> tuple[int, int]:
        """Write scores.parquet (and images.parquet) from the parts, a part at a time, and sweep parts of no listed shard.

        Returns
        -------
        Rows of images and of scores.
        """
        ids = list(shard_ids)
        for (
            shard_id
        ) in ids:  # all of them are done: a count that stayed is of a process that was killed right after its commit
            self._path(shard_id, "attempts.json").unlink(missing_ok=True)
        scored = self._concatenate(ids, "scores.parquet", self._run.scores_path, SCORES_SCHEMA)
        listed = self._concatenate(ids, "images.parquet", self._run.images_path, IMAGES_SCHEMA) if images else 0
        keep = set(ids)
        for folder in (self._run.parts_folder, self._run.embeddings_folder):
            for path in folder.glob("part-*"):
                known = _PART_NAME.fullmatch(path.name)
                if known and known[1] not in keep:
                    path.unlink(missing_ok=True)
        return listed, scored

    @staticmethod
    def _write(path: Path, table: pa.Table) -> None:
        with atomic_file(path) as file, table_writer(file, table.schema) as writer:
            writer.write_table(table)

    def _concatenate(self, ids: list[str], kind: str, target: Path, schema: pa.Schema) -> int:
        with atomic_file(target) as file:
            return concatenate([self._path(shard_id, kind) for shard_id in ids], file, schema)


PRECISION = "precision"
"""Key of a manifest: how much of the part was encoded in half precision."""
TABLES = "tables"
"""Key of a manifest: file name -> sha256 of each table of the part. Parts of earlier versions have none, and are taken for whole."""


def unchanged(manifest: Mapping[str, Any], path: Path) -> bool:
    """Whether a table of a part stands, to the last bit, as its manifest says."""
    known = manifest.get(TABLES)
    if not isinstance(known, Mapping) or path.name not in known:
        return path.is_file()
    try:
        return bool(sha256_of(path) == known[path.name])
    except OSError:
        return False


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in paths if path.exists()}


def write_embeddings(path: Path, table: pa.Table) -> None:
    """Write an Arrow file atomically: parquet would take ten times as long to read and write, and saves nothing on such numbers."""
    with atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_embeddings(path: Path) -> pa.Table:
    """An embeddings table, mapped into memory and not read before it is used. Raises OSError, pa.ArrowException."""
    with open_regular(path):  # a pipe would be waited on for ever
        pass
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = unsealed(read_json(read_regular(path)))
        if isinstance(found, dict):
            return found
    return None
