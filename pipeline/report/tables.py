"""Rows of images.parquet and scores.parquet that the report shows, joined to one record per image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON, UNREADABLE, ImageStatus
from allfour.pipeline.run.documents import ReportError
from allfour.pipeline.run.folder import reading_table

Key = tuple[str, int]
"""prompt_id and index: what names an image."""

_NOT_A_LABEL = frozenset({AMBIGUOUS, NO_PERSON, UNREADABLE})


@dataclass(frozen=True, slots=True)
class Score:
    """What the classifier said of one person in one image about one attribute."""

    attribute: str
    person: int
    decision: str
    probability: float | None
    probabilities: Mapping[str, float]
    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom in pixels, where a person was found."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image, or why there is none, with everything that was said of it."""

    prompt_id: str
    prompt: str
    index: int
    status: str
    seed: int | None = None
    path: str | None = None
    sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    revised_prompt: str | None = None
    code: str | None = None
    error: str | None = None
    truth: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()

    @property
    def key(self) -> Key:
        return self.prompt_id, self.index

    def decision(self, attribute: str) -> str | None:
        """The image's decision: the one that all its people share, `mixed` where they differ, None where not scored."""
        if self.status != ImageStatus.GENERATED:
            return None
        decisions = {score.decision for score in self.scores if score.attribute == attribute}
        labels = decisions - _NOT_A_LABEL
        if len(labels) > 1:
            return MIXED
        if len(decisions) == 1:
            return next(iter(decisions))
        if AMBIGUOUS in decisions:
            return AMBIGUOUS
        return next(iter(labels), None)

    def probability(self, attribute: str) -> float | None:
        """The lowest of the top probabilities of its people: how sure the least sure reading is."""
        found = [s.probability for s in self.scores if s.attribute == attribute and s.probability is not None]
        return min(found, default=None)


IMAGES, SCORES = "images.parquet", "scores.parquet"
_IMAGE_COLUMNS = [
    "prompt_id", "prompt", "index", "seed", "status", "path", "sha256", "size", "width", "height", "revised_prompt",
    "code", "error", "truth",
]  # fmt: skip
_SCORE_COLUMNS = ["prompt_id", "index", "person", "attribute", "decision", "probability", "probabilities", "box"]


