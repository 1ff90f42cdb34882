"""Groups of orders, handed to threads while there is room and money, and what comes back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from allfour.models._hosted.asking import Asker, CallResult
from allfour.models._hosted.client import Call
from allfour.models._hosted.connection import Connection, money
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import Ledger, Order
from allfour.models._hosted.workers import Workers

O = TypeVar("O", bound=Order)  # noqa: E741 (an order)
R = TypeVar("R")
_Workers = Workers[tuple[Call, Group[O]], CallResult[O, R]]

_GRACE_SECONDS = 10.0
"""How long a caller that walks away waits for answers under way, which are paid for and are kept when they come."""


class NoFurtherError(Exception):
    """No further request makes sense; the message says why and how to mend it. Every outcome that stands was yielded before."""

    def __init__(self, reason: str, *, budget: bool) -> None:
        super().__init__(reason)
        self.budget = budget
        """Whether it is that `max_cost` leaves no room."""


def dispatch(
    asker: Asker[O, R],
    groups: Iterable[Group[O]],
    *,
    ledger: Ledger,
    stop: threading.Event,
    settings: Connection,
) -> Generator[R]:
    """Outcomes in the order in which they come.

    Parameters
    ----------
    groups
        Taken one by one as there is room.
    stop
        Set where nothing more is to be sent: by this function at its end, or by whoever else ends the run.

    Raises
    ------
    NoFurtherError
        After every outcome that stands.
    """
    source = iter(groups)
    workers: _Workers[O, R] = Workers(settings.concurrency, asker.ask)
    reason: NoFurtherError | None = None
    try:
        # in here, since no block may begin with a loop: a signal could leave it without its end (tests/test_signals.py)
        waiting: deque[Group[O]] = deque()
        while True:
            if reason is None and not _hand_out(
                asker, workers, waiting=waiting, source=source, ledger=ledger, settings=settings
            ):
                reason = NoFurtherError(budget_reached(ledger, settings), budget=True)
            if not workers.busy:
                break
            result = workers.next(timeout=0.2)
            if result is None:
                if reason is not None and not asker.waiting_for_server:
                    break  # what is left sleeps before a retry that will not be sent
                continue
            if result.stop and reason is None:
                reason = NoFurtherError(result.stop, budget=False)
                stop.set()
            if result.again:
                waiting.appendleft(result.again)
            yield from result.outcomes
    finally:
        stop.set()
        workers.dismiss()
        _let_answers_arrive(asker, _GRACE_SECONDS)
    if reason is not None:
        raise reason


def _hand_out(
    asker: Asker[O, R],
    workers: _Workers[O, R],
    *,
    waiting: deque[Group[O]],
    source: Iterator[Group[O]],
    ledger: Ledger,
    settings: Connection,
) -> bool:
    """Give groups to workers that are free. False where no money is left for any and none can come back."""
    while workers.busy < settings.concurrency:
        group = waiting.popleft() if waiting else next(source, None)
        if group is None:
            return True
        affordable = ledger.affordable()
        if affordable is not None:
            room = affordable - asker.not_reserved
            if room <= 0:
                waiting.appendleft(group)
                return workers.busy > 0  # while a call is under way, a refusal may still give its price back
            group, rest = group.split(room)
            if rest:
                waiting.appendleft(rest)
        workers.submit(asker.new_call(group))
    return True


def budget_reached(ledger: Ledger, settings: Connection) -> str:
    """Why nothing more is ordered, and how to go on."""
    spent, service = ledger.totals().spent, settings.service
    return f"{service.block}.max_cost of {settings.max_cost:g} leaves no room for another {service.order} at {settings.unit_price:g}; the run's ledger shows {money(spent, settings.currency)} spent. Raise {service.block}.max_cost to continue."


def _let_answers_arrive(asker: Asker[O, R], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while asker.waiting_for_server and time.monotonic() < deadline:
        time.sleep(0.02)
