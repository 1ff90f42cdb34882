"""Placing orders so that each is bought once, and looking after their batches.

Import this module only where it is needed: it needs the `openai` package.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import openai

from allfour.models._hosted.connection import Connection
from allfour.models._hosted.preflight import Preflight, check_models
from allfour.models._hosted.reach import in_words
from allfour.models._hosted.secrets import Scrubber
from allfour.models._hosted.session import Session
from allfour.models.generators._openai.batching import BatchDesk, BatchState, CannotListError
from allfour.models.generators._openai.collecting import Collected, Collector
from allfour.models.generators._openai.orders import Order, Orders
from allfour.models.generators.base import Outcome

_LOG = logging.getLogger(__name__)
_FAILED_LOOKS = 20
"""Looks at a batch, in a row, that come to nothing before the waiting ends. The batch goes on."""
_LOOK_AGAIN_SECONDS = 2.0
_BACK_OFF_AT_MOST = 8.0
_TRANSIENT = frozenset({408, 409, 429})


class Ordering:
    """Places orders, looks after them, and keeps the reasons for which no more are placed.

    Parameters
    ----------
    tries
        Of buying one order.
    pause
        Seconds between two looks; waits in here are no longer.
    """

    def __init__(
        self,
        *,
        orders: Orders,
        desk: BatchDesk,
        collector: Collector,
        session: Session,
        stop: threading.Event,
        tries: int,
        pause: float,
    ) -> None:
        self.orders, self.stop = orders, stop
        self.reasons: list[str] = []
        self.out_of_money = False
        """Whether `max_cost` left no room for another order."""
        self.blind = False
        """Whether looking has come to nothing too often."""
        self._desk, self._collector = desk, collector
        self._verdicts, self._scrub = session.verdicts, session.scrub
        self._tries, self._pause = tries, pause
        self._failed_looks = 0
        self._gone: set[str] = set()

    # -- buying --------------------------------------------------------------------------------------------------

    def place(self, order: Order, *, again: bool) -> bool:
        """See to it that an order has its batch, and one only. False where it has none; the reason is kept.

        Parameters
        ----------
        again
            The order is of an earlier process, which may have bought.
        """
        if order.batch is not None:
            return True
        try:
            if order.input_file is None:
                self.orders.uploaded(order, self._desk.upload(order))
            elif again and self._found(order):
                return True
            return self._buy(order)
        except openai.APIStatusError as error:
            verdict = self._verdicts(error.status_code, error.response.content, error.response.headers)
            self._not_placed(order, verdict.message, code=verdict.code)
        except (openai.APIConnectionError, httpx2.HTTPError, ValueError) as error:
            self._not_placed(order, in_words(error), code="not_placed")
        except CannotListError as error:
            self.reasons.append(
                f'It is not known whether a batch was made from the uploaded file {self._scrub(order.input_file, limit=80)}, because the server does not list its batches ({error}). Look at them with the provider, and write what you find into the ledger: docs/hosted-apis.md, "When an order is in doubt".'
            )
        return False

    def _not_placed(self, order: Order, why: str, *, code: str) -> None:
        if order.input_file is None:  # never uploaded, so never bought
            self._collector.reject(order, code)
        self.reasons.append(f"A batch could not be ordered: {self._scrub(why)}")

    def _buy(self, order: Order) -> bool:
        why = ""
        for attempt in range(self._tries):
            if attempt:
                self.stop.wait(min(_BACK_OFF_AT_MOST, 0.5 * 2**attempt, self._pause))
            sure = False
            try:
                self.orders.placed(order, self._desk.create(order).id)
                return True
            except openai.APIStatusError as error:
                verdict = self._verdicts(error.status_code, error.response.content, error.response.headers)
                why, sure = verdict.message, error.status_code < 500 and error.status_code not in (408, 409)
                if sure and (error.status_code not in _TRANSIENT or verdict.kind == "stop"):
                    self._collector.reject(order, verdict.code)
                    break
            except (openai.APIConnectionError, httpx2.HTTPError, ValueError) as error:
                why = in_words(error)
            if not sure and self._found(order):  # its answer was lost, and it was bought all the same
                return True
        self.reasons.append(f"The server did not accept a batch: {self._scrub(why)}")
        return False

    def _found(self, order: Order) -> bool:
        """Whether the server has a batch of this order, which is then the order's. Looks twice: lists may lag."""
        created = dt.datetime.fromisoformat(order.created).timestamp()
        for look in range(2):
            if look:
                self.stop.wait(min(_LOOK_AGAIN_SECONDS, self._pause))
            if (state := self._desk.find(order, created)) is not None:
                self.orders.placed(order, state.id)
                return True
        return False

    # -- waiting -------------------------------------------------------------------------------------------------

    def look(self, order: Order) -> BatchState | None:
        """The batch of an order; None where the server did not say."""
        assert order.batch is not None
        try:
            state = self._desk.state(order.batch)
        except openai.NotFoundError:
            self._gone.add(order.id)
            return None
        except openai.APIStatusError as error:
            verdict = self._verdicts(error.status_code, error.response.content, error.response.headers)
            self._missed(verdict.message, final=error.status_code in (401, 403))
            return None
        except (openai.APIConnectionError, httpx2.HTTPError, ValueError) as error:
            self._missed(in_words(error))
            return None
        if not state.ended:
            self._failed_looks = 0
        return state

    def fetch(self, order: Order, state: BatchState) -> Iterator[Outcome]:
        """What a batch that has ended brought. Where the reading breaks off, the rest is read at the next look."""
        brought = Collected()
        try:
            yield from self._collector.collect(order, state, brought)
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            self._missed(in_words(error))
        else:
            self._failed_looks = 0
        self.reasons += brought.stops

    def gone(self, order: Order) -> bool:
        """Whether the server does not know the batch of an order any more."""
        return order.id in self._gone

    def give_up(self, order: Order) -> Iterator[Outcome]:
        """Failures for all of an order whose batch is gone."""
        why = f"the server no longer knows the batch {self._scrub(order.batch, limit=80)}"
        return self._collector.give_up(order, why)

    def _missed(self, why: str, *, final: bool = False) -> None:
        self._failed_looks += 1
        if self._failed_looks == 1:
            _LOG.warning("The batch cannot be checked at the moment (%s).", self._scrub(why))
        if final or self._failed_looks >= _FAILED_LOOKS:
            self.blind = True
            self.reasons.append(f"The batch cannot be checked ({self._scrub(why)}). It continues at the provider.")


def check_batches(client: Any, settings: Connection, scrub: Scrubber) -> Preflight:
    """Whether a server can be asked, has the model, and has batches. Looks at its lists and orders nothing."""
    found = check_models(client, settings, scrub)
    if not found.ok:
        return found
    base_url = settings.base_url
    quick = client.with_options(max_retries=1, timeout=15.0)
    try:
        quick.batches.with_raw_response.list(limit=1)
    except openai.APIStatusError as error:
        if error.status_code in (404, 405, 501):
            return Preflight(
                False,
                f"{base_url} has no batch endpoint (HTTP {error.status_code}).",
                "Set generator.backend to openai-images, which asks for each image directly.",
                found.served_models,
            )
        warning = f"Whether {base_url} has batches is not known (HTTP {error.status_code})."
    except openai.APIConnectionError as error:
        warning = f"Whether {base_url} has batches is not known ({scrub(in_words(error))})."
    else:
        return found
    return Preflight(True, found.message, found.mend, found.served_models, (*found.warnings, warning))
