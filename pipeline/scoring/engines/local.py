"""Scoring in this process: decoding threads and the encoder, shard after shard."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from allfour.models.classifiers.base import Classifier
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.scoring.engines.base import ScoringJob, Worker


class LocalEngine:
    """See `allfour.pipeline.scoring.engines.base.Engine`."""

    def score(
        self, job: ScoringJob, shards: Sequence[Shard], *, classifier: Classifier, advance: Callable[[int], None]
    ) -> int:
        worker = Worker(job, classifier)
        with stops_on_sigterm():
            return sum(worker.score(shard, advance) for shard in shards)


@contextlib.contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C: a scheduler that takes the machine back is no death of a shard's worker."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
