"""Asking a judge about images: what is sent, and what is kept of its answer."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from allfour.models._hosted.asking import Asker, CallResult
from allfour.models._hosted.chat import Choice, read_choice
from allfour.models._hosted.client import Call
from allfour.models._hosted.errors import ServerError, Verdict
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import Kept, Settlement
from allfour.models.classifiers._judge.logprobs import read_tokens
from allfour.models.classifiers._judge.question import Question
from allfour.models.classifiers._judge.reading import MalformedError, Person, read_people
from allfour.models.classifiers._judge.settings import JudgeSettings
from allfour.models.classifiers.base import Unread

FORMATS = ("json_schema", "json_object", "text")
"""How an answer's form is asked for, from the strictest."""
_TURNS_DOWN = frozenset({400, 415, 422, 500, 501})
_OF_THE_FORMAT = re.compile(
    r"response_format|response format|json_schema|json_object|json schema|structured|guided|grammar", re.IGNORECASE
)
_OF_LOGPROBS = re.compile(r"logprob", re.IGNORECASE)
_KEPT_TEXT = 4000
_REASON = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer about one image; an `Order`."""

    prompt_id: str
    """sha256 of the image's bytes."""
    index: int
    """Which of the answers about it."""
    image: bytes = field(repr=False, default=b"")
    """As it is sent: JPEG."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one `Ask`."""

    ask: Ask
    people: tuple[Person, ...] = ()
    unread: Unread | None = None
    """Why it says nothing, where it does not."""
    model: str | None = None
    """As the server names it."""


def fingerprint(identity: Mapping[str, Any]) -> str:
    """What a kept answer must match to be taken again, beside the image and its number."""
    return hashlib.sha256(json.dumps(["judge", 1, identity], sort_keys=True).encode()).hexdigest()


def reply_of(ask: Ask, kept: Kept) -> Reply:
    """What was kept, as the reply to `ask`."""
    record = kept.record
    if record.get("people") is None:
        return Reply(ask, unread=Unread(record["reason"]), model=record.get("model"))
    return Reply(ask, people=tuple(record["people"]), model=record.get("model"))


@dataclass(frozen=True, slots=True)
class _Form:
    """What is asked for beside the answer itself. A server that rejects it is asked for less."""

    format: str
    logprobs: int


class JudgeAsker(Asker[Ask, Reply]):
    """Makes calls about images. One instance serves all threads."""

    def __init__(
        self,
        *,
        settings: JudgeSettings,
        question: Question,
        identity: Mapping[str, Any],
        max_people: int,
        **connection: Any,
    ) -> None:
        super().__init__(settings=settings, **connection)
        self._settings, self._question, self._max_people = settings, question, max_people
        self._fingerprint = fingerprint(identity)
        asked = FORMATS[0] if settings.answer_format == "auto" else settings.answer_format
        self.form = _Form(asked, settings.logprobs)
        self._sent = threading.local()

    def _send(self, group: Group[Ask]) -> Any:
        s = self._settings
        self._sent.form = form = self.form
        picture = {"url": "data:image/jpeg;base64," + base64.b64encode(group.orders[0].image).decode()}
        content = [
            {"type": "text", "text": self._question.text},
            {"type": "image_url", "image_url": picture | ({"detail": s.detail} if s.detail else {})},
        ]
        fields: dict[str, Any] = {
            "model": s.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": s.temperature,
            "max_tokens": s.max_tokens,
            "response_format": self._response_format(form.format),
            "logprobs": True if form.logprobs else None,
            "top_logprobs": form.logprobs or None,
            "extra_body": dict(s.extra_body) or None,
        }
        return self._client.chat.completions.with_raw_response.create(
            **{name: value for name, value in fields.items() if value is not None}
        )

    def _response_format(self, name: str) -> dict[str, Any] | None:
        if name == "json_schema":
            return {
                "type": name,
                "json_schema": {"name": "people", "strict": True, "schema": self._question.schema},
            }
        return {"type": name} if name == "json_object" else None

    def _answered(self, call: Call, group: Group[Ask], response: Any) -> CallResult[Ask, Reply]:
        choice = read_choice(response.content, response.headers.get("content-type", ""))
        if isinstance(choice, ServerError):
            return self._error_inside(call, group, response)
        kept = self._kept(group.orders[0], self._record(choice))
        raw_id = response.headers.get("x-request-id")
        request_id = self._scrub(raw_id, limit=120) if raw_id else None
        usage = None if choice.usage is None else self._scrub.deep(dict(choice.usage))
        assert call.open_attempt is not None
        self._ledger.settle(call.open_attempt, Settlement(1, None, request_id, usage), [kept])
        call.open_attempt = None
        return CallResult((reply_of(group.orders[0], kept),))

    def _record(self, choice: Choice) -> dict[str, Any]:
        """What is kept of an answer: the people it describes, or the reason why it describes none."""
        text = self._scrub.without_key(choice.text or "")
        record: dict[str, Any] = {
            "text": text[:_KEPT_TEXT],
            "model": self._scrub(choice.model, limit=120) if choice.model else None,
        }
        if (declined := choice.declined) is not None:
            code, reason = declined
            return record | {"reason": self._scrub(f"the judge declined ({code}): {reason}", limit=_REASON)}
        try:
            tokens = read_tokens(choice.raw, choice.text or "")
            people = read_people(choice.text or "", self._question, max_people=self._max_people, tokens=tokens)
        except MalformedError as error:
            cut = choice.raw.get("finish_reason") == "length"
            why = "the judge's answer was cut off; raise classifier.max_tokens: " if cut else "the judge's answer: "
            return record | {"reason": self._scrub(f"{why}{error}", limit=_REASON)}
        return record | {"people": people}

    def _kept(self, ask: Ask, record: Mapping[str, Any]) -> Kept:
        return Kept(self._fingerprint, ask.prompt_id, ask.index, record)

    def _turned_down(self, group: Group[Ask], verdict: Verdict) -> CallResult[Ask, Reply]:
        if verdict.kind != "refused" and verdict.status in _TURNS_DOWN and self._give_way(verdict):
            return CallResult(again=group)
        return super()._turned_down(group, verdict)

    def _give_way(self, verdict: Verdict) -> bool:
        """Ask for less if the server rejected something that was sent. Returns whether that changes anything."""
        sent: _Form = self._sent.form
        text = f"{verdict.message} {verdict.param or ''}"
        with self._lock:
            if sent != self.form:
                return True  # another thread was told the same meanwhile
            if sent.logprobs and _OF_LOGPROBS.search(text):
                self.form = _Form(sent.format, 0)
            elif self._settings.answer_format == "auto" and sent.format != FORMATS[-1] and _OF_THE_FORMAT.search(text):
                self.form = _Form(FORMATS[FORMATS.index(sent.format) + 1], sent.logprobs)
            else:
                return False
        return True

    def _refused(self, group: Group[Ask], verdict: Verdict) -> CallResult[Ask, Reply]:
        reason = self._scrub(f"the judge declined ({verdict.code}): {verdict.message}", limit=_REASON)
        replies = []
        for ask in group.orders:  # final: not asked again if the process dies before the image's row is committed
            kept = self._kept(ask, {"reason": reason})
            self._ledger.keep(kept)
            replies.append(reply_of(ask, kept))
        return CallResult(tuple(replies))

    def _failed(self, group: Group[Ask], why: str) -> CallResult[Ask, Reply]:
        unread = Unread(self._scrub(f"no answer from the judge: {why}", limit=_REASON), again=True)
        return CallResult(tuple(Reply(ask, unread=unread) for ask in group.orders))
