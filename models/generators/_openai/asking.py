"""Asking for images: what is sent for a group of requests, and what their answer holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from allfour.models._hosted.asking import Asker, CallResult, Group
from allfour.models._hosted.client import Call
from allfour.models._hosted.errors import Verdict
from allfour.models._hosted.ledger import Settlement
from allfour.models.generators._openai.answers import Answer, Item, read_answer, read_chat_answer
from allfour.models.generators._openai.bytes_check import NotAnImageError, check_image, decode_base64
from allfour.models.generators._openai.download import Downloader, DownloadError
from allfour.models.generators._openai.keeping import fingerprint, kept_of
from allfour.models.generators._openai.settings import SEED_RANGE, Settings
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, Refused

ImageGroup = Group[GenerationRequest]
ImageResult = CallResult[GenerationRequest, Outcome]

MAX_EMPTY_ANSWERS = 3
"""Answers without one image, in a row, before the images asked for are given up."""
_MAX_REVISED_PROMPT = 40_000
_LOG = logging.getLogger(__name__)


def group_requests(requests: Sequence[GenerationRequest], size: int) -> list[ImageGroup]:
    """Groups of up to `size` requests with the same prompt, prompts in order of first appearance."""
    by_prompt: dict[tuple[str, str], list[GenerationRequest]] = {}
    for request in requests:
        by_prompt.setdefault((request.prompt_id, request.prompt), []).append(request)
    return [Group(tuple(same[at : at + size])) for same in by_prompt.values() for at in range(0, len(same), size)]


class ImageAsker(Asker[GenerationRequest, Outcome]):
    """Makes calls for images. One instance serves all threads."""

    def __init__(
        self, *, settings: Settings, identity: Mapping[str, Any], downloader: Downloader, **connection: Any
    ) -> None:
        super().__init__(settings=settings, **connection)
        self._settings = settings
        self._identity = identity
        self._downloader = downloader
        self.surplus = 0
        """Images that the server sent beyond those asked for."""

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
        fields: dict[str, Any] = {
            "model": settings.model,
            "prompt": prompt,
            "n": len(group.orders),
            "size": settings.size,
            "quality": settings.quality,
            "response_format": settings.response_format,
            "extra_body": extra or None,
        }
        return self._client.images.with_raw_response.generate(
            **{name: value for name, value in fields.items() if value is not None}
        )

    def _answered(self, call: Call, group: ImageGroup, response: Any) -> ImageResult:
        read = read_chat_answer if self._settings.endpoint == "chat" else read_answer
        answer = read(response.content, response.headers.get("content-type", ""))
        if answer.error:
            return self._error_inside(call, group, response)
        return self._take(call, group, answer, response.headers.get("x-request-id"))

    def _refused(self, group: ImageGroup, verdict: Verdict) -> ImageResult:
        refused = tuple(
            Refused(r, reason=verdict.message, code=verdict.code, request_id=verdict.request_id) for r in group.orders
        )
        for outcome in refused:  # a refusal is final too: not asked for again if the caller dies before it commits
            self._keep(outcome)
        return CallResult(refused)

    def _take(self, call: Call, group: ImageGroup, answer: Answer, request_id: str | None) -> ImageResult:
        """Outcomes of an answer. Its k-th entry belongs to the k-th request, whatever else is missing."""
        shown_id = self._scrub(request_id, limit=120) if request_id else None
        pairs = list(zip(group.orders, answer.items, strict=False))  # more entries than asked for are left alone
        details = {**self._scrub.deep(dict(answer.details)), "request_id": shown_id}
        usage = None if answer.usage is None else self._scrub.deep(dict(answer.usage))
        ready: list[Outcome] = []
        to_fetch: list[tuple[GenerationRequest, Item]] = []
        if answer.withheld is not None:
            ready += [self._withheld(request, answer.withheld, shown_id) for request in group.orders]
        for request, item in pairs:
            if item.withheld is not None:
                ready.append(self._withheld(request, item.withheld, shown_id))
            elif item.b64 is not None:
                ready.append(self._decoded(request, item, details))
            elif item.url is not None:
                to_fetch.append((request, item))
        came = sum(not item.empty for item in answer.items)
        billed = min(came, len(group.orders))  # an order is what is paid for, whatever more is sent
        if came > billed:
            self._note_surplus(came, billed)
        assert call.open_attempt is not None
        self._ledger.settle(
            call.open_attempt,
            Settlement(billed, f"surplus_{came - billed}" if came > billed else None, shown_id, usage),
            [kept for o in ready if (kept := kept_of(fingerprint(self._identity, o.request), o)) is not None],
        )
        call.open_attempt = None
        for request, item in to_fetch:
            fetched = self._fetched(request, item, details)
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

    def _failed(self, group: ImageGroup, why: str) -> ImageResult:
        return CallResult(tuple(Failed(r, self._scrub(why, limit=500)) for r in group.orders))

    def _keep(self, outcome: Outcome) -> None:
        if (kept := kept_of(fingerprint(self._identity, outcome.request), outcome)) is not None:
            self._ledger.keep(kept)
