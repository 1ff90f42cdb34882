"""`images-batch`: the batch endpoint of the OpenAI image API. Images within a day, for half the price.

    generator = ImagesBatch(model="gpt-image-2", price_per_image=0.02, max_cost=2.0, ledger_path="run/ledger.sqlite")
    for outcome in generator.generate(requests):  # uploads, creates a batch, waits, downloads
        ...

Every order stands in the ledger before it is sent, so a command that is repeated after a kill at any point finds its batch again
and buys nothing twice: docs/hosted-apis.md, "The batch endpoint".
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from allfour.errors import BackendError, MaxCostError
from allfour.models._hosted.connection import NANO, SettingsError, to_nano
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import BudgetReachedError, Ledger
from allfour.models._hosted.preflight import Preflight
from allfour.models._hosted.session import open_session, preflight
from allfour.models.generators._openai.keeping import fingerprint
from allfour.models.generators._openai.orders import Order, Orders, open_fingerprints
from allfour.models.generators._openai.reading import AnswerReader
from allfour.models.generators.base import GenerationRequest, Outcome
from allfour.models.generators.openai_images import (
    RESUME_HINT,
    CostEstimate,
    HostedConfig,
    OpenAIImages,
)
from allfour.models.settings import Readiness

if TYPE_CHECKING:
    from allfour.models.generators._openai.ordering import Ordering

__all__ = ["ImagesBatch"]

_LOG = logging.getLogger(__name__)
_MOST_PER_BATCH = 50_000
_TELL_SECONDS = 60.0


class ImagesBatchConfig(HostedConfig):
    """The batch endpoint of a hosted, OpenAI-compatible image API."""

    backend: Literal["images-batch"]
    discount: float = Field(default=0.5, ge=0, lt=1)
    """What a batch costs less than `price_per_image`, the price of an image that is asked for directly."""
    images_per_batch: int = Field(default=500, ge=1, le=_MOST_PER_BATCH)
    poll_seconds: float = Field(default=30.0, gt=0, le=3600)
    wait_hours: float = Field(default=25.0, gt=0)
    """How long one command waits. The batch goes on, and the same command waits on."""
    completion_window: str = "24h"

    def build(self, *, ledger: Path | None = None) -> ImagesBatch:
        return ImagesBatch(**self.model_dump(exclude={"backend"}), ledger_path=ledger)

    def price(self) -> tuple[float, str | None] | None:
        full = super().price()
        return None if full is None else (batch_price(full[0], self.discount), full[1])

    def check(self) -> Readiness:
        """Whether the service answers, has the model and has batches. Orders nothing."""
        return self.build().preflight().readiness


class ImagesBatch(OpenAIImages):
    """Generator that orders images in batches.

    Parameters
    ----------
    discount
        What a batch costs less than `price_per_image`: the ledger, the estimate and `max_cost` count the lower price.
    images_per_batch
        Images of one order. An order is settled as a whole, when its batch has ended.
    poll_seconds
        Between two looks at a batch.
    wait_hours
        How long `generate` waits for batches.
    completion_window
        Sent with the order; the provider knows one.
    more
        As for `OpenAIImages`.

    Raises
    ------
    SettingsError
        A setting is out of range.
    """

    def __init__(
        self,
        *,
        discount: float = 0.5,
        images_per_batch: int = 500,
        poll_seconds: float = 30.0,
        wait_hours: float = 25.0,
        completion_window: str = "24h",
        price_per_image: float | None = None,
        **more: Any,
    ) -> None:
        if not 0 <= discount < 1:
            raise SettingsError("generator.discount: use a share from 0 up to, but not including, 1.")
        if not 1 <= images_per_batch <= _MOST_PER_BATCH:
            raise SettingsError(f"generator.images_per_batch: use 1 to {_MOST_PER_BATCH}.")
        price = None if price_per_image is None else batch_price(price_per_image, discount)
        super().__init__(price_per_image=price, **more)
        self._images_per_batch = images_per_batch
        self._poll_seconds = poll_seconds
        self._wait_seconds = wait_hours * 3600
        self._window = completion_window
        self._tell: Callable[[str], None] = _LOG.info

    def __repr__(self) -> str:
        return f"ImagesBatch(model={self._settings.model!r}, base_url={self._settings.base_url!r})"

    def identity(self) -> Mapping[str, Any]:
        """As of the images API, and that the images came in batches."""
        return {**super().identity(), "backend": "images-batch"}

    def tell(self, note: Callable[[str], None]) -> None:
        """See `TellsProgress`."""
        self._tell = note

    def preflight(self) -> Preflight:
        """Whether a run can start, and whether the server has batches. Orders nothing."""
        from allfour.models._hosted.preflight import check_models

        try:
            from allfour.models.generators._openai.ordering import check_batches as check
        except ImportError:  # without the openai package, which the session asks for in its own words
            check = check_models
        self._preflight = preflight(self._settings, check=check)
        return self._preflight

    def estimate(self, requests: Iterable[GenerationRequest]) -> CostEstimate:
        """What ordering `requests` would cost, at the price of a batch, less those that are ordered already. Sends nothing."""
        listed = list(requests)
        identity = self.identity()
        prints = {request.key: fingerprint(identity, request) for request in listed}
        ordered = open_fingerprints(self._ledger_path) & set(prints.values())
        left = super().estimate(request for request in listed if prints[request.key] not in ordered)
        return replace(left, ordered=len(ordered))

    # -- inside --------------------------------------------------------------------------------------------------

    def _generate(
        self, todo: list[GenerationRequest], identity: Mapping[str, Any], ledger: Ledger
    ) -> Generator[Outcome]:
        orders = Orders(ledger)
        prints = {request.key: fingerprint(identity, request) for request in todo}
        known = orders.open(of=set(prints.values()))
        checked = self._preflight if self._preflight is not None and self._preflight.ok else self.preflight()
        if not checked.ok and not known:  # what is ordered is fetched whatever the model has come to
            raise BackendError(checked.error())
        from allfour.models.generators._openai.asking import group_requests
        from allfour.models.generators._openai.batching import BatchDesk
        from allfour.models.generators._openai.collecting import Collector
        from allfour.models.generators._openai.ordering import Ordering

        s, stop = self._settings, threading.Event()
        session = open_session(s, ledger=ledger, stop=stop, own_fields=s.own_fields)
        reader = AnswerReader(settings=s, scrub=session.scrub, stop=stop)
        desk = BatchDesk(session.client, s, self._window)
        collector = Collector(
            settings=s, session=session, desk=desk, ledger=ledger, reader=reader, served_models=checked.served_models
        )
        ordering = Ordering(
            orders=orders,
            desk=desk,
            collector=collector,
            session=session,
            stop=stop,
            tries=s.max_retries + 1,
            pause=self._poll_seconds,
        )
        try:
            placed = [order for order in known if ordering.place(order, again=True)]
            covered = {p for order in known for line in order.lines.values() for p in line.fingerprints}
            rest = [request for request in todo if prints[request.key] not in covered]
            if rest and not checked.ok:
                ordering.reasons.append(checked.error())
            elif not ordering.reasons:
                groups = deque(group_requests(rest, s.images_per_request))
                placed += self._order(groups, ordering, ledger, lambda r: prints[r.key])
            asked = {request.key: request for request in todo}
            for outcome in self._await(placed, ordering):
                if (
                    asked.get(outcome.request.key) == outcome.request
                ):  # an older order may hold more than is asked for now
                    yield outcome
        finally:
            stop.set()
            self._facts += reader.facts
            session.client.close()
        if ordering.reasons:
            kind = MaxCostError if ordering.out_of_money and len(ordering.reasons) == 1 else BackendError
            raise kind(f"{ordering.reasons[0]} {RESUME_HINT}")

    def _order(
        self,
        groups: deque[Group[GenerationRequest]],
        ordering: Ordering,
        ledger: Ledger,
        print_of: Callable[[GenerationRequest], str],
    ) -> Iterator[Order]:
        """Write and place orders for `groups`, as far as the money goes."""
        from allfour.models._hosted.dispatch import budget_reached

        while groups and not ordering.reasons:
            room = ledger.affordable()
            part = _first(groups, self._images_per_batch if room is None else min(room, self._images_per_batch))
            try:
                if not part:
                    raise BudgetReachedError
                order = ordering.orders.write(part, print_of)
            except BudgetReachedError:
                ordering.out_of_money = True
                ordering.reasons.append(budget_reached(ledger, self._settings))
                return
            if ordering.place(order, again=False):
                yield order

    def _await(self, waiting: list[Order], ordering: Ordering) -> Iterator[Outcome]:
        """Look at batches until each has ended, and hand over what it brought."""
        from allfour.models.generators._openai.batching import left_in_words

        deadline = time.monotonic() + self._wait_seconds
        reported_at = 0.0
        while waiting:
            states: list[str] = []
            for order in tuple(waiting):
                state = ordering.look(order)
                if state is not None and state.ended:
                    self._tell(f"Batch {state.id}: {state.status}; fetching its images.")
                    yield from ordering.fetch(order, state)
                elif state is not None:
                    states.append(f"Batch {state.id}: {left_in_words(state)}.")
                elif ordering.gone(order):
                    yield from ordering.give_up(order)
                if not order.lines:
                    waiting.remove(order)
            if not waiting or ordering.blind:
                return
            if time.monotonic() >= deadline:
                ordering.reasons.append(
                    f"Not finished after {self._wait_seconds / 3600:g} hours (generator.wait_hours): {' '.join(states)}"
                )
                return
            if time.monotonic() - reported_at >= _TELL_SECONDS or not reported_at:
                reported_at = time.monotonic()
                for text in states:
                    self._tell(text)
            ordering.stop.wait(self._poll_seconds)


def batch_price(price: float, discount: float) -> float:
    """What an image costs in a batch, to the billionth."""
    return round(to_nano(price) * (1 - discount)) / NANO


def _first(groups: deque[Group[GenerationRequest]], images: int) -> list[Group[GenerationRequest]]:
    """Groups of up to `images` images in all, taken off the front; the last may be a part of one."""
    part: list[Group[GenerationRequest]] = []
    while groups and images > 0:
        group, rest = groups.popleft().split(images)
        part.append(group)
        images -= len(group.orders)
        if rest is not None:
            groups.appendleft(rest)
    return part
