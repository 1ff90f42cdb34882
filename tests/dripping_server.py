"""A server on 127.0.0.1 that answers a byte at a time, for ever."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def served(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that reads a request and then does as `answer` says; ends with the block."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)

        def talk(peer: socket.socket) -> None:
            with contextlib.suppress(OSError), peer:
                connection = tls.wrap_socket(peer, server_side=True) if tls else peer
                with connection:
                    connection.recv(65536)
                    answer(connection, done)

        def accept() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            done.set()
            thread.join()


def drip(head: bytes, *, line: bytes = b"x") -> Answer:
    def answer(peer: socket.socket, done: threading.Event) -> None:
        peer.sendall(head)
        while not done.wait(0.1):
            peer.sendall(line)

    return answer


HEADERS = drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")
BODY = drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
