"""Stage 1: requests -> images.

Each outcome is committed as it comes: the image file first (atomic), then a line in a journal, RUN/outcomes.jsonl or that of a rank.
A repeated run asks only for what has no line in any journal, or whose file is gone or changed (pipeline/standing.py). Refusals are
outcomes and stand; failures are asked for again. images.parquet is written from the journals at the end.

A generator that works ahead (`AheadGenerator`) makes the next batch while threads bring the last ones to their end. Lines of the
journal then come in any order, and a kill costs what was under way: two batches at most, and the one on the device.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from allfour.models.devices import granted_cores
from allfour.models.generators.base import (
    AheadGenerator,
    Failed,
    Finish,
    Generated,
    GenerationRequest,
    Generator,
    Outcome,
    Refused,
)
from allfour.pipeline.archives.decoding import UnreadableImage, decode
from allfour.pipeline.generation.plan import Plan
from allfour.pipeline.generation.standing import request_fingerprint, standing_outcomes
from allfour.pipeline.run.columns import IMAGES_SCHEMA, PEOPLE, SEVERAL, ImageStatus
from allfour.pipeline.run.folder import Journal, RunFolder, write_atomic, write_table
from allfour.pipeline.run.outcome import Outcome as JournalLine

_LOG = logging.getLogger(__name__)
_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif"})
_WRITERS = 4
"""Threads that encode and write, or one per core where there are fewer."""
_BATCHES_UNDER_WAY = 2
"""Batches that are made and not yet committed, before a generator that works ahead has to wait."""


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What stage 1 did."""

    made: int
    """Outcomes of this process."""
    kept: int
    """Outcomes that stood already."""


def generate_images(
    run: RunFolder,
    plan: Plan,
    generator: Generator,
    *,
    rank: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    skip: Callable[[int], None] = lambda count: None,
) -> GenerationResult:
    """Ask for every image that has no outcome yet, commit each, and write images.parquet.

    Parameters
    ----------
    plan
        The run's, or a rank's share of it.
    rank
        Of many, each with a journal of its own; images.parquet is left to `merge_outcomes`.

    Raises
    ------
    BackendError
        The backend cannot go on at all. Everything that came before it is committed; repeat the command to go on.
    OSError
        An image or a line cannot be written. What could be is committed.
    """
    identity = generator.identity()
    with Journal(run.journal_path if rank is None else run.rank_journal_path(rank)) as journal:
        standing = standing_outcomes(run, plan, identity)
        skip(len(standing))
        missing = [request for request in plan.requests if request.key not in standing]
        book = _Book(run, journal, identity, missing, advance)
        if isinstance(generator, AheadGenerator):
            _generate_ahead(generator, missing, book)
        else:
            for outcome in generator.generate(missing) if missing else ():
                book.commit(outcome)
        for request in missing:
            if (
                request.key not in book.made
            ):  # a generator that stops early breaks its protocol; the image is not lost in silence
                book.commit(Failed(request=request, error="the generator gave no outcome"))
    if rank is None:
        write_table(run.images_path, _images_table(plan, standing | book.made))
    return GenerationResult(made=len(book.made), kept=len(standing))


