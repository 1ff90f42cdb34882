"""Stage 1: requests -> images.

Each outcome is committed as it comes: the image file first (atomic), then a line in a journal, RUN/outcomes.jsonl or that of a rank.
A repeated run asks only for what has no line in any journal, or whose file is gone or changed (`existing.py`). Refusals are
outcomes and are kept; failures are asked for again. images.parquet is written from the journals at the end.

A generator that works ahead (`AheadGenerator`) makes the next batch while threads bring the last ones to their end. Lines of the
journal then come in any order, and a kill costs what was under way: two batches at most, and those on the device.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import GeneratorType
from typing import Any

import pyarrow as pa

from allfour.models.devices import granted_cores
from allfour.models.generators.base import (
    AheadGenerator,
    Failed,
    Finish,
    Generated,
    GenerationRequest,
    Generator,
    Refused,
)
from allfour.models.generators.base import Outcome as Answer
from allfour.pipeline.archives.decoding import UnreadableImage, decode_image
from allfour.pipeline.archives.kinds import DECODED_EXTENSIONS, EXTENSION_OF
from allfour.pipeline.generation.existing import request_fingerprint, valid_outcomes
from allfour.pipeline.generation.plan import Plan
from allfour.pipeline.run.columns import IMAGES_SCHEMA, PEOPLE, SEVERAL
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.journal import Journal
from allfour.pipeline.run.outcome import Key, Outcome
from allfour.pipeline.run.writing import write_atomic, write_table

_LOG = logging.getLogger(__name__)
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
    """Outcomes that were there already."""


def generate_images(
    run: RunFolder,
    plan: Plan,
    generator: Generator,
    *,
    rank: int | None = None,
    table: Path | None = None,
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
    table
        Where the table goes; None: RUN/images.parquet. Paths in it are those in the run folder all the same.

    Raises
    ------
    BackendError
        The backend cannot go on at all. Everything that came before it is committed; repeat the command to go on.
    OSError
        An image or a line cannot be written. What could be is committed.
    """
    identity = generator.identity()
    with Journal(run.journal_path if rank is None else run.rank_journal_path(rank)) as journal:
        valid = valid_outcomes(run, plan, identity)
        skip(len(valid))
        missing = [request for request in plan.requests if request.key not in valid]
        book = _Book(run, journal, identity, missing, advance)
        if isinstance(generator, AheadGenerator):
            _generate_ahead(generator, missing, book)
        else:
            outcomes: Iterable[Answer] = generator.generate(missing) if missing else ()
            with contextlib.ExitStack() as stack:
                if isinstance(outcomes, GeneratorType):
                    # however the loop is left, what is on the wire is settled now, and not when the interpreter gets to it
                    stack.callback(outcomes.close)
                for outcome in outcomes:
                    book.commit(outcome)
        for request in missing:
            if (
                request.key not in book.made
            ):  # a generator that stops early breaks its protocol; the image is not lost in silence
                book.commit(Failed(request=request, error="the generator gave no outcome"))
    if rank is None:
        write_table(table or run.images_path, _images_table(plan, valid | book.made))
    return GenerationResult(made=len(book.made), kept=len(valid))


