"""From the files of a batch to outcomes. A line is settled in the ledger, with its outcome, in one transaction.

A file can be read again, so nothing is lost where the reading breaks off: lines that are settled are passed over the next time.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from allfour.border import read_json
from allfour.models._hosted.errors import MAYBE_BILLED_STATUSES, BadAnswerError, Verdict
from allfour.models._hosted.ledger import Kept, Ledger
from allfour.models._hosted.preflight import missing_model
from allfour.models._hosted.session import Session
from allfour.models.generators._openai.answers import Answer, read_answer
from allfour.models.generators._openai.batching import BatchDesk, BatchState
from allfour.models.generators._openai.keeping import kept_of
from allfour.models.generators._openai.orders import Line, Order
from allfour.models.generators._openai.reading import AnswerReader
from allfour.models.generators._openai.settings import Settings
from allfour.models.generators.base import Failed, Outcome

_LOG = logging.getLogger(__name__)
_NOT_RUN = frozenset({"batch_expired", "batch_cancelled", "batch_canceled"})
"""Codes of lines that were never worked on: nothing is billed for them, says the documentation."""


@dataclass(slots=True)
class Collected:
    """What the files of one batch brought, beside outcomes."""

    succeeded: set[str] = field(default_factory=set)
    """`custom_id` of the order's lines with an answer, those settled before among them."""
    stops: list[str] = field(default_factory=list)
    """Why a line says that no further request makes sense."""
    lost_files: bool = False


