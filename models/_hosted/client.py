"""The official client, with a meter on its wire.

Retries are the client's own and nobody else's. What is added sits below it, in the HTTP client it is handed: every
attempt passes the pacer and the ledger, answers are read under a cap, and answers that no retry can mend carry
`x-should-retry: false`, which the client obeys.

Import this module only where it is needed: it needs the `openai` package.
"""

from __future__ import annotations

import contextvars
import functools
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import openai

from allfour.errors import BackendError
from allfour.models._hosted.connection import Connection
from allfour.models._hosted.deadline import came_before_its_request, hold_to_deadlines, within
from allfour.models._hosted.errors import MAYBE_BILLED_STATUSES, Verdict
from allfour.models._hosted.ledger import Ledger, Order
from allfour.models._hosted.pacing import Pacer
from allfour.models._hosted.reach import proxy_of

_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_MAX_REDIRECTS = 3
_MAX_ERROR_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_DROPPED_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})

Verdicts = Callable[[int, bytes, Mapping[str, str]], Verdict]
"""Status, body and headers of an error -> what it means."""


class StoppedError(Exception):
    """The run is ending: nothing more is sent."""


class AnswerTooLargeError(Exception):
    """A body went over the cap and was not read further."""


class Call:
    """One logical request, for orders about one thing: the attempts the client makes of it."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.orders = orders
        self.open_attempt: int | None = None
        """The ledger's id of the attempt whose end is not written yet."""
        self.attempts = 0
        self.between_attempts = False
        """Whether an attempt came to nothing and the client has not begun the next."""


current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("current_call", default=None)