def outcomes_left(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> int:
    """How many images of a plan have no outcome yet. Reads journals and no image."""
    return len(plan.requests) - len(valid_outcomes(run, plan, generator, retry_failed=False, read_files=False))


def merge_outcomes(run: RunFolder, plan: Plan, generator: Mapping[str, Any]) -> None:
    """Write images.parquet from the journals of all ranks.

    Raises
    ------
    ValueError
        Some image has no outcome.
    """
    outcomes = valid_outcomes(run, plan, generator, retry_failed=False, read_files=False)
    if left := [request.key for request in plan.requests if request.key not in outcomes]:
        raise ValueError(f"{len(left)} images have no outcome, such as {left[0]}")
    write_table(run.images_path, _images_table(plan, outcomes))


def _generate_ahead(generator: AheadGenerator, missing: Sequence[GenerationRequest], book: _Book) -> None:
    batches = generator.generate_ahead(missing) if missing else ()
    with _Writers(book.commit) as writers, contextlib.ExitStack() as stack:
        if isinstance(batches, GeneratorType):
            stack.callback(
                batches.close
            )  # however the loop is left, nothing is drawn beside what is still to be written
        for batch in batches:
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
        self.made: dict[Key, Outcome] = {}
        self._run, self._journal, self._generator, self._advance = run, journal, generator, advance
        self._open = {request.key for request in asked}
        self._lock = threading.Lock()

    def commit(self, answer: Answer) -> None:
        """The image first, then its line. Raises RuntimeError for an outcome that was not asked for, or comes twice."""
        key = answer.request.key
        with self._lock:
            if key not in self._open:
                raise RuntimeError(f"the generator gave an outcome that was not asked for, or twice: {key}")
            self._open.remove(key)
        outcome = _commit(self._run, answer, self._generator)
        with self._lock:
            self._journal.append(outcome)
            self.made[key] = outcome
            self._advance(1)


class _Writers:
    """Threads that bring images to their end and commit them, a few batches behind the generator.

    However the block is left, by Ctrl-C too, what was submitted is finished first. An error of a thread is raised by the next
    `submit`, or at the end.
    """

    def __init__(self, commit: Callable[[Answer], None]) -> None:
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


def _commit(run: RunFolder, answer: Answer, generator: Mapping[str, Any]) -> Outcome:
    request = answer.request
    record = partial(
        Outcome,
        prompt_id=request.prompt_id,
        index=request.index,
        prompt=request.prompt,
        seed=request.seed,
        fingerprint=request_fingerprint(request, generator),
    )
    if isinstance(answer, Refused):
        extra = {"request_id": answer.request_id} if answer.request_id else {}
        return record(status="refused", error=answer.reason, code=answer.code, extra=extra)
    if isinstance(answer, Failed):
        return record(status="failed", error=answer.error)
    try:
        decoded = decode_image(answer.data)
    except UnreadableImage as error:
        return record(status="failed", error=f"the backend's bytes are no image: {error}")
    return record(
        status="generated",
        path=_write_image(run, answer, decoded.format),
        sha256=hashlib.sha256(answer.data).hexdigest(),
        size=len(answer.data),
        width=decoded.width,
        height=decoded.height,
        revised_prompt=answer.revised_prompt,
        truth=dict(answer.truth) if answer.truth else None,
        extra={str(k): str(v) for k, v in answer.details.items()},
    )


def _write_image(run: RunFolder, answer: Generated, image_format: str) -> str:
    """Commit the bytes as they are; returns the path in the run folder."""
    request = answer.request
    extension = answer.extension.lower()
    if extension not in DECODED_EXTENSIONS:
        extension = EXTENSION_OF[image_format]
    relative = Path("images") / request.prompt_id / f"{request.index}.{extension}"
    write_atomic(run.path / relative, answer.data)
    for older in (run.path / relative).parent.glob(f"{request.index}.*"):
        if (
            older.name != relative.name and older.suffix.removeprefix(".") in DECODED_EXTENSIONS
        ):  # a file of the same image in another format, from other settings
            older.unlink()
    return relative.as_posix()


def _images_table(plan: Plan, outcomes: Mapping[Key, Outcome]) -> pa.Table:
    groups = {prompt.key: prompt.group for prompt in plan.prompts.prompts}
    several = {prompt.key for prompt in plan.prompts.prompts if prompt.people == SEVERAL}
    rows = []
    for request in plan.requests:
        outcome = outcomes[request.key]
        row = {name: getattr(outcome, name, None) for name in IMAGES_SCHEMA.names}
        extra = {**(outcome.extra or {}), **({PEOPLE: SEVERAL} if request.prompt_id in several else {})}
        row |= {
            "prompt_id": request.prompt_id,
            "prompt": request.prompt,
            "group": groups.get(request.prompt_id),
            "index": request.index,
            "seed": request.seed,
            "extra": list(extra.items()) or None,
            "truth": list((outcome.truth or {}).items()) or None,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
