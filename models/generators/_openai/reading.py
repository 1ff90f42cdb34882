"""From what a server answered to outcomes: entries of answers, errors, addresses. What is booked, and when, is the caller's."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allfour.models._hosted.errors import Verdict
from allfour.models._hosted.ledger import Settlement
from allfour.models._hosted.preflight import same_model
from allfour.models._hosted.secrets import Scrubber
from allfour.models.generators._openai.answers import Answer, Item
from allfour.models.generators._openai.bytes_check import NotAnImageError, check_image, decode_base64, is_data_address
from allfour.models.generators._openai.download import Downloader, DownloadError, is_inside, joined
from allfour.models.generators._openai.settings import SEED_RANGE, Settings
from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, Refused

_MAX_REVISED_PROMPT = 40_000
BLANK = "blank_image"
"""Code of a picture of one colour. No service marks it so; it is what several send in the place of one that they withhold."""
_BLANK = "the image is one colour all over ({}), as services send instead of an image that they withhold"
_SIZE = re.compile(r"[0-9]+x[0-9]+")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer brought for the requests of one group."""

    ready: list[Outcome]
    to_fetch: list[tuple[GenerationRequest, Item]]
    """Images that stand behind an address."""
    details: Mapping[str, Any]
    settlement: Settlement


class AnswerReader:
    """Reads answers. One instance serves all threads."""

    def __init__(self, *, settings: Settings, scrub: Scrubber, stop: threading.Event) -> None:
        inside = is_inside(settings.host, 443 if settings.base_url.startswith("https") else 80)
        self._settings = settings
        self._downloader = Downloader(allow_inside=inside, timeout=settings.timeout)
        self._scrub = scrub
        self._stop = stop
        self._lock = threading.Lock()
        self.facts: Counter[str] = Counter()
        """What the server did that no image shows, by name: images, each time."""

    def read(self, requests: Sequence[GenerationRequest], answer: Answer, request_id: str | None) -> Reading:
        """What an answer brought. Its k-th entry belongs to the k-th request, whatever else is missing."""
        shown_id = self._scrub(request_id, limit=120) if request_id else None
        details = {**self._scrub.deep(dict(answer.details)), "request_id": shown_id}
        usage = None if answer.usage is None else self._scrub.deep(dict(answer.usage))
        ready: list[Outcome] = []
        to_fetch: list[tuple[GenerationRequest, Item]] = []
        if answer.withheld is not None:
            ready += [self._withheld(request, answer.withheld, shown_id) for request in requests]
        for request, item in zip(requests, answer.items, strict=False):  # more entries than asked for are left alone
            if item.withheld is not None:
                ready.append(self._withheld(request, item.withheld, shown_id))
            elif item.b64 is not None:
                ready.append(self._decoded(request, item, details))
            elif item.url is not None:
                to_fetch.append((request, item))
            elif item.unread is not None:  # asked again it would be charged again, and come as before
                ready.append(Failed(request, self._scrub(f"the answer holds no image that can be read: {item.unread}")))
        surplus = max(0, sum(not item.empty for item in answer.items) - len(requests))
        if surplus:
            self._note_surplus(surplus, len(requests))
        # An order is what is paid for, whatever more is sent; an entry that is withheld without an image is none.
        billed = min(sum(item.came for item in answer.items), len(requests))
        code = f"surplus_{surplus}" if surplus else None
        return Reading(ready, to_fetch, details, Settlement(billed, code, shown_id, usage))

    def fetch(self, request: GenerationRequest, item: Item, details: Mapping[str, Any]) -> Outcome:
        """The outcome of an image behind an address."""
        try:
            url = item.url or ""
            if is_data_address(url):
                return self._generated(request, decode_base64(url), item, details, source="data")
            # Some servers answer with a path on themselves.
            data = self._downloader.fetch(joined(self._settings.base_url + "/", url), self._stop)
            return self._generated(request, data, item, details, source="url")
        except (DownloadError, NotAnImageError) as error:
            return Failed(request, self._scrub(str(error)))

    @staticmethod
    def refused(requests: Sequence[GenerationRequest], verdict: Verdict) -> tuple[Outcome, ...]:
        """Outcomes where a policy said no."""
        return tuple(
            Refused(r, reason=verdict.message, code=verdict.code, request_id=verdict.request_id) for r in requests
        )

    def failed(self, requests: Sequence[GenerationRequest], why: str) -> tuple[Outcome, ...]:
        """Outcomes where nothing came."""
        return tuple(Failed(r, self._scrub(why, limit=500)) for r in requests)

    def _withheld(self, request: GenerationRequest, why: tuple[str, str], request_id: str | None) -> Refused:
        code, reason = why
        return Refused(request, reason=self._scrub(reason), code=self._scrub(code, limit=80), request_id=request_id)

    def _note(self, fact: str, count: int, message: str, *values: object) -> None:
        """Count what no image shows, and warn of it the first time."""
        with self._lock:
            first, self.facts[fact] = not self.facts[fact], self.facts[fact] + count
        if first:
            _LOG.warning(message, *values)

    def _note_surplus(self, surplus: int, asked: int) -> None:
        self._note(
            "images_beyond_order", surplus,
            "The server sent %d images where %d %s asked for. Only the number asked for is used and counted as spent; check the provider's bill.",
            asked + surplus, asked, "was" if asked == 1 else "were",
        )  # fmt: skip

    def _note_differences(self, size: tuple[int, int], model: object) -> None:
        """What an image is that was not asked for. It is used all the same: names have aliases, and sizes are rounded."""
        settings, found = self._settings, f"{size[0]}x{size[1]}"
        if settings.size and _SIZE.fullmatch(settings.size) and settings.size != found:
            self._note(
                "images_of_another_size", 1,
                'The server sent an image of %s pixels where %s was asked for. Images of another size may not be comparable.',
                found, settings.size,
            )  # fmt: skip
        if isinstance(model, str) and model and not same_model(model, settings.model):
            self._note(
                "images_of_another_model", 1,
                'The server says that %r made an image, and %r was asked for. It may be another name of the same model, or another model.',
                self._scrub(model, limit=120), settings.model,
            )  # fmt: skip

    def _decoded(self, request: GenerationRequest, item: Item, details: Mapping[str, Any]) -> Outcome:
        try:
            return self._generated(request, decode_base64(item.b64 or ""), item, details, source="b64_json")
        except NotAnImageError as error:
            return Failed(request, self._scrub(str(error)))

    def _generated(
        self, request: GenerationRequest, data: bytes, item: Item, details: Mapping[str, Any], *, source: str
    ) -> Generated | Refused:
        checked = check_image(data)
        if checked.colour is not None:
            return Refused(
                request, reason=_BLANK.format(checked.colour), code=BLANK, request_id=details.get("request_id")
            )
        self._note_differences(checked.size, details.get("model"))
        revised = item.revised_prompt
        extra: dict[str, Any] = {"source": source}
        if self._settings.sends_seed:
            extra["seed_sent"] = request.seed % SEED_RANGE
        return Generated(
            request,
            data=data,
            extension=checked.extension,
            revised_prompt=self._scrub.without_key(revised[:_MAX_REVISED_PROMPT]) if revised else None,
            details={k: v for k, v in {**details, **extra}.items() if v is not None},
        )