class MeteredClient(httpx2.Client):
    """An HTTP client that books every attempt of the current `Call`."""

    def __init__(
        self,
        settings: Connection,
        *,
        ledger: Ledger,
        pacer: Pacer,
        stop: threading.Event,
        verdicts: Verdicts,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._ledger = ledger
        self._pacer = pacer
        self._stop = stop
        self._verdicts = verdicts
        self._service = settings.service
        self._body_seconds = settings.timeout
        hold_to_deadlines(self)

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send one attempt and read its whole answer. What no call is for is not booked, and is left to its reader with `stream`.

        Raises
        ------
        StoppedError
            The run is ending.
        BudgetReachedError
            The attempt's price does not fit any more.
        AnswerTooLargeError
            The body is larger than any answer can be.
        """
        call = current_call.get()
        if call is None:
            response = self._follow(request, **options)
            if stream and response.is_success:  # a file of many images: its reader bounds it
                return response
            return self._read(response, _MAX_ERROR_BYTES * 8)
        self._pacer.wait(len(call.orders), self._stop)
        if self._stop.is_set():
            raise StoppedError
        attempt = self._ledger.begin(call.orders)
        call.open_attempt = attempt
        call.attempts += 1
        call.between_attempts = False
        try:
            response = self._follow(request, **options)
            cap = min(_MAX_ANSWER_BYTES, len(call.orders) * self._service.most_bytes + _MAX_ERROR_BYTES)
            response = self._read(response, cap)
        except _NOT_SENT:
            self._ledger.end(attempt, "unsent")
            call.open_attempt, call.between_attempts = None, True
            raise
        except BaseException as error:
            self._ledger.end(attempt, "unknown", code=type(error).__name__)
            call.open_attempt, call.between_attempts = None, True
            raise
        if response.is_success:
            return response  # left open: its end is written together with what it brought
        verdict = self._verdicts(response.status_code, response.content, response.headers)
        self._ledger.end(
            attempt,
            "unknown" if response.status_code in MAYBE_BILLED_STATUSES else "rejected",
            status=response.status_code,
            code=verdict.code,
            request_id=verdict.request_id,
        )
        call.open_attempt, call.between_attempts = None, True
        if verdict.kind != "failed" or self._stop.is_set():
            response.headers["x-should-retry"] = "false"
        return response

    def _follow(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The answer behind a few redirects. A server that goes on redirecting has turned the request down, for good."""
        try:
            with within(self._body_seconds):
                response = super().send(request, stream=True, **options)
            if came_before_its_request(response):  # else an image of one prompt would stand under another
                response.close()  # unread, which ends its connection
                raise httpx2.RemoteProtocolError("the server answered before the request was sent", request=request)
            return response
        except httpx2.TooManyRedirects:
            message = f"the server redirects more than {_MAX_REDIRECTS} times. Set {self._service.block}.base_url to the API's final address"
            return httpx2.Response(
                307,
                headers={"content-type": "application/json", "x-should-retry": "false"},
                content=json.dumps({"error": {"message": message, "code": "too_many_redirects"}}).encode(),
                request=request,
            )

    def _read(self, response: httpx2.Response, cap: int) -> httpx2.Response:
        """`response` with its body read under a cap on size and time, as a response that holds it.

        An error's body is cut and not refused: its status says enough.
        """
        cut = not response.is_success
        cap = min(cap, _MAX_ERROR_BYTES) if cut else cap
        deadline = time.monotonic() + self._body_seconds
        body = bytearray()
        try:
            with within(self._body_seconds):
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > cap and cut:
                        break
                    if len(body) > cap:
                        raise AnswerTooLargeError(f"the answer is larger than {cap // 2**20} MiB")
                    if time.monotonic() > deadline:
                        raise httpx2.ReadTimeout("the answer's body took too long to arrive", request=response.request)
        finally:
            response.close()
        # as bytes: text that is no ASCII, which servers may send, could not be put into headers again
        headers = [(k, v) for k, v in response.headers.raw if k.lower() not in _DROPPED_HEADERS]
        return httpx2.Response(
            response.status_code,
            headers=headers,
            content=bytes(body),
            request=response.request,
            history=response.history,
        )


def _dress(request: httpx2.Request, *, settings: Connection, own: frozenset[str]) -> None:
    """Move the key into the header that the server wants it in. Behind a redirect to another server, neither it nor headers of
    the settings are sent: of these the HTTP library takes away `Authorization` alone."""
    name = settings.api_key_header
    there = httpx2.URL(settings.base_url)
    if (request.url.scheme, request.url.host, request.url.port) != (there.scheme, there.host, there.port):
        for header in own | ({name} if name else set()):
            request.headers.pop(header, None)
    elif name is not None and (given := request.headers.pop("Authorization", None)) is not None:
        request.headers[name] = given.removeprefix("Bearer ")


@functools.cache
def _tls() -> ssl.SSLContext:
    """The HTTP library's own default, read from disk once. Raises BackendError."""
    try:
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:  # of both, an ssl.SSLError is one
        raise BackendError(
            f"No certificates can be read ({type(error).__name__}), so no server can be trusted. Set SSL_CERT_FILE and SSL_CERT_DIR to files that exist, or unset them."
        ) from None


def build_client(
    settings: Connection,
    key: str | None,
    *,
    headers: Mapping[str, str],
    ledger: Ledger,
    pacer: Pacer,
    stop: threading.Event,
    verdicts: Verdicts,
) -> openai.OpenAI:
    """The official client for `settings`. `key` None stands for a local server that asks for none; `headers` are sent besides."""
    timeout = httpx2.Timeout(settings.timeout, connect=min(10.0, settings.timeout))
    return openai.OpenAI(
        api_key=key or "none",
        base_url=settings.base_url,
        default_query=dict(settings.query) or None,
        default_headers=dict(headers) or None,
        max_retries=settings.max_retries,
        timeout=timeout,
        http_client=MeteredClient(
            settings,
            ledger=ledger,
            pacer=pacer,
            stop=stop,
            verdicts=verdicts,
            verify=_tls(),
            # a proxy that is not asked need not be one that can be used
            trust_env=proxy_of(settings.base_url) is not None,
            timeout=timeout,
            follow_redirects=True,
            event_hooks={"request": [functools.partial(_dress, settings=settings, own=frozenset(headers))]},
            max_redirects=_MAX_REDIRECTS,
            limits=httpx2.Limits(
                max_connections=settings.concurrency + 2, max_keepalive_connections=settings.concurrency
            ),
        ),
    )
