"""Scoring on a Ray cluster: actors that load the model once, shards as their calls.

What travels through Ray is a shard's description there and a number back: an actor reads the images itself and commits the parts to
the run folder itself, so both must be reachable from every node (a shared disk or an address). Without RAY_ADDRESS a cluster of this
machine alone is started, on the loopback interface, and ended.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from allfour.errors import ClassifierError, UsageError
from allfour.models.classifiers.base import Classifier
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.scoring.engines.base import DEATHS, ScoringJob, Worker
from allfour.pipeline.scoring.same_classifier import why_not_same
from allfour.signals import stops_on_signals

_OBJECT_STORE_BYTES = 100 * 2**20
"""Near Ray's minimum: no image ever lies there."""


NO_CLUSTER = "--engine ray: no cluster"


class _Actor:
    """A worker in a process of its own.

    Parameters
    ----------
    wanted
        Identity of the classifier that the run has, as the process says that gives out the work.
    """

    def __init__(self, job: ScoringJob, wanted: Mapping[str, Any]) -> None:
        classifier = job.build()
        self._worker = Worker(job, classifier)
        self._why = why_not_same(wanted, classifier.identity(), whose="the process that gives out the work")

    def score(self, shard: Shard) -> int:
        """See `Worker`. Raises ClassifierError, before anything is read, where this machine has another classifier than the run."""
        if self._why is not None:
            raise ClassifierError(f"--engine ray: {self._why}")
        return self._worker.score(shard)


class RayEngine:
    """See `allfour.pipeline.scoring.engines.base.Engine`.

    Raises
    ------
    UsageError
        Ray is not installed, or no cluster is available.
    """

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray needs Ray, which is not installed: pip install 'allfour[ray]'") from None
        self._ray: Any = ray

    def score(
        self, job: ScoringJob, shards: Sequence[Shard], *, classifier: Classifier, advance: Callable[[int], None]
    ) -> int:
        if not shards:
            return 0
        with self._cluster(), stops_on_signals():
            return self._run(job, shards, dict(classifier.identity()), advance)

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        if self._ray.is_initialized():
            yield
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            options |= {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
            }
        for last in (False, True):
            try:
                self._ray.init(**options)
                break
            except (
                Exception
            ) as error:  # a bare Exception where its processes did not start within 30 s, as on a busy machine
                self._ray.shutdown()
                if last:
                    raise UsageError(f"{NO_CLUSTER}: {error}. Mend or unset RAY_ADDRESS") from None
        try:
            yield
        finally:
            self._ray.shutdown()

    def _run(
        self, job: ScoringJob, shards: Sequence[Shard], wanted: Mapping[str, Any], advance: Callable[[int], None]
    ) -> int:
        ray = self._ray
        found = ray.cluster_resources()
        cpus, gpus = int(found.get("CPU", 1)), int(found.get("GPU", 0))
        nodes = sum(1 for node in ray.nodes() if node["Alive"])
        count = min(job.actors or gpus or nodes, len(shards))
        cpus_each = max(1, cpus // count)
        workers = job.config.workers if job.config.workers is not None else cpus_each
        job = replace(job, config=job.config.model_copy(update={"workers": workers}))
        actor_class = ray.remote(_Actor).options(
            num_cpus=cpus_each, num_gpus=gpus / count if gpus else 0, max_restarts=0, max_task_retries=0
        )
        description = ray.put(job)
        waiting = deque(shards)
        running: dict[Any, tuple[Any, Shard]] = {}
        tries: Counter[str] = Counter()
        scored = 0

        def give(actor: Any) -> None:
            if waiting:
                shard = waiting.popleft()
                tries[shard.id] += 1
                running[actor.score.remote(shard)] = (actor, shard)

        for _ in range(count):
            give(actor_class.remote(description, wanted))
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            actor, shard = running.pop(done)
            try:
                images = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # an error that a worker reported and survived: the user's to mend
            except ray.exceptions.RayError as error:
                # DEATHS while it scored, one while it listed the images that are set aside: more are not the shard's doing
                if tries[shard.id] > DEATHS + 1:
                    raise UsageError(
                        f"--engine ray: {tries[shard.id]} actors died on shard {shard.id}, or before they began it: {error}"
                    ) from error
                waiting.appendleft(shard)
                actor = actor_class.remote(description, wanted)
            else:
                scored += images
                advance(images)
            give(actor)
        return scored