def outcomes_left(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> int:
    """How many images of a plan have no outcome yet. Reads journals and no image."""
    return len(plan.requests) - len(standing_outcomes(run, plan, generator, retry_failed=False, read_files=False))


def merge_outcomes(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> None:
    """Write images.parquet from the journals of all ranks.

    Raises
    ------
    ValueError
        Some image has no outcome.
    """
    entries = standing_outcomes(run, plan, generator, retry_failed=False, read_files=False)
    if left := [request.key for request in plan.requests if request.key not in entries]:
        raise ValueError(f"{len(left)} images have no outcome, such as {left[0]}")
    write_table(run.images_path, _images_table(plan, entries))


def _generate_ahead(generator: AheadGenerator, missing: Sequence[GenerationRequest], book: _Book) -> None:
    with _Writers(book.commit) as writers:
        for batch in generator.generate_ahead(missing) if missing else ():
            writers.submit(finish for _, finish in batch)


class _Book:
    """Commits outcomes, from any thread, one for each request that was asked for."""

    def __init__(
        self,
        run: RunFolder,
        journal: Journal,
        generator: Mapping[str, Any],
        asked: Iterable[GenerationRequest],
        advance: Callable[[int], None],
    ) -> None:
        self.made: dict[tuple[str, int], dict[str, Any]] = {}
        self._run, self._journal, self._generator, self._advance = run, journal, generator, advance
        self._open = {request.key for request in asked}
        self._lock = threading.Lock()

    def commit(self, outcome: Outcome) -> None:
        """The image first, then its line. Raises RuntimeError for an outcome that was not asked for, or comes twice."""
        key = outcome.request.key
        with self._lock:
            if key not in self._open:
                raise RuntimeError(f"the generator gave an outcome that was not asked for, or twice: {key}")
            self._open.remove(key)
        entry = JournalLine.model_validate(_commit(self._run, outcome, self._generator)).line()
        with self._lock:
            self._journal.append(entry)
            self.made[key] = entry
            self._advance(1)


class _Writers:
    """Threads that bring images to their end and commit them, a few batches behind the generator.

    However the block is left, by Ctrl-C too, what was submitted is finished first. An error of a thread is raised by the next
    `submit`, or at the end.
    """

    def __init__(self, commit: Callable[[Outcome], None]) -> None:
        self._commit = commit
        self._threads = ThreadPoolExecutor(min(_WRITERS, granted_cores()), thread_name_prefix="write")
        self._batches: deque[list[Future[None]]] = deque()

    def __enter__(self) -> _Writers:
        return self

    def submit(self, finishes: Iterable[Finish]) -> None:
        """Take a batch; waits while too many are under way."""
        self._batches.append([self._threads.submit(self._finish, finish) for finish in finishes])
        while len(self._batches) > _BATCHES_UNDER_WAY:
            self._settle(self._batches.popleft())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._threads.shutdown(wait=True)
        try:
            while self._batches:
                self._settle(self._batches.popleft())
        except Exception as error:
            if kind is None:
                raise
            _LOG.warning("and an image could not be committed: %s", error)  # the first error is the one to show

    def _finish(self, finish: Finish) -> None:
        self._commit(finish())

    @staticmethod
    def _settle(batch: Iterable[Future[None]]) -> None:
        for future in batch:
            future.result()


def _commit(run: RunFolder, outcome: Outcome, generator: Mapping[str, Any]) -> dict[str, Any]:
    request = outcome.request
    entry: dict[str, Any] = {
        "prompt_id": request.prompt_id,
        "index": request.index,
        "prompt": request.prompt,
        "seed": request.seed,
        "fingerprint": request_fingerprint(request, generator),
    }
    if isinstance(outcome, Refused):
        return entry | {"status": ImageStatus.REFUSED.value, "error": outcome.reason, "code": outcome.code,
                        "extra": {"request_id": outcome.request_id} if outcome.request_id else {}}  # fmt: skip
    if isinstance(outcome, Failed):
        return entry | {"status": ImageStatus.FAILED.value, "error": outcome.error}
    return entry | _commit_image(run, outcome)


def _commit_image(run: RunFolder, outcome: Generated) -> dict[str, Any]:
    request = outcome.request
    try:
        width, height = decode(outcome.data).size
    except UnreadableImage as error:
        return {"status": ImageStatus.FAILED.value, "error": f"the backend's bytes are no image: {error}"}
    extension = outcome.extension.lower()
    if extension not in _EXTENSIONS:
        extension = (Image.open(io.BytesIO(outcome.data)).format or "bin").lower()
    relative = Path("images") / request.prompt_id / f"{request.index}.{extension}"
    write_atomic(run.path / relative, outcome.data)
    for older in (run.path / relative).parent.glob(f"{request.index}.*"):
        if (
            older.name != relative.name and older.suffix.removeprefix(".") in _EXTENSIONS
        ):  # a file of the same image in another format, from other settings
            older.unlink()
    return {
        "status": ImageStatus.GENERATED.value,
        "path": relative.as_posix(),
        "sha256": hashlib.sha256(outcome.data).hexdigest(),
        "size": len(outcome.data),
        "width": width,
        "height": height,
        "revised_prompt": outcome.revised_prompt,
        "truth": dict(outcome.truth) if outcome.truth else None,
        "extra": {str(k): str(v) for k, v in outcome.details.items()},
    }


def _images_table(plan: Plan, entries: Mapping[tuple[str, int], Mapping[str, Any]]) -> pa.Table:
    groups = {prompt.key: prompt.group for prompt in plan.prompts.prompts}
    several = {prompt.key for prompt in plan.prompts.prompts if prompt.people == SEVERAL}
    rows = []
    for request in plan.requests:
        entry = entries[request.key]
        row = {name: entry.get(name) for name in IMAGES_SCHEMA.names}
        extra = {**(entry.get("extra") or {}), **({PEOPLE: SEVERAL} if request.prompt_id in several else {})}
        row |= {
            "prompt_id": request.prompt_id,
            "prompt": request.prompt,
            "group": groups.get(request.prompt_id),
            "index": request.index,
            "seed": request.seed,
            "extra": list(extra.items()) or None,
            "truth": list((entry.get("truth") or {}).items()) or None,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
