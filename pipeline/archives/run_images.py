"""The images of a run folder: what the generation stage made, or what an earlier audit left."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from allfour.border import read_json, valid_text
from allfour.errors import ArchiveError
from allfour.files import open_regular, read_regular
from allfour.pipeline.archives.base import DEFAULT_SHARD_SIZE, ArchivedImage, ArchiveItem, ArchiveSummary, Shard
from allfour.pipeline.archives.counting import Counted, copies_note
from allfour.pipeline.archives.folder import read_file
from allfour.pipeline.archives.options import DEFAULT_MAX_IMAGE_BYTES
from allfour.pipeline.archives.text import Prompt, SpellingBook, escape_name, identity_of
from allfour.pipeline.run.columns import IMAGES_SCHEMA, ImageStatus
from allfour.pipeline.run.folder import RunFolder

TABLE = "images.parquet"
_COLUMNS = ("prompt_id", "prompt", "group", "index", "seed", "path", "sha256", "extra")


def is_run_folder(path: Path) -> bool:
    """Whether a folder is a run, which is told by its run.json and images.parquet.

    Raises
    ------
    ArchiveError
        One of the two is missing, or something else: as a tree of images, its files would be read as of other prompts.
    """
    header, table = path / "run.json", path / TABLE
    if header.is_file() and table.is_file():
        return True
    if header.is_file() and _is_header(header):
        raise ArchiveError(
            f"{path} is a run folder without its {TABLE}: repeat the command that made it, which makes the table again. To read its "
            f"files as those of any folder: {path / 'images'}"
        )
    if table.is_file() and _is_table(table):
        raise ArchiveError(
            f"{path} is a run folder without its run.json: repeat the command that made it, which writes it again. To read its files "
            f"as those of any folder: {path / 'images'}"
        )
    return False


_LOOKED_INTO = 200
"""Folders of an archive in which a run is looked for: there may be a million, and one of the first tells."""


def run_inside(path: Path) -> Path | None:
    """A run folder among the folders of `path`, which then holds runs or is a study, and no archive; None where there is none."""
    for place in (path, path / "cells"):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            folders = (Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False))
            for folder in itertools.islice(folders, _LOOKED_INTO):
                if (folder / TABLE).is_file() and _is_header(folder / "run.json"):
                    return folder
    return None


def _is_header(path: Path) -> bool:
    try:
        found = read_json(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"format", "config", "stages"} <= found.keys()


def _is_table(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return set(_COLUMNS) <= set(pq.read_schema(file).names)
    except (OSError, pa.ArrowException):
        return False


class RunImages:
    """`ArchiveSource` over the rows of RUN/images.parquet with status `generated`, in the table's order.

    Paths go from `root`, where the table lies apart from the images, else from the run folder. The files must lie under it and
    must still have the sha256 of the table; one that does not is an item with an error. Rows that were refused or failed have no
    image, and are no items.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        shard_size: int = DEFAULT_SHARD_SIZE,
        max_image_bytes: int = DEFAULT_MAX_IMAGE_BYTES,
    ) -> None:
        self._run_dir = Path(run_dir).resolve()
        self._root = self._run_dir if root is None else Path(root).resolve()
        self._shard_size = shard_size
        self._max_image_bytes = max_image_bytes
        self._rows: pa.Table | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    @property
    def why_no_run(self) -> str | None:
        """Why no figure is made of these images; None of a run."""
        return RunFolder(self._run_dir).header().why_no_run

    @property
    def elsewhere(self) -> str | None:
        """Where the images lie that the run has read, in another run or archive; None of a run that made its own."""
        return RunFolder(self._run_dir).header().images_elsewhere

    def identity(self) -> Mapping[str, str]:
        return {"layout": "run", "location": escape_name(str(self._run_dir)), "shard_size": str(self._shard_size)}

    def shards(self) -> Iterator[Shard]:
        rows = self._table()
        for ordinal, start in enumerate(range(0, rows.num_rows, self._shard_size)):
            digest = hashlib.sha256()
            part = rows.slice(start, self._shard_size)
            for row in part.to_pylist():
                digest.update(json.dumps([row[name] for name in _COLUMNS]).encode())
            yield Shard(id=f"{ordinal:06d}", ordinal=ordinal, fingerprint=digest.hexdigest(), images=part.num_rows)

    def read(self, shard: Shard) -> Iterator[ArchiveItem]:
        rows = self._table().slice(shard.ordinal * self._shard_size, self._shard_size)
        if not rows.num_rows:
            raise ArchiveError(f"no shard {shard.id} in {self._run_dir}: {TABLE} has changed since it was listed")
        for batch in rows.to_batches(max_chunksize=1_000):
            for row in batch.to_pylist():
                yield self._item(row)

    def summary(self) -> ArchiveSummary:
        rows = self._table()
        found = Counted(SpellingBook())
        first: dict[str, int] = {}
        for at, (id_, digest) in enumerate(zip(rows["prompt_id"].to_pylist(), rows["sha256"].to_pylist(), strict=True)):
            prompt = Prompt(id_, "")
            first.setdefault(id_, at)
            found.count(prompt)
            if digest:
                found.compare(prompt, digest.encode())
        examples = [rows.slice(at, 1).to_pylist()[0] for at in sorted(first.values())[:5]]
        notes = [*self.doubts(), *self._spelled(), *copies_note(found.copies)]
        return ArchiveSummary(
            layout="run",
            images=rows.num_rows,
            prompts=len(found.per_prompt),
            shards=-(-rows.num_rows // self._shard_size),
            examples=tuple(f"{row['prompt']} <- {row['path']}" for row in examples),
            notes=tuple(notes),
            images_per_prompt=found.images_per_prompt,
            without_copies=found.without_copies,
            probed={"missing": self._missing()},
        )

    def doubts(self) -> list[str]:
        """What a user should know before the images are scored: files of the table that are not there."""
        if not (missing := self._missing()):
            return []
        return [
            f"{missing:,} of {self._table().num_rows:,} images of {TABLE} are not there any more, or may not be read: they cannot be scored"
        ]

    def _missing(self) -> int:
        paths = self._table()["path"].to_pylist()
        return sum(not (path and os.path.isfile(self._root / path)) for path in paths)  # noqa: PTH113  (False where it may not be looked at)

    def _spelled(self) -> list[str]:
        """A word on prompts of the run that differ in spelling alone, and are prompts of their own there."""
        rows = self._table()
        alike: dict[str, dict[str, str]] = {}
        for id_, text in zip(rows["prompt_id"].to_pylist(), rows["prompt"].to_pylist(), strict=True):
            alike.setdefault(identity_of(text), {}).setdefault(id_, text)
        several = [texts for texts in alike.values() if len(texts) > 1]
        if not several:
            return []
        shown = " and ".join(repr(escape_name(text)[:80]) for text in list(several[0].values())[:3])
        return [
            f"{sum(map(len, several)):,} prompts of the run are spelled as another one is but for case, white space or Unicode form, such as "
            f"{shown}, and are counted apart, as the run has them"
        ]

    def _table(self) -> pa.Table:
        """The rows with an image.

        Raises
        ------
        ArchiveError
            If the table is missing or is no images table.
        ConfigError
            If it is not the one that the run's header says, or that header is damaged.
        """
        if self._rows is None:
            path = self._run_dir / TABLE
            run = RunFolder(self._run_dir)
            run.check_name()
            run.check_tables(path)
            try:
                rows = pq.read_table(
                    path, columns=list(_COLUMNS), filters=[("status", "=", ImageStatus.GENERATED.value)]
                )
                self._rows = rows.cast(pa.schema([IMAGES_SCHEMA.field(name) for name in _COLUMNS]))
            except FileNotFoundError:
                raise ArchiveError(
                    f"no {TABLE} in {self._run_dir}: it is no run folder, or generation is not done"
                ) from None
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                raise ArchiveError(
                    f"{path} cannot be read as a table of images: it is damaged, or of another program. Repeat the command that made it"
                ) from error
        return self._rows

    def _item(self, row: dict[str, Any]) -> ArchiveItem:
        image = ArchivedImage(
            prompt_id=valid_text(row["prompt_id"]),
            prompt=valid_text(row["prompt"]),
            index=row["index"],
            path=valid_text(row["path"] or ""),
            group=None if row["group"] is None else valid_text(row["group"]),
            seed=row["seed"],
            extra={valid_text(key): valid_text(value) for key, value in row["extra"] or () if value is not None},
        )
        if not row["path"]:
            return ArchiveItem(image, None, "the table names no file")
        try:
            path = os.path.realpath(self._root / row["path"])
        except (OSError, ValueError):  # a zero byte in it
            return ArchiveItem(image, None, "no valid path")
        if not Path(path).is_relative_to(self._root):
            return ArchiveItem(image, None, "the path leads out of the run folder")
        content = read_file(path, limit=self._max_image_bytes)
        if isinstance(content, str):
            return ArchiveItem(image, None, content)
        if row["sha256"] is not None and hashlib.sha256(content).hexdigest() != row["sha256"]:
            return ArchiveItem(image, None, "bytes changed since generation")
        return ArchiveItem(image, content, single=True)
