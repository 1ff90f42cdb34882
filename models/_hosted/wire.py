"""One HTTP exchange over a socket, given up as a whole: a socket's own timeout starts anew with every byte."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator


class Exchange:
    """A request, its headers and its body over one socket, whatever the server drips."""

    def __init__(self, connection: http.client.HTTPConnection, expired: threading.Event) -> None:
        self._connection = connection
        self._expired = expired

    def ask(
        self, method: str, target: str, *, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """Send a request and read the headers of its answer. Raises OSError, http.client.HTTPException, ValueError."""
        self._connection.request(method, target, body=body, headers=headers)
        response = self._connection.getresponse()
        self._check()  # headers that end where the socket was shut look whole
        return response

    def read(self, response: http.client.HTTPResponse, size: int) -> bytes:
        """As much as `size` bytes of the body. Raises OSError, http.client.HTTPException."""
        data = response.read(size)
        self._check()
        return data

    def _check(self) -> None:
        if self._expired.is_set():
            raise TimeoutError


@contextlib.contextmanager
def exchange(sock: socket.socket, host: str, port: int, *, secure: bool, seconds: float) -> Iterator[Exchange]:
    """An exchange that ends, with TimeoutError, `seconds` after the block was entered. The socket is closed in the end.

    Raises
    ------
    OSError
        No TLS could be agreed on in time.
    """
    # TLS takes the socket over into one of its own, so the timer looks up which it is.
    current, expired = [sock], threading.Event()
    deadline = threading.Timer(seconds, _shut, (current, expired))
    deadline.daemon = True
    deadline.start()
    connection: http.client.HTTPConnection | None = None
    try:
        if secure:
            current[0] = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            if expired.is_set():  # it shut the socket that TLS had taken over
                raise TimeoutError
            connection = http.client.HTTPSConnection(host, port)
        else:
            connection = http.client.HTTPConnection(host, port)
        connection.sock = current[0]
        yield Exchange(connection, expired)
    finally:
        deadline.cancel()
        if connection is not None:
            connection.close()
        current[0].close()
        sock.close()


def _shut(current: list[socket.socket], expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):
        # not SSLSocket's own, which drops its TLS under the thread that reads from it
        socket.socket.shutdown(current[0], socket.SHUT_RDWR)
