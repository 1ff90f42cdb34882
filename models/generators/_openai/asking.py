"""One call to the server: from a group of requests to their outcomes."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import openai

from allfour.models.generators._openai.answers import (
    Answer,
    BadAnswerError,
    Item,
    Verdict,
    read_answer,
    read_chat_answer,
)
from allfour.models.generators._openai.bytes_check import NotAnImageError, check_image, decode_base64
from allfour.models.generators._openai.client import AnswerTooLargeError, Call, Judge, StoppedError, current_call
from allfour.models.generators._openai.download import Downloader, DownloadError
from allfour.models.generators._openai.ledger import BudgetReachedError, Ledger, Settlement, fingerprint
from allfour.models.generators._openai.preflight import missing_model
from allfour.models.generators._openai.secrets import Scrubber
from allfour.models.generators._openai.settings import SEED_RANGE, Settings
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, Refused

MAX_EMPTY_ANSWERS = 3
"""Answers without one image, in a row, before the images asked for are given up."""
_MAX_REVISED_PROMPT = 40_000
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Group:
    """Requests of one prompt that are asked for together."""

    requests: tuple[GenerationRequest, ...]
    empty_answers: int = 0

    def split(self, size: int) -> tuple[Group, Group | None]:
        rest = self.requests[size:]
        return (
            Group(self.requests[:size], self.empty_answers),
            Group(rest, self.empty_answers) if rest else None,
        )


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call brought."""

    outcomes: tuple[Outcome, ...] = ()
    again: Group | None = None
    """Requests that have no outcome yet: missing from the answer, or not sent at all."""
    stop: str | None = None
    """Why no further request makes sense, where one does not."""


def group_requests(requests: Sequence[GenerationRequest], size: int) -> list[Group]:
    """Groups of up to `size` requests with the same prompt, prompts in order of first appearance."""
    by_prompt: dict[tuple[str, str], list[GenerationRequest]] = {}
    for request in requests:
        by_prompt.setdefault((request.prompt_id, request.prompt), []).append(request)
    return [Group(tuple(same[at : at + size])) for same in by_prompt.values() for at in range(0, len(same), size)]


