"""A small JSON client for a server on one's own machine or network: no proxies, no redirects, bounded answers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.models._hosted.errors import read_error
from allfour.models._hosted.reach import in_words
from allfour.models._hosted.secrets import Scrubber
from allfour.models._hosted.wire import exchange
from allfour.models.generators._openai.bytes_check import MAX_IMAGE_BYTES

MAX_ANSWER_BYTES = 2 * MAX_IMAGE_BYTES
_ERROR_BYTES = 1 << 16


class ServerError(Exception):
    """A server did not answer as it should; `status` is 0 where it did not answer at all."""

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body

    @property
    def transient(self) -> bool:
        """Whether another try may help."""
        return self.status == 0 or self.status in (408, 429, 502, 503, 504)


class LocalServer:
    """Asks one server.

    Parameters
    ----------
    base_url
        Such as http://127.0.0.1:7860.
    auth_env
        Environment variable with USER:PASSWORD, where the server asks for one.
    timeout
        Seconds for one whole exchange, headers and body included.

    Raises
    ------
    BackendError
        `base_url` is not an address, or the variable is not set.
    """

    def __init__(self, base_url: str, *, auth_env: str | None, timeout: float) -> None:
        try:
            parts = urlsplit(base_url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
            _ = parts.port
        except ValueError:
            good = False
        if not good or parts.username is not None or parts.password is not None:
            raise BackendError(
                f"generator.base_url: {Scrubber()(base_url, limit=100)!r} is not the address of a server. Use http://HOST:PORT without credentials; these go into the environment variable that generator.auth_env names."
            )
        self.base_url = base_url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._prefix = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._")
        self._timeout = timeout
        self._headers = {"Accept": "application/json", "Connection": "close"}
        secret = None
        if auth_env is not None:
            secret = os.environ.get(auth_env, "").strip()
            if ":" not in secret:
                raise BackendError(
                    f"generator.auth_env: the environment variable {auth_env} is not set to USER:PASSWORD. Set it and repeat the "
                    f"command: export {auth_env}=..."
                )
            self._headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        self.scrub = Scrubber(secret, secret.partition(":")[2] if secret else None)

    def get(self, path: str, query: Mapping[str, str] | None = None, *, timeout: float | None = None) -> Any:
        """The JSON at `path`. Raises ServerError."""
        return self._json(path, self.fetch(path, query, timeout=timeout))

    def post(self, path: str, body: Mapping[str, Any], *, timeout: float | None = None) -> Any:
        """The JSON answered to `body`; None where it is empty. Raises ServerError."""
        data = self._exchange(path, json.dumps(dict(body)).encode(), timeout)
        return self._json(path, data) if data.strip() else None

    def fetch(self, path: str, query: Mapping[str, str] | None = None, *, timeout: float | None = None) -> bytes:
        """The bytes at `path`. Raises ServerError."""
        return self._exchange(path + ("?" + urlencode(query) if query else ""), None, timeout)

    def _json(self, path: str, data: bytes) -> Any:
        try:
            return read_json(data)
        except (ValueError, RecursionError):
            raise ServerError(f"{self.base_url}{path} answered with something other than JSON") from None

    def _exchange(self, path: str, body: bytes | None, timeout: float | None) -> bytes:
        limit = self._timeout if timeout is None else timeout
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        deadline = time.monotonic() + limit
        try:
            sock = socket.create_connection((self._host, self._port), timeout=limit)
            left = max(0.001, deadline - time.monotonic())
            with exchange(sock, self._host, self._port, secure=self._secure, seconds=left) as wire:
                response = wire.ask("GET" if body is None else "POST", self._prefix + path, headers=headers, body=body)
                good = 200 <= response.status < 300
                data = wire.read(response, MAX_ANSWER_BYTES + 1 if good else _ERROR_BYTES)
        except TimeoutError:
            raise ServerError(f"no answer within {limit:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(f"no connection to {self.base_url}: {self.scrub(in_words(error))}") from None
        if not good:
            message = read_error(data, response.headers.get("content-type", "")).message
            raise ServerError(f"HTTP {response.status}: {self.scrub(message)}", status=response.status, body=data)
        if len(data) > MAX_ANSWER_BYTES:
            raise ServerError(f"the answer is larger than {MAX_ANSWER_BYTES // 2**20} MiB", status=200)
        if response.length:
            raise ServerError(f"the answer of {self.base_url} was cut short")
        return data


def wait(seconds: float) -> None:
    """Sleep, in a way that tests can shorten."""
    threading.Event().wait(seconds)