def _dataset(path: Path) -> Any:
    if not path.is_file():
        raise ReportError(
            f"{path.name} is missing in {path.parent}: run the stage before again (`allfour rescore` or `audit`)"
        )
    try:
        return ds.dataset(path, format="parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"{path} cannot be read as parquet ({error}); delete it and run the command again") from None


def _pairs(value: Any) -> dict[str, Any]:
    return dict(value) if value else {}


MAX_IMAGES = 400
"""Of one prompt, so many first images are read: a page shows fewer, and a prompt may have a million."""


def read_images(run_dir: Path, prompt_ids: Sequence[str], limit: int = MAX_IMAGES) -> dict[str, list[ImageRecord]]:
    """The first images of the given prompts, at most `limit` of each, by prompt id, ordered by index, with their scores."""
    wanted = pa.array(prompt_ids, pa.string())
    images, scores = _dataset(run_dir / IMAGES), _dataset(run_dir / SCORES)
    chosen = pc.field("prompt_id").isin(wanted)
    with reading_table(run_dir / IMAGES):
        last = _last_indexes(images, wanted, chosen, min(limit, MAX_IMAGES))
    chosen &= pc.field("index") <= int(last.max(initial=-1))  # row groups beyond it are not read
    by_image: dict[Key, list[Score]] = defaultdict(list)
    for row in _rows(run_dir / SCORES, scores.to_batches(columns=_SCORE_COLUMNS, filter=chosen), wanted, last):
        by_image[row["prompt_id"], row["index"]].append(
            Score(
                attribute=row["attribute"],
                person=row["person"],
                decision=row["decision"],
                probability=row["probability"],
                probabilities=_pairs(row["probabilities"]),
                box=tuple(row["box"]) if row["box"] else None,
            )
        )
    found: dict[str, list[ImageRecord]] = {prompt_id: [] for prompt_id in prompt_ids}
    for row in _rows(run_dir / IMAGES, images.to_batches(columns=_IMAGE_COLUMNS, filter=chosen), wanted, last):
        found[row["prompt_id"]].append(_record(row, by_image))
    for records in found.values():
        records.sort(key=lambda record: record.index)
    return found


def _rows(
    path: Path, batches: Iterable[pa.RecordBatch], wanted: pa.Array, last: NDArray[np.int64]
) -> Iterator[dict[str, Any]]:
    """Rows of the images that are read. RunFolderError where the table turns out to be damaged."""
    with reading_table(path):
        for batch in batches:
            yield from _first(batch, wanted, last).to_pylist()


def _last_indexes(images: Any, wanted: pa.Array, chosen: Any, limit: int) -> NDArray[np.int64]:
    """[prompts] index of the last image of each prompt that is read."""
    table = images.to_table(["prompt_id", "index"], filter=chosen)
    prompt = pc.index_in(table["prompt_id"], wanted).to_numpy()
    index = table["index"].to_numpy()
    order = np.lexsort((index, prompt))
    starts = np.searchsorted(prompt[order], np.arange(len(wanted)))
    ends = np.searchsorted(prompt[order], np.arange(len(wanted)), side="right")
    last = np.full(len(wanted), -1, dtype=np.int64)
    some = ends > starts
    last[some] = index[order][np.minimum(starts + limit, ends)[some] - 1]
    return last


def _first(batch: pa.RecordBatch, wanted: pa.Array, last: NDArray[np.int64]) -> pa.RecordBatch:
    prompt = pc.index_in(batch["prompt_id"], wanted).to_numpy(zero_copy_only=False)
    return batch.filter(pa.array(batch["index"].to_numpy() <= last[prompt]))


def _record(row: dict[str, Any], scores: Mapping[Key, list[Score]]) -> ImageRecord:
    mine = sorted(scores.get((row["prompt_id"], row["index"]), ()), key=lambda score: score.person)
    return ImageRecord(**{**row, "truth": _pairs(row["truth"])}, scores=tuple(mine))


def read_missing(run_dir: Path, attribute: str, limit: int) -> tuple[list[ImageRecord], int]:
    """Images that are not there or cannot be read: the first `limit` of them, and how many there are.

    An image that was whole when it was made and is unreadable to the scoring stage is among them.
    """
    images, scores = _dataset(run_dir / IMAGES), _dataset(run_dir / SCORES)
    absent = pc.field("status") != ImageStatus.GENERATED.value
    with reading_table(run_dir / IMAGES):
        total = images.count_rows(filter=absent)
        known = images.count_rows(filter=pc.field("status") == ImageStatus.UNREADABLE.value)
        rows = images.head(limit, columns=_IMAGE_COLUMNS, filter=absent).to_pylist()
    unreadable = (pc.field("attribute") == attribute) & (pc.field("decision") == UNREADABLE)
    with reading_table(run_dir / SCORES):
        damaged = scores.count_rows(filter=unreadable) - known
        keys = scores.head(limit, ["prompt_id", "index"], filter=unreadable).to_pylist() if damaged > 0 else []
    if damaged > 0:
        with reading_table(run_dir / IMAGES):
            rows += _damaged_since(images, {(row["prompt_id"], row["index"]) for row in keys}, ~absent)
        total += damaged
    return [_record(row, {}) for row in rows[:limit]], total


def _damaged_since(images: Any, keys: set[Key], generated: Any) -> list[dict[str, Any]]:
    ids = pa.array(sorted({prompt_id for prompt_id, _ in keys}), pa.string())
    rows = images.to_table(_IMAGE_COLUMNS, filter=pc.field("prompt_id").isin(ids) & generated).to_pylist()
    return [
        {**row, "status": ImageStatus.UNREADABLE.value, "error": "damaged or changed after it was made"}
        for row in rows
        if (row["prompt_id"], row["index"]) in keys
    ]