class Collector:
    """Reads the files of batches that have ended."""

    def __init__(
        self,
        *,
        settings: Settings,
        session: Session,
        desk: BatchDesk,
        ledger: Ledger,
        reader: AnswerReader,
        served_models: Sequence[str],
    ) -> None:
        self._settings, self._desk, self._ledger, self._reader = settings, desk, ledger, reader
        self._scrub, self._verdicts, self._served = session.scrub, session.verdicts, served_models

    def collect(self, order: Order, state: BatchState, brought: Collected) -> Iterator[Outcome]:
        """Outcomes of every open line of an order whose batch has ended; none is open after."""
        for file in filter(None, (state.output_file, state.error_file)):
            yield from self._file(order, file, brought)
        if state.status == "failed":
            brought.stops.append(self._not_taken(state))
        yield from self._rest(order, state, brought)

    def give_up(self, order: Order, why: str) -> Iterator[Outcome]:
        """Failures for every open line of an order whose answers can no longer be fetched: paid for, as far as is known."""
        yield from self._close(order, "unknown", "batch_lost", why)

    def reject(self, order: Order, code: str) -> None:
        """Close the lines of an order that the server did not take: nothing was bought."""
        for line in order.lines.values():
            self._ledger.end(line.attempt, "rejected", code=code)
        order.lines.clear()

    # -- lines ---------------------------------------------------------------------------------------------------

    def _file(self, order: Order, file: str, brought: Collected) -> Iterator[Outcome]:
        import openai

        try:
            for raw in self._desk.lines(file, self._settings.images_per_request):
                yield from self._raw(order, raw, brought)
        except openai.NotFoundError:
            brought.lost_files = True
            _LOG.warning("The server no longer has the file %s of the batch %s.", file[:80], order.batch)

    def _raw(self, order: Order, raw: bytes, brought: Collected) -> Iterator[Outcome]:
        try:
            entry = read_json(raw) if raw.strip() else None
        except (ValueError, RecursionError):
            return
        if not isinstance(entry, Mapping):
            return
        response = entry.get("response")
        response = response if isinstance(response, Mapping) else {}
        custom_id, status = str(entry.get("custom_id")), _status(response)
        if status == 200 and custom_id in order.ids:
            brought.succeeded.add(custom_id)
        line = order.lines.get(custom_id)
        if line is None:
            return
        outcomes = self._line(line, status, response, entry.get("error"), brought)
        del order.lines[line.custom_id]
        yield from outcomes

    def _line(
        self, line: Line, status: int | None, response: Mapping[str, Any], error: object, brought: Collected
    ) -> Sequence[Outcome]:
        found = response.get("body")
        body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
        request_id = response.get("request_id")
        headers = {"x-request-id": request_id} if isinstance(request_id, str) else {}
        if status is None:
            return self._unanswered(line, error, brought)
        if status != 200:
            return self._turned_down(line, status, self._verdicts(status, body, headers), brought)
        try:
            answer = read_answer(body)
        except BadAnswerError as bad:
            self._ledger.end(line.attempt, "unknown", status=200, code="bad_answer")
            return self._reader.failed(line.group.orders, str(bad))
        if answer.error:
            return self._turned_down(line, status, self._verdicts(status, body, headers), brought)
        return self._answered(line, answer, headers.get("x-request-id"))

    def _unanswered(self, line: Line, error: object, brought: Collected) -> Sequence[Outcome]:
        """A line without a response: not run, or an error beside it."""
        reported = error if isinstance(error, Mapping) else {}
        if not reported:
            self._ledger.end(line.attempt, "unknown", code="no_response")
            return self._reader.failed(
                line.group.orders, "the batch's line for this request holds neither an answer nor an error"
            )
        code, message = str(reported.get("code") or "no_response")[:80], str(reported.get("message") or "no answer")
        if code.lower() in _NOT_RUN:
            self._ledger.end(line.attempt, "rejected", code=code)
            return self._reader.failed(line.group.orders, f"{code}: {message} Repeat the command to order it again.")
        verdict = self._verdicts(400, json.dumps({"error": dict(reported)}).encode(), {})
        return self._turned_down(line, None, verdict, brought)

    def _turned_down(self, line: Line, status: int | None, verdict: Verdict, brought: Collected) -> Sequence[Outcome]:
        """Outcomes of an error; none where it would meet every line alike, which is a reason to stop."""
        outcomes: Sequence[Outcome] = ()
        if verdict.kind == "refused":
            outcomes = self._reader.refused(line.group.orders, verdict)
        elif verdict.kind == "stop":
            brought.stops.append(self._stop(verdict))
        else:
            suffix = f" [{verdict.request_id}]" if verdict.request_id else ""
            outcomes = self._reader.failed(line.group.orders, verdict.message + suffix)
        self._ledger.end(
            line.attempt,
            "unknown" if status in MAYBE_BILLED_STATUSES else "rejected",
            status=status,
            code=verdict.code,
            request_id=verdict.request_id,
            keep=_kept(line, outcomes),
        )
        return outcomes

    def _stop(self, verdict: Verdict) -> str:
        if not verdict.model_missing:
            return verdict.message
        return missing_model(self._settings, self._served, reported=verdict.message).error()

    def _answered(self, line: Line, answer: Answer, request_id: str | None) -> Sequence[Outcome]:
        read = self._reader.read(line.group.orders, answer, request_id)
        ready = read.ready + [self._reader.fetch(request, item, read.details) for request, item in read.to_fetch]
        done = {outcome.request.key for outcome in ready}
        ready += [
            Failed(request, "the answer holds no image for this request")
            for request in line.group.orders
            if request.key not in done
        ]
        self._ledger.settle(line.attempt, read.settlement, _kept(line, ready))
        return ready

    # -- what has no line ----------------------------------------------------------------------------------------

    def _rest(self, order: Order, state: BatchState, brought: Collected) -> Iterator[Outcome]:
        if not order.lines:
            return
        if state.status == "failed" and not state.completed:
            self.reject(order, "batch_failed")
            return
        # The server counts more answers than its files hold: which of the open lines they are of, nobody can tell.
        paid = state.status == "completed" or state.completed > len(brought.succeeded)
        why = f"the batch {state.id} ended ({state.status}) without an answer for this request"
        yield from self._close(order, "unknown" if paid else "rejected", f"batch_{state.status}", why)

    def _close(self, order: Order, how: Literal["unknown", "rejected"], code: str, why: str) -> Iterator[Outcome]:
        for line in list(order.lines.values()):
            self._ledger.end(line.attempt, how, code=code[:80])
            del order.lines[line.custom_id]
            yield from self._reader.failed(line.group.orders, why)

    def _not_taken(self, state: BatchState) -> str:
        """Why a batch was not taken, in words."""
        first = dict(state.errors[0]) if state.errors else {}
        verdict = self._verdicts(400, json.dumps({"error": first or "no reason given"}).encode(), {})
        if verdict.kind == "stop" and verdict.model_missing:
            return self._stop(verdict)
        reported = self._scrub(first.get("message") or "no reason given")
        code = f" ({self._scrub(first['code'], limit=80)})" if first.get("code") else ""
        more = f" and {len(state.errors) - 1} more errors" if len(state.errors) > 1 else ""
        return f"The server rejected the batch {self._scrub(state.id, limit=80)}: {reported}{code}{more}."


def _status(response: Mapping[str, Any]) -> int | None:
    """The status of a line's answer, which some servers write as text or leave out beside a body with images."""
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, str) and re.fullmatch(r"[0-9]{3}", status):
        return int(status)
    if isinstance(status, int) and not isinstance(status, bool):
        return status
    return 200 if isinstance(body, Mapping) and "data" in body else None


def _kept(line: Line, outcomes: Sequence[Outcome]) -> list[Kept]:
    """What is kept of the outcomes of a line."""
    prints = {r.key: p for r, p in zip(line.group.orders, line.fingerprints, strict=True)}
    return [kept for o in outcomes if (kept := kept_of(prints[o.request.key], o)) is not None]
