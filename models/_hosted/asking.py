"""One call to the server: from orders about one thing to their outcomes. What is sent and how it is read, a backend adds."""

from __future__ import annotations

import abc
import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import openai

from allfour.models._hosted.client import AnswerTooLargeError, Call, StoppedError, Verdicts, current_call
from allfour.models._hosted.connection import Connection
from allfour.models._hosted.errors import BadAnswerError, Verdict
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import BudgetReachedError, Ledger, Order
from allfour.models._hosted.preflight import missing_model
from allfour.models._hosted.reach import in_words
from allfour.models._hosted.secrets import Scrubber

O = TypeVar("O", bound=Order)  # noqa: E741 (an order)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CallResult(Generic[O, R]):
    """What one call brought."""

    outcomes: tuple[R, ...] = ()
    again: Group[O] | None = None
    """Orders that have no outcome yet: missing from the answer, or not sent at all."""
    stop: str | None = None
    """Why no further request makes sense, where one does not."""


class Asker(abc.ABC, Generic[O, R]):
    """Makes calls. One instance serves all threads."""

    def __init__(
        self,
        *,
        client: openai.OpenAI,
        settings: Connection,
        ledger: Ledger,
        scrub: Scrubber,
        verdicts: Verdicts,
        stop: threading.Event,
        served_models: Sequence[str],
    ) -> None:
        self._client = client
        self._connection = settings
        self._ledger = ledger
        self._scrub = scrub
        self._verdicts = verdicts
        self._stop = stop
        self._served = served_models
        self.calls: set[Call] = set()
        """Calls under way."""
        self._lock = threading.Lock()

    @property
    def waiting_for_server(self) -> bool:
        """Whether any call waits for an answer, and not merely for the time of its next retry."""
        return any(not call.between_attempts for call in tuple(self.calls))

    @property
    def not_reserved(self) -> int:
        """Orders of calls that were handed out and have not reached the ledger yet."""
        return sum(len(call.orders) for call in tuple(self.calls) if not call.attempts)

    def new_call(self, group: Group[O]) -> tuple[Call, Group[O]]:
        """A call for `ask`, known from now on."""
        call = Call(group.orders)
        self.calls.add(call)
        return call, group

    def ask(self, job: tuple[Call, Group[O]]) -> CallResult[O, R]:
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

    def _ask(self, call: Call, group: Group[O]) -> CallResult[O, R]:
        try:
            raw = self._send(group)
        except openai.APIStatusError as error:
            response = error.response
            return self._turned_down(group, self._verdicts(response.status_code, response.content, response.headers))
        except openai.APITimeoutError:
            return self._failed(group, f"no answer within {self._connection.timeout:g} s ({_attempts(call)})")
        except openai.APIConnectionError as error:
            return self._failed(group, f"connection failed: {in_words(error)} ({_attempts(call)})")
        except AnswerTooLargeError as error:
            return self._failed(group, str(error))
        finally:
            call.between_attempts = False
        try:
            return self._answered(call, group, raw.http_response)
        except BadAnswerError as error:
            self._end(call, "unknown", code="bad_answer")
            return self._failed(group, str(error))

    @abc.abstractmethod
    def _send(self, group: Group[O]) -> Any:
        """The raw answer to one group. Raises what the client raises."""

    @abc.abstractmethod
    def _answered(self, call: Call, group: Group[O], response: Any) -> CallResult[O, R]:
        """Outcomes of a success, whose attempt is open. Raises BadAnswerError for a body that is no answer."""

    @abc.abstractmethod
    def _refused(self, group: Group[O], verdict: Verdict) -> CallResult[O, R]:
        """Outcomes where a policy said no."""

    @abc.abstractmethod
    def _failed(self, group: Group[O], why: str) -> CallResult[O, R]:
        """Outcomes where nothing came; `why` is not scrubbed yet."""

    def _error_inside(self, call: Call, group: Group[O], response: Any) -> CallResult[O, R]:
        """Outcomes of a success status that carries an error."""
        verdict = self._verdicts(response.status_code, response.content, response.headers)
        self._end(call, "rejected", code=verdict.code)
        return self._turned_down(group, verdict)

    def _turned_down(self, group: Group[O], verdict: Verdict) -> CallResult[O, R]:
        if verdict.kind == "refused":
            return self._refused(group, verdict)
        if verdict.kind == "stop":
            message = verdict.message
            if verdict.model_missing:
                message = missing_model(self._connection, self._served, reported=verdict.message).error()
            return CallResult(again=group, stop=message)
        if self._stop.is_set():  # its retries were cut short by the end of the run: it may well work the next time
            return CallResult(again=group)
        suffix = f" [{verdict.request_id}]" if verdict.request_id else ""
        return self._failed(group, verdict.message + suffix)

    def _end(self, call: Call, state: Any, *, code: str) -> None:
        assert call.open_attempt is not None
        self._ledger.end(call.open_attempt, state, status=200, code=code)
        call.open_attempt = None


def _attempts(call: Call) -> str:
    return f"{call.attempts} attempts" if call.attempts != 1 else "1 attempt"
