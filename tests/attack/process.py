"""One `allfour` command in a forked child, with a fault at the n-th event of its own, watched from outside.

The parent has imported everything and has run nothing: it has no threads, so that a child begins whole, and within milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

KILLED = -signal.SIGKILL
FAULT = 70
FINE = frozenset({0, 1, 2, 3})
"""Exit codes that say what became of a command."""

Kind = Literal["kill", "term", "full"]


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to the child at its n-th event, and `events` of none."""

    kind: Kind
    at: int


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command."""

    arguments: tuple[str, ...]
    code: int
    """Exit code; a signal's number, negative, where it was one."""
    out: str
    err: str
    seconds: float
    peak_mib: float
    """Of resident memory."""
    hung: bool
    """Whether it was killed at its deadline."""
    events: int
    """Moments at which a fault could strike."""

    def fault(self) -> str | None:
        """What must never be, in words; None where all is well."""
        if self.hung:
            return f"hung beyond its deadline ({self.seconds:.0f} s)"
        if self.code == FAULT or "Traceback (most recent call last)" in self.err:
            return f"exit code {self.code} with a traceback: ...{self.err[-1500:]}"
        if self.code not in FINE and self.code not in (KILLED, 128 + signal.SIGTERM):
            return f"exit code {self.code}: {self.err[-600:]}"
        return None


class _Events:
    """Counts the moments at which the child commits something, and strikes at one of them."""

    def __init__(self, strike: Strike | None) -> None:
        self.count = 0
        self._strike = strike
        self._lock = threading.Lock()

    def met(self, name: str) -> None:
        with self._lock:
            self.count += 1
            count = self.count
        if self._strike is None or count < self._strike.at:
            return
        if self._strike.kind == "full":
            if name not in ("unlink", "rmdir", "wire"):  # a full disk deletes, and is full from now on
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif count == self._strike.at:
            os.kill(os.getpid(), signal.SIGKILL if self._strike.kind == "kill" else signal.SIGTERM)

    def watch(self) -> None:
        for name in ("fsync", "replace", "rename", "unlink", "rmdir", "link"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        from allfour.models._hosted import client, ledger

        client.MeteredClient._follow = self._both_sides(client.MeteredClient._follow)  # type: ignore[method-assign]
        for name in ("begin", "end", "settle", "keep", "release"):
            setattr(ledger.Ledger, name, self._both_sides(getattr(ledger.Ledger, name)))

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.met(name)
            return real(*arguments, **options)

        return call

    def _both_sides(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.met("wire")
            answer = real(*arguments, **options)
            self.met("wire")
            return answer

        return call


def command(
    *arguments: Any, strike: Strike | None = None, deadline: float = 60.0, before: Callable[[], None] | None = None
) -> Ended:
    """Run `allfour ARGUMENTS` in a forked child.

    Parameters
    ----------
    before
        Called in the child first.
    """
    from allfour.pipeline import cli

    events = _Events(strike)

    def body() -> None:
        if before is not None:
            before()
        events.watch()
        sys.argv = ["allfour", *map(str, arguments)]
        cli.main()

    return forked(body, deadline=deadline, name=tuple(map(str, arguments)), events=lambda: events.count)


def forked(
    body: Callable[[], None], *, deadline: float, name: tuple[str, ...] = (), events: Callable[[], int] = lambda: 0
) -> Ended:
    """Run a function in a forked child to its end or the deadline."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as count:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(body, out.fileno(), err.fileno(), count.fileno(), events)
        hung, status, used = _wait(child, started + deadline)
        seconds = time.monotonic() - started
        texts = []
        for file in (out, err, count):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ended(
        name,
        os.waitstatus_to_exitcode(status),
        texts[0],
        texts[1],
        seconds,
        used.ru_maxrss / 1024,
        hung,
        int(texts[2] or 0),
    )


def _child(body: Callable[[], None], out: int, err: int, count: int, events: Callable[[], int]) -> None:
    """Never returns."""
    code = 0
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", errors="replace"), os.fdopen(2, "w", errors="replace")
        body()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = FAULT
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            threading._shutdown()  # type: ignore[attr-defined]  # what an interpreter that ends waits for: a thread that never ends is a hang
        os.write(count, str(events()).encode())
        os._exit(code)


def _wait(child: int, end: float) -> tuple[bool, int, resource.struct_rusage]:
    hung = False
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            return hung, status, used
        if not hung and time.monotonic() > end:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


@contextlib.contextmanager
def server_process(models: Sequence[str]) -> Iterator[Api]:
    """A loopback image server in a process of its own, so that the parent stays without threads."""
    import multiprocessing

    here, there = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        here.close()
        with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
            _serve(there, models)
        os._exit(0)
    there.close()
    api = Api(here)
    try:
        yield api
    finally:
        here.close()
        os.waitpid(child, 0)


def _serve(pipe: Any, models: Sequence[str]) -> None:
    from tests.loopback_image_server import LoopbackImageServer, faults_by_prompt

    with LoopbackImageServer(models=models, max_requests=10**6) as server:
        pipe.send(server.origin)
        while True:
            what, given = pipe.recv()
            if what == "faults":
                share, kinds, seed = given
                server.plan = faults_by_prompt(share, kinds, seed=seed) if kinds else None
            with server.lock:
                if what == "reset":
                    server.billed.clear()
                    server.asked.clear()
                answer = {"billed": dict(server.billed), "asked": len(server.asked)}
            pipe.send(answer)


class Api:
    """The loopback image server, from outside."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.origin: str = pipe.recv()

    def _ask(self, what: str, given: Any = None) -> dict[str, Any]:
        self._pipe.send((what, given))
        found: dict[str, Any] = self._pipe.recv()
        return found

    def faults(self, share: float, kinds: Sequence[Any], *, seed: int) -> None:
        """From now on, each of these faults meets that share of all attempts."""
        self._ask("faults", (share, list(kinds), seed))

    def reset(self) -> None:
        """Forget what was asked and billed."""
        self._ask("reset")

    @property
    def billed(self) -> dict[str, int]:
        """Images made, by prompt."""
        found: dict[str, int] = self._ask("counts")["billed"]
        return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder, by its path in there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
