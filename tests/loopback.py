"""What the loopback servers of the tests share: an HTTP server on 127.0.0.1 in threads of its own, that ends with its `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import struct
import threading
from collections.abc import Container, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, Self, TypeVar

Owner = TypeVar("Owner", bound="Loopback")


class Loopback:
    """A server whose requests are answered by a `Handler`, which finds this object as its `owner`."""

    def __init__(self, handler: type[Handler[Any]]) -> None:
        self.lock = threading.RLock()
        self._server = _Threads(("127.0.0.1", 0), handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    owner: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up, or are killed in the middle of an answer, are part of the tests: no traceback."""


class Handler(BaseHTTPRequestHandler, Generic[Owner]):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    timeout = 30
    server: _Threads

    @property
    def owner(self) -> Owner:
        return self.server.owner  # type: ignore[no-any-return]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(
        self, status: int, body: Any, *, headers: Mapping[str, str] | None = None, kind: str = "application/json"
    ) -> None:
        """Answer with bytes as they are, or with JSON of anything else."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        """End the connection with a reset and not politely: that is what a dropped connection looks like."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.connection.close()


class Signals:
    """Sends a signal to the process that asks as a server is asked for the n-th time, before it answers: at no moment of the test's own.

    Parameters
    ----------
    at
        Which requests these are; each is met by the next process that was started.
    """

    def __init__(self, signal: int, at: Container[int]) -> None:
        self._signal, self._at = signal, at
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()

    def started(self, pid: int) -> None:
        """Say which process is at work from now on."""
        self._started.put(pid)

    def asked(self, number: int) -> None:
        """To be called with the number of each request."""
        if number in self._at:
            os.kill(self._started.get(timeout=60), self._signal)
