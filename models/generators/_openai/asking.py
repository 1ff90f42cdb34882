"""Asking for images: what is sent for a group of requests, and what their answer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allfour.models._hosted.asking import Asker, CallResult
from allfour.models._hosted.client import Call
from allfour.models._hosted.errors import Verdict
from allfour.models._hosted.groups import Group
from allfour.models.generators._openai.answers import Answer, read_answer, read_chat_answer
from allfour.models.generators._openai.keeping import fingerprint, kept_of
from allfour.models.generators._openai.reading import AnswerReader
from allfour.models.generators._openai.settings import Settings
from allfour.models.generators.base import GenerationRequest, Outcome

ImageGroup = Group[GenerationRequest]
ImageResult = CallResult[GenerationRequest, Outcome]

MAX_EMPTY_ANSWERS = 3
"""Answers without one image, in a row, before the images asked for are given up."""


def group_requests(requests: Sequence[GenerationRequest], size: int) -> list[ImageGroup]:
    """Groups of up to `size` requests with the same prompt, prompts in order of first appearance."""
    by_prompt: dict[tuple[str, str], list[GenerationRequest]] = {}
    for request in requests:
        by_prompt.setdefault((request.prompt_id, request.prompt), []).append(request)
    return [Group(tuple(same[at : at + size])) for same in by_prompt.values() for at in range(0, len(same), size)]


class ImageAsker(Asker[GenerationRequest, Outcome]):
    """Makes calls for images. One instance serves all threads."""

    def __init__(
        self, *, settings: Settings, identity: Mapping[str, Any], reader: AnswerReader, **connection: Any
    ) -> None:
        super().__init__(settings=settings, **connection)
        self._settings = settings
        self._identity = identity
        self._reader = reader

    def _send(self, group: ImageGroup) -> Any:
        """The raw answer to one group. Raises what the client raises."""
        settings = self._settings
        prompt, extra = group.orders[0].prompt, settings.body_for(group.orders[0].seed)
        if settings.endpoint == "chat":
            return self._client.chat.completions.with_raw_response.create(
                model=settings.model,
                messages=[{"role": "user", "content": prompt}],
                extra_body={"modalities": ["image", "text"], **extra},
            )
        return self._client.images.with_raw_response.generate(
            **settings.fields_for(prompt, len(group.orders)), extra_body=extra or None
        )

    def _answered(self, call: Call, group: ImageGroup, response: Any) -> ImageResult:
        read = read_chat_answer if self._settings.endpoint == "chat" else read_answer
        answer = read(response.content, response.headers.get("content-type", ""))
        if answer.error:
            return self._error_inside(call, group, response)
        return self._take(call, group, answer, response.headers.get("x-request-id"))

    def _refused(self, group: ImageGroup, verdict: Verdict) -> ImageResult:
        refused = self._reader.refused(group.orders, verdict)
        for outcome in refused:  # a refusal is final too: not asked for again if the caller dies before it commits
            self._keep(outcome)
        return CallResult(refused)

    def _take(self, call: Call, group: ImageGroup, answer: Answer, request_id: str | None) -> ImageResult:
        """Outcomes of an answer. What was paid for is booked before what stands behind addresses is fetched."""
        read = self._reader.read(group.orders, answer, request_id)
        ready = read.ready
        assert call.open_attempt is not None
        self._ledger.settle(
            call.open_attempt,
            read.settlement,
            [kept for o in ready if (kept := kept_of(fingerprint(self._identity, o.request), o)) is not None],
        )
        call.open_attempt = None
        for request, item in read.to_fetch:
            fetched = self._reader.fetch(request, item, read.details)
            self._keep(fetched)
            ready.append(fetched)
        done = {o.request.key for o in ready}
        missing = tuple(r for r in group.orders if r.key not in done)
        if not missing:
            return CallResult(tuple(ready))
        empty = 0 if ready else group.empty_answers + 1
        if empty >= MAX_EMPTY_ANSWERS:
            return self._failed(group, f"the server answered {empty} times in a row without an image")
        return CallResult(tuple(ready), again=Group(missing, empty))

    def _failed(self, group: ImageGroup, why: str) -> ImageResult:
        return CallResult(self._reader.failed(group.orders, why))

    def _keep(self, outcome: Outcome) -> None:
        if (kept := kept_of(fingerprint(self._identity, outcome.request), outcome)) is not None:
            self._ledger.keep(kept)
