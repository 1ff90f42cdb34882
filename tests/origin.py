"""The one process that the tests' workers are forked from: it has collected the tests, so that what they import is imported once.

A worker of pytest-xdist is a Python of its own, and each of them would import PyTorch, diffusers and every test file: 12 processor seconds,
and more where no bytecode is written yet. Here xdist starts a door instead (this file as a program), which hands its standard streams to the
origin and waits; the origin forks, and the child runs what xdist sends.
"""

from __future__ import annotations

import os
import socket
import sys

__all__ = ["prepare"]

LATER = ("open_clip", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
"""What tests import as they run, and of all tests some in every worker."""


def prepare(config, specs) -> None:  # type: ignore[no-untyped-def]  # a door imports no types
    """Let the workers of these specifications of pytest-xdist be forked from an origin, which ends with the session.

    Only on Linux: libraries of other systems begin threads when they are imported, and those no fork inherits.
    """
    import shlex
    import subprocess
    import tempfile
    from pathlib import Path

    if sys.platform != "linux":
        return
    folder = tempfile.TemporaryDirectory(prefix="allfour-origin-")
    address = str(Path(folder.name) / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        later = LATER if config.args == config.getini("testpaths") else ()
        code = f"from tests.origin import serve; serve({listener.fileno()}, {config.args!r}, {later!r})"
        origin = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            cwd=config.rootpath,
        )
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), address])

    def end() -> None:
        origin.communicate()
        folder.cleanup()

    config.add_cleanup(end)


def serve(listening: int, tests: list[str], later: tuple[str, ...]) -> None:
    """Collect these tests, then fork a worker for each door that opens, until the session's end of standard input is closed.

    What they import `later` is imported as well, where it is installed.
    """
    import select
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the session and its workers
    listener = socket.socket(fileno=listening)
    if not _collect(tests, later):
        return
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            _end()
        door, _ = listener.accept()
        streams = socket.recv_fds(door, 1, 3)[1]
        if len(streams) == 3 and not os.fork():
            listener.close()
            door.send(b".")
            _work(streams)
            _end()  # the door sees its other end closed
        for stream in streams:
            os.close(stream)
        door.close()


def _collect(tests: list[str], later: tuple[str, ...]) -> bool:
    """Import what these tests need; False where pytest could not begin, which each worker then says by itself."""
    import contextlib
    import gc
    import importlib

    import pytest

    gc.disable()  # all that is imported stays
    stdout, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # counts GPUs without a context, which no process may inherit
    ended = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *tests], plugins=[_Unfinished()])
    del os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"]
    os.dup2(stdout, 1)
    os.close(stdout)
    os.close(nothing)
    if ended in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        return False
    from tests import warmed  # noqa: F401

    for name in later:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.enable()
    return True


class _Unfinished:
    """Forgets a test file that failed or was skipped while it was imported: each worker imports it again, and says so."""

    def pytest_collectreport(self, report):  # type: ignore[no-untyped-def]
        if not report.passed:
            path = os.path.realpath(report.nodeid.partition("::")[0])
            for name, module in list(sys.modules.items()):
                if getattr(module, "__file__", None) == path:
                    del sys.modules[name]


def _work(streams: list[int]) -> None:
    """What `python -c LINE` does with the line that execnet starts a process with, on the streams of a door."""
    import signal
    import types

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, mode, closefd=False) for n, mode in enumerate("rww"))
    from tests import forking

    forking.fork_the_server()
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(eval(sys.stdin.readline()), vars(sys.modules["__main__"]))


def _end() -> None:
    """End this process as Python does, but for its visit to all that was imported, which takes seconds."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and for those of pools
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _wait(address: str, otherwise: list[str]) -> None:
    """A door: the origin gets the streams, and this process ends when the worker has. Without an origin it becomes a Python of its own."""
    import signal

    with socket.socket(socket.AF_UNIX) as origin:
        try:
            origin.connect(address)
            socket.send_fds(origin, [b"."], [0, 1, 2])
            begun = origin.recv(1)
        except OSError:
            begun = b""
        if not begun:
            os.execv(sys.executable, [sys.executable, *otherwise])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(0)
        os.close(1)
        origin.recv(1)


if __name__ == "__main__":
    _wait(sys.argv[1], sys.argv[2:])
