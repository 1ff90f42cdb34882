"""Scoring on this machine: decoding threads and the encoder, shard after shard; or processes that feed one on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from allfour.models.classifiers.base import Classifier
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.scoring.engines.base import ScoringJob, Worker
from allfour.pipeline.scoring.engines.feeders import Feeders, feeders_that_pay
from allfour.signals import stops_on_signals


class LocalEngine:
    """See `allfour.pipeline.scoring.engines.base.Engine`."""

    def score(
        self, job: ScoringJob, shards: Sequence[Shard], *, classifier: Classifier, advance: Callable[[int], None]
    ) -> int:
        if count := feeders_that_pay(classifier, job.config, len(shards)):
            with stops_on_signals(), Feeders(job, classifier, count) as feeders:
                return feeders.score(shards, advance)
        worker = Worker(job, classifier)
        with stops_on_signals():
            return sum(worker.score(shard, advance) for shard in shards)
