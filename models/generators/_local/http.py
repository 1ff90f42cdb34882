"""A small JSON client for a server on one's own machine or network: no proxies, no redirects, bounded answers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.models._hosted.errors import read_error
from allfour.models._hosted.secrets import Scrubber
from allfour.models.generators._openai.bytes_check import MAX_IMAGE_BYTES

MAX_ANSWER_BYTES = 2 * MAX_IMAGE_BYTES
_CHUNK = 1 << 16


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


class LocalServer:
    """Asks one server.

    Parameters
    ----------
    base_url
        Such as http://127.0.0.1:7860.
    auth_env
        Environment variable with USER:PASSWORD, where the server asks for one.
    timeout
        Seconds for one whole answer.

    Raises
    ------
    BackendError
        `base_url` is no address, or the variable is not set.
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
                f"generator.base_url: {Scrubber()(base_url, limit=100)!r} is no address of a server. Use http://HOST:PORT, without "
                "credentials, which belong into the environment variable that generator.auth_env names."
            )
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Accept": "application/json"}
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
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

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
            raise ServerError(f"{self.base_url}{path} answered with no JSON") from None

    def _exchange(self, path: str, body: bytes | None, timeout: float | None) -> bytes:
        limit = self._timeout if timeout is None else timeout
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        request = urllib.request.Request(self.base_url + path, data=body, headers=headers)  # noqa: S310 (checked above)
        deadline = time.monotonic() + limit
        try:
            with self._opener.open(request, timeout=limit) as response:
                return self._read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(_CHUNK)
            message = read_error(said, error.headers.get("content-type", "")).message
            raise ServerError(f"HTTP {error.code}: {self.scrub(message)}", status=error.code, body=said) from None
        except TimeoutError:
            raise ServerError(f"no answer within {limit:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"no connection to {self.base_url} ({type(reason).__name__})") from None

    @staticmethod
    def _read(response: Any, deadline: float) -> bytes:
        data = bytearray()
        while chunk := response.read(_CHUNK):
            data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise ServerError(f"the answer is larger than {MAX_ANSWER_BYTES // 2**20} MiB", status=200)
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(data)


def wait(seconds: float) -> None:
    """Sleep, in a way that tests can shorten."""
    threading.Event().wait(seconds)