class Asker:
    """Makes calls. One instance serves all threads."""

    def __init__(
        self,
        *,
        client: openai.OpenAI,
        settings: Settings,
        identity: Mapping[str, Any],
        ledger: Ledger,
        downloader: Downloader,
        scrub: Scrubber,
        judge: Judge,
        stop: threading.Event,
        served_models: Sequence[str],
    ) -> None:
        self._client = client
        self._settings = settings
        self._identity = identity
        self._ledger = ledger
        self._downloader = downloader
        self._scrub = scrub
        self._judge = judge
        self._stop = stop
        self._served = served_models
        self.calls: set[Call] = set()
        """Calls under way."""
        self._lock = threading.Lock()
        self.surplus = 0
        """Images that the server sent beyond those asked for."""

    @property
    def waiting_for_server(self) -> bool:
        """Whether any call waits for an answer or an image, and not merely for the time of its next retry."""
        return any(not call.between_attempts for call in tuple(self.calls))

    @property
    def images_not_reserved(self) -> int:
        """Images of calls that were handed out and have not reached the ledger yet."""
        return sum(len(call.requests) for call in tuple(self.calls) if not call.attempts)

    def new_call(self, group: Group) -> tuple[Call, Group]:
        """A call for `ask`, known from now on."""
        call = Call(group.requests)
        self.calls.add(call)
        return call, group

    def ask(self, job: tuple[Call, Group]) -> CallResult:
        """The result of one call. Never raises: what goes wrong is an outcome or a reason to stop."""
        call, group = job
        current_call.set(call)
        try:
            return self._ask(call, group)
        except (StoppedError, BudgetReachedError):
            return CallResult(again=group)
        except sqlite3.Error as error:  # what cannot be booked must not be spent
            return CallResult(again=group, stop=f"The ledger cannot be written ({error}).")
        except Exception as error:  # a defect here must cost one row, not the rows of the whole run
            return self._failed(group, f"unexpected {type(error).__name__}: {error}")
        finally:
            if call.open_attempt is not None:
                with contextlib.suppress(sqlite3.Error):  # left open it counts as spent just the same
                    self._ledger.end(call.open_attempt, "unknown", code="not_settled")
            self.calls.discard(call)

    def _ask(self, call: Call, group: Group) -> CallResult:
        settings = self._settings
        try:
            raw = self._send(group)
        except openai.APIStatusError as error:
            response = error.response
            return self._turned_down(group, self._judge(response.status_code, response.content, response.headers))
        except openai.APITimeoutError:
            return self._failed(group, f"no answer within {settings.timeout:g} s ({_attempts(call)})")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return self._failed(group, f"connection failed: {type(cause).__name__}: {cause} ({_attempts(call)})")
        except AnswerTooLargeError as error:
            return self._failed(group, str(error))
        finally:
            call.between_attempts = False
        response = raw.http_response
        try:
            read = read_chat_answer if settings.endpoint == "chat" else read_answer
            answer = read(response.content, response.headers.get("content-type", ""))
        except BadAnswerError as error:
            self._end(call, "unknown", code="bad_answer")
            return self._failed(group, str(error))
        if answer.error:
            verdict = self._judge(response.status_code, response.content, response.headers)
            self._end(call, "rejected", code=verdict.code)
            return self._turned_down(group, verdict)
        return self._take(call, group, answer, response.headers.get("x-request-id"))

    def _send(self, group: Group) -> Any:
        """The raw answer to one group. Raises what the client raises."""
        settings = self._settings
        prompt, extra = group.requests[0].prompt, settings.body_for(group.requests[0].seed)
        if settings.endpoint == "chat":
            return self._client.chat.completions.with_raw_response.create(
                model=settings.model,
                messages=[{"role": "user", "content": prompt}],
                extra_body={"modalities": ["image", "text"], **extra},
            )
        fields: dict[str, Any] = {
            "model": settings.model,
            "prompt": prompt,
            "n": len(group.requests),
            "size": settings.size,
            "quality": settings.quality,
            "response_format": settings.response_format,
            "extra_body": extra or None,
        }
        return self._client.images.with_raw_response.generate(
            **{name: value for name, value in fields.items() if value is not None}
        )

    def _turned_down(self, group: Group, verdict: Verdict) -> CallResult:
        if verdict.kind == "refused":
            refused = tuple(
                Refused(r, reason=verdict.message, code=verdict.code, request_id=verdict.request_id)
                for r in group.requests
            )
            for outcome in refused:  # a refusal is final too: not asked for again if the caller dies before it commits
                self._ledger.keep(fingerprint(self._identity, outcome.request), outcome)
            return CallResult(refused)
        if verdict.kind == "stop":
            message = verdict.message
            if verdict.model_missing:
                message = missing_model(self._settings, self._served, said=verdict.message).error()
            return CallResult(again=group, stop=message)
        if self._stop.is_set():  # its retries were cut short by the end of the run: it may well work the next time
            return CallResult(again=group)
        suffix = f" [{verdict.request_id}]" if verdict.request_id else ""
        return self._failed(group, verdict.message + suffix)

    def _take(self, call: Call, group: Group, answer: Answer, request_id: str | None) -> CallResult:
        """Outcomes of an answer. Its k-th entry belongs to the k-th request, whatever else is missing."""
        shown_id = self._scrub(request_id, limit=120) if request_id else None
        pairs = list(zip(group.requests, answer.items, strict=False))  # more entries than asked for are left alone
        details = {**self._scrub.deep(dict(answer.details)), "request_id": shown_id}
        usage = None if answer.usage is None else self._scrub.deep(dict(answer.usage))
        ready: list[Outcome] = []
        to_fetch: list[tuple[GenerationRequest, Item]] = []
        if answer.withheld is not None:
            ready += [self._withheld(request, answer.withheld, shown_id) for request in group.requests]
        for request, item in pairs:
            if item.withheld is not None:
                ready.append(self._withheld(request, item.withheld, shown_id))
            elif item.b64 is not None:
                ready.append(self._decoded(request, item, details))
            elif item.url is not None:
                to_fetch.append((request, item))
        came = sum(not item.empty for item in answer.items)
        billed = min(came, len(group.requests))  # an order is what is paid for, whatever more is sent
        if came > billed:
            self._note_surplus(came, billed)
        assert call.open_attempt is not None
        self._ledger.settle(
            call.open_attempt,
            Settlement(billed, f"surplus_{came - billed}" if came > billed else None, shown_id, usage),
            [(fingerprint(self._identity, o.request), o) for o in ready],
        )
        call.open_attempt = None
        for request, item in to_fetch:
            fetched = self._fetched(request, item, details)
            self._ledger.keep(fingerprint(self._identity, request), fetched)
            ready.append(fetched)
        done = {o.request.key for o in ready}
        missing = tuple(r for r in group.requests if r.key not in done)
        if not missing:
            return CallResult(tuple(ready))
        empty = 0 if ready else group.empty_answers + 1
        if empty >= MAX_EMPTY_ANSWERS:
            return self._failed(group, f"the server answered {empty} times in a row without an image")
        return CallResult(tuple(ready), again=Group(missing, empty))

    def _withheld(self, request: GenerationRequest, why: tuple[str, str], request_id: str | None) -> Refused:
        code, reason = why
        return Refused(request, reason=self._scrub(reason), code=self._scrub(code, limit=80), request_id=request_id)

    def _note_surplus(self, came: int, asked: int) -> None:
        with self._lock:
            first, self.surplus = not self.surplus, self.surplus + came - asked
        if first:
            _LOG.warning(
                "The server sent %d images where %d %s asked for. What was asked for is counted as spent and used; look at the "
                "provider's bill.",
                came, asked, "was" if asked == 1 else "were",
            )  # fmt: skip

    def _decoded(self, request: GenerationRequest, item: Item, details: Mapping[str, Any]) -> Outcome:
        try:
            return self._generated(request, decode_base64(item.b64 or ""), item, details, source="b64_json")
        except NotAnImageError as error:
            return Failed(request, self._scrub(str(error)))

    def _fetched(self, request: GenerationRequest, item: Item, details: Mapping[str, Any]) -> Outcome:
        try:
            url = item.url or ""
            if url.startswith("data:"):
                return self._generated(request, decode_base64(url), item, details, source="data")
            # Some servers answer with a path on themselves.
            data = self._downloader.fetch(urljoin(self._settings.base_url + "/", url), self._stop)
            return self._generated(request, data, item, details, source="url")
        except (DownloadError, NotAnImageError) as error:
            return Failed(request, self._scrub(str(error)))

    def _generated(
        self, request: GenerationRequest, data: bytes, item: Item, details: Mapping[str, Any], *, source: str
    ) -> Generated:
        extension = check_image(data)
        revised = item.revised_prompt
        extra: dict[str, Any] = {"source": source}
        if self._settings.sends_seed:
            extra["seed_sent"] = request.seed % SEED_RANGE
        return Generated(
            request,
            data=data,
            extension=extension,
            revised_prompt=self._scrub.without_key(revised[:_MAX_REVISED_PROMPT]) if revised else None,
            details={k: v for k, v in {**details, **extra}.items() if v is not None},
        )

    def _failed(self, group: Group, why: str) -> CallResult:
        return CallResult(tuple(Failed(r, self._scrub(why, limit=500)) for r in group.requests))

    def _end(self, call: Call, state: Any, *, code: str) -> None:
        assert call.open_attempt is not None
        self._ledger.end(call.open_attempt, state, status=200, code=code)
        call.open_attempt = None


def _attempts(call: Call) -> str:
    return f"{call.attempts} attempts" if call.attempts != 1 else "1 attempt"
