"""Scoring with one encoder on a GPU and several processes that feed it.

Reading, hashing, the Python part of decoding, and writing tables share one interpreter in one process, and a fast GPU waits for it.
So each of several processes does all that for a shard, as `Worker` does anywhere, and has this process, which alone holds the model,
encode its batches. Pixels go over and embeddings come back in memory that both see; a pipe says whose turn it is. Nothing is named,
so nothing stays behind a kill: the memory ends with the processes, and a process whose pipe ends takes its attempt back and leaves.

A shard that kills its process is tried again by a new one, and set aside as everywhere (`DEATHS`).
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfour.errors import UsageError
from allfour.models.classifiers.base import PIECE, ByteArray, Classifier, FloatArray, LentEncoder
from allfour.models.devices import granted_cores
from allfour.pipeline.archives.base import Shard
from allfour.pipeline.config import ScoringConfig
from allfour.pipeline.scoring.encoding import DEVICE_THREADS
from allfour.pipeline.scoring.engines.base import DEATHS, ScoringJob, Worker
from allfour.signals import stops_on_signals

MOST = 24
"""Processes by default: as many as a fast GPU needs for pictures of 512 x 512 pixels and a large model."""
SHARDS_THAT_PAY = 4
"""Fewer are scored before the processes have started."""
_PIECES = 3
"""Pieces of a process that may be under way: one is filled while others are taken over."""
_SLOTS = 2
"""Batches of a process that may be under way: one is filled while the other is encoded."""
_PATIENCE = 0.005
"""Seconds that the last batch under way is left alone while another may come."""
_NICE = 5
"""So that the process with the model, which has little to do, is never the one that waits for a core."""
_GOODBYE = 10.0
"""Seconds that a process has to leave by itself."""


def feeders_that_pay(classifier: Classifier, config: ScoringConfig, shards: int) -> int:
    """How many processes are to feed an encoder; 0 where one process does everything."""
    if not isinstance(classifier, LentEncoder) or not classifier.lendable or not hasattr(os, "memfd_create"):
        return 0
    if config.processes is not None:
        return min(config.processes, shards) if config.processes > 1 else 0
    workers = config.workers if config.workers is not None else granted_cores()
    if workers < 2 or shards < SHARDS_THAT_PAY:
        return 0
    # more than cores: at a shard's end a process waits for its last batch
    return min(workers + workers // 4, shards, MOST)


def threads_each(config: ScoringConfig, processes: int) -> int:
    """Decoding threads of each process; 0, where each has one core at most: two threads would wait for each other's Python."""
    workers = config.workers if config.workers is not None else granted_cores()
    return min(workers // processes, DEVICE_THREADS) if workers >= 2 * processes else 0


_TAKEN, _MADE = "taken", "made"
"""What the process with the model says of a piece, which may be filled anew, and of a batch, whose embeddings are there."""


# --- what both sides know --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where pictures and embeddings lie in the memory of a process."""

    batch: int
    room: int
    """Bytes that a piece of pictures may have. What none has filled takes no memory."""
    dim: int

    def bytes(self) -> int:
        return _PIECES * self.room + _SLOTS * self.batch * self.dim * 4

    def pieces(self, memory: mmap.mmap) -> list[NDArray[np.uint8]]:
        """Bytes [room] of every piece."""
        return [np.frombuffer(memory, np.uint8, self.room, offset=slot * self.room) for slot in range(_PIECES)]

    def vectors(self, memory: mmap.mmap) -> list[FloatArray]:
        """[batch, dim] of every batch that may be under way."""
        count = self.batch * self.dim
        starts = [_PIECES * self.room + slot * count * 4 for slot in range(_SLOTS)]
        return [np.frombuffer(memory, np.float32, count, offset=at).reshape(self.batch, self.dim) for at in starts]


# --- the side of a process that feeds --------------------------------------------------------------------------------


class _Line:
    """To the process with the model: sends batches, gets embeddings, in the order in which they were sent."""

    def __init__(self, connection: Connection[Any, Any], layout: _Layout, memory: mmap.mmap) -> None:
        self._connection = connection
        self._pieces, self._vectors = layout.pieces(memory), layout.vectors(memory)
        self._sent = self._taken = 0
        """Pieces."""
        self._asked = self._made = 0
        """Batches."""
        self._finished = 0

    def advance(self, count: int) -> None:
        self._finished += count

    def news(self) -> int:
        """Images finished since it was asked last."""
        count, self._finished = self._finished, 0
        return count

    def stage(self, pictures: ByteArray) -> None:
        """See `Staging`. What was staged is known to the other side."""
        while self._sent - self._taken == _PIECES:
            self._hear()
        slot = self._sent % _PIECES
        self._sent += 1
        self._pieces[slot][: pictures.size] = pictures.reshape(-1)
        self._connection.send(("piece", (slot, pictures.shape), self.news()))

    def encode_staged(self, staged: Sequence[Any], size: int) -> Callable[[], FloatArray]:
        """See `Staging`."""
        number = self._asked
        self._asked += 1
        self._connection.send(("batch", (number % _SLOTS, size), self.news()))

        def landed() -> FloatArray:
            while self._made <= number:  # batches come in order
                self._hear()
            return np.array(self._vectors[number % _SLOTS])

        return landed

    def _hear(self) -> None:
        """Wait for the next word of the other side."""
        if self._connection.recv() == _TAKEN:
            self._taken += 1
        else:
            self._made += 1


def feed(connection: Connection[Any, Any], memory_number: int, setup_number: int) -> None:
    """Score the shards that come over the connection until it ends."""
    setup = os.pread(setup_number, os.fstat(setup_number).st_size, 0)
    layout, job, classifier = pickle.loads(setup)  # noqa: S301  (ours, from the process that started this one)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # of the thread that calls: the others decode
    line = _Line(connection, layout, mmap.mmap(memory_number, layout.bytes()))
    classifier.encodes_at(line)
    worker = Worker(job, classifier)
    while True:
        shard = connection.recv()
        try:
            images = worker.score(shard, line.advance)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            connection.send(("error", _carried(error), line.news()))
        else:
            connection.send(("done", images, line.news()))


def _carried(error: Exception) -> Exception:
    """The error, or what it says where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (ours)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def main(arguments: Sequence[str]) -> None:
    """Of a process that feeds; its arguments are the numbers of three open files."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process with the model gets it too, and ends the line
    os.nice(_NICE)
    with stops_on_signals(), contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        connection, memory, setup = map(int, arguments)
        feed(Connection(connection), memory, setup)


# --- the side with the model -----------------------------------------------------------------------------------------


class _Setup:
    """What every process gets first, in memory that all of them read: through a pipe, each would start after the last has read."""

    def __init__(self, data: bytes) -> None:
        self.number = os.memfd_create("allfour-setup")
        with os.fdopen(os.dup(self.number), "wb") as file:
            file.write(data)

    def close(self) -> None:
        os.close(self.number)


class _Feeder:
    """A process that feeds, as the one with the model sees it."""

    def __init__(self, layout: _Layout, setup: _Setup, environment: Mapping[str, str]) -> None:
        self.staged: list[Any] = []
        """What the encoder has of its next batch."""
        self.shard: Shard | None = None
        here, there = socket.socketpair()
        memory = os.memfd_create("allfour-batches")
        with here, there, contextlib.ExitStack() as stack:
            stack.callback(os.close, memory)
            os.ftruncate(memory, layout.bytes())
            self._memory = mmap.mmap(memory, layout.bytes())
            self.pieces, self.vectors = layout.pieces(self._memory), layout.vectors(self._memory)
            numbers = (there.fileno(), memory, setup.number)
            command = [sys.executable, "-P", "-c", _START, *map(str, numbers)]
            self._process = subprocess.Popen(command, pass_fds=numbers, env=dict(environment), stdin=subprocess.DEVNULL)
            self.connection: Connection[Any, Any] = Connection(here.detach())

    def give(self, shard: Shard) -> None:
        self.shard = shard
        with contextlib.suppress(ConnectionError):  # that it died is read where its answer was to come
            self.connection.send(shard)

    def tell(self, word: str) -> None:
        with contextlib.suppress(OSError):  # it died meanwhile
            self.connection.send(word)

    def end(self, patience: float) -> None:
        """Wait for a process whose connection is closed, and end it where it stays."""
        asks: list[Callable[[], None]] = [lambda: None, self._process.terminate, self._process.kill]
        for ask in asks:
            ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return


_START = "import sys; from allfour.pipeline.scoring.engines.feeders import main; main(sys.argv[1:])"


class Feeders:
    """So many processes that feed one encoder. They start once, and score any number of shards until the block ends."""

    def __init__(self, job: ScoringJob, classifier: Any, count: int) -> None:
        self._classifier = classifier
        config = job.config.model_copy(update={"workers": threads_each(job.config, count)})
        lent = classifier.lend()
        # whole pages, so that numbers behind it lie where numbers may
        room = -(-max(PIECE, math.prod(classifier.input_shape)) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._layout = _Layout(job.config.batch_size, room, classifier.embedding_dim)
        self._setup = _Setup(pickle.dumps((self._layout, replace(job, config=config, build=_no_model), lent)))
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._feeders: list[_Feeder] = []
        self._count = count

    def __enter__(self) -> Feeders:
        try:
            while len(self._feeders) < self._count:
                self._feeders.append(self._started())
        except BaseException:  # a machine may have no room for another
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for feeder in self._feeders:
            feeder.connection.close()
        for feeder in self._feeders:
            feeder.end(_GOODBYE)
        self._setup.close()

    def _started(self) -> _Feeder:
        return _Feeder(self._layout, self._setup, self._environment)

    def score(self, shards: Sequence[Shard], advance: Callable[[int], None]) -> int:
        """Score and commit every shard; see `Engine.score`."""
        waiting, tries, scored = deque(shards), Counter[str](), 0
        flying: deque[tuple[_Feeder, int, Callable[[], FloatArray]]] = deque()

        def give(feeder: _Feeder) -> None:
            feeder.shard = None
            if waiting:
                shard = waiting.popleft()
                tries[shard.id] += 1
                feeder.give(shard)

        def land() -> None:
            feeder, slot, landed = flying.popleft()
            feeder.vectors[slot][...] = landed()
            feeder.tell(_MADE)

        for feeder in self._feeders:
            give(feeder)
        while busy := {feeder.connection: feeder for feeder in self._feeders if feeder.shard is not None}:
            patience = (None, _PATIENCE, 0)[len(flying)]
            ready = wait(list(busy), patience)
            if not ready:
                land()
            for connection in ready:
                feeder = busy[connection]  # type: ignore[index]
                message = _read(feeder)
                if message is None:
                    give(self._replaced(feeder, waiting, tries))
                    continue
                kind, value, finished = message
                advance(finished)
                if kind == "piece":
                    slot, shape = value
                    pictures = feeder.pieces[slot][: math.prod(shape)].reshape(shape)
                    feeder.staged.append(self._classifier.stage(pictures))
                    feeder.tell(_TAKEN)
                elif kind == "batch":
                    if len(flying) == _UNDER_WAY:
                        land()
                    slot, size = value
                    flying.append((feeder, slot, self._classifier.encode_staged(feeder.staged, size)))
                    feeder.staged = []
                elif kind == "error":
                    raise value
                else:
                    scored += value
                    give(feeder)
        return scored

    def _replaced(self, dead: _Feeder, waiting: deque[Shard], tries: Counter[str]) -> _Feeder:
        """A new process in place of one that died; its shard is the next to be scored. Raises UsageError where that goes on."""
        shard = dead.shard
        assert shard is not None
        # DEATHS while it scored, one while it listed the images that are set aside: more are not the shard's doing
        if tries[shard.id] > DEATHS + 1:
            raise UsageError(
                f"scoring.processes: {tries[shard.id]} processes died on shard {shard.id}, or before they began it. "
                "Set scoring.processes=1"
            )
        waiting.appendleft(shard)
        dead.connection.close()
        dead.end(_GOODBYE)
        new = self._started()
        self._feeders[self._feeders.index(dead)] = new
        return new


_UNDER_WAY = 2
"""Batches on the device, of all processes: what `Staging` allows."""


def _read(feeder: _Feeder) -> Any:
    """What a process says; None where it died."""
    try:
        return feeder.connection.recv()
    except (EOFError, OSError):
        return None


def _no_model() -> Classifier:
    raise AssertionError("a process that feeds has no model of its own")
