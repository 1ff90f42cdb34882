"""The batch endpoint on the wire: upload, create, look, download; and what a batch says of itself, read without trusting its shape.

Only `create` buys. It is sent once: the client repeats it never, and where its answer was lost the list of batches is looked
through for one that bears the order's id, before it is sent again.

Import this module only where it is needed: it needs the `openai` package.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import openai

from allfour.border import read_json
from allfour.models._hosted.deadline import within
from allfour.models.generators._openai.bytes_check import MAX_IMAGE_BYTES
from allfour.models.generators._openai.orders import Line, Order
from allfour.models.generators._openai.settings import Settings

ENDPOINT: Literal["/v1/images/generations"] = "/v1/images/generations"
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""States of a batch that do not change any more."""
_ORDER_KEY = "allfour_order"
_PAGES = 10
_PAGE = 100
_CHUNK = 256 * 1024
_CLOCKS_DIFFER_BY = 3600.0


class CannotListError(Exception):
    """The server does not list its batches, so whether it made one cannot be told."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a server says of a batch."""

    id: str
    status: str
    total: int
    completed: int
    failed: int
    output_file: str | None
    error_file: str | None
    errors: tuple[Mapping[str, Any], ...]
    """Why it was not taken: entries with `code`, `message`, `param`, `line`."""
    began: float | None
    """When work on it began, as seconds since 1970."""
    expires: float | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def read_state(parsed: object) -> BatchState:
    """A batch in a server's words.

    Raises
    ------
    ValueError
        It has no id or no status.
    """
    if not isinstance(parsed, Mapping):
        raise ValueError("the answer is not a batch")
    batch, status = _text(parsed.get("id")), _text(parsed.get("status"))
    if batch is None or status is None:
        raise ValueError("the answer is not a batch: it has no id or no status")
    counts = parsed.get("request_counts")
    counts = counts if isinstance(counts, Mapping) else {}
    errors = parsed.get("errors")
    entries = errors.get("data") if isinstance(errors, Mapping) else errors
    return BatchState(
        id=batch,
        status=status,
        total=_count(counts.get("total")),
        completed=_count(counts.get("completed")),
        failed=_count(counts.get("failed")),
        output_file=_text(parsed.get("output_file_id")),
        error_file=_text(parsed.get("error_file_id")),
        errors=tuple(e for e in entries[:20] if isinstance(e, Mapping)) if isinstance(entries, list) else (),
        began=_time(parsed.get("in_progress_at")) or _time(parsed.get("created_at")),
        expires=_time(parsed.get("expires_at")),
    )


def input_lines(order: Order, settings: Settings) -> bytes:
    """The file of an order: a request per line."""
    return b"".join(
        json.dumps(
            {"custom_id": line.custom_id, "method": "POST", "url": ENDPOINT, "body": _body(line, settings)}
        ).encode()
        + b"\n"
        for line in order.lines.values()
    )


def _body(line: Line, settings: Settings) -> dict[str, Any]:
    first = line.group.orders[0]
    return settings.fields_for(first.prompt, len(line.group.orders)) | settings.body_for(first.seed)


class BatchDesk:
    """Asks one server. Every method raises what the client raises."""

    def __init__(self, client: openai.OpenAI, settings: Settings, window: str) -> None:
        self._client = client
        self._settings = settings
        self._window: Any = window

    def upload(self, order: Order) -> str:
        """The name under which an order's requests lie there. Costs nothing, and may be repeated."""
        raw = self._client.files.with_raw_response.create(
            file=(f"allfour-{order.id}.jsonl", input_lines(order, self._settings), "application/jsonl"), purpose="batch"
        )
        parsed = read_json(raw.http_response.content)
        found = _text(parsed.get("id")) if isinstance(parsed, Mapping) else None
        if found is None:
            raise ValueError("the answer to the upload has no id")
        return found

    def create(self, order: Order) -> BatchState:
        """Buy: one attempt."""
        assert order.input_file is not None
        raw = self._client.with_options(max_retries=0).batches.with_raw_response.create(
            input_file_id=order.input_file,
            endpoint=ENDPOINT,
            completion_window=self._window,
            metadata={_ORDER_KEY: order.id},
        )
        return read_state(read_json(raw.http_response.content))

    def find(self, order: Order, created: float) -> BatchState | None:
        """The batch that was made of an order, by the order's id or the uploaded file, among those not older than `created`.

        Raises
        ------
        CannotListError
            The server has no such list.
        """
        after: str | None = None
        for _ in range(_PAGES):
            entries, more = self._page(after)
            for entry in entries:
                metadata = entry.get("metadata")
                named = isinstance(metadata, Mapping) and metadata.get(_ORDER_KEY) == order.id
                if named or (order.input_file is not None and entry.get("input_file_id") == order.input_file):
                    return read_state(entry)
            oldest = min((at for e in entries if (at := _time(e.get("created_at"))) is not None), default=None)
            if not (more and entries) or (oldest is not None and oldest < created - _CLOCKS_DIFFER_BY):
                return None
            after = _text(entries[-1].get("id"))
        raise CannotListError(f"{_PAGES * _PAGE} batches are newer")

    def _page(self, after: str | None) -> tuple[list[Mapping[str, Any]], bool]:
        try:
            raw = self._client.batches.with_raw_response.list(limit=_PAGE, after=after or openai.omit)
        except openai.APIStatusError as error:
            if error.status_code in (403, 404, 405, 501):
                raise CannotListError(f"HTTP {error.status_code}") from None
            raise
        parsed = read_json(raw.http_response.content)
        data = parsed.get("data") if isinstance(parsed, Mapping) else parsed
        if not isinstance(data, list):
            raise CannotListError("the answer holds no list")
        return [e for e in data if isinstance(e, Mapping)], isinstance(parsed, Mapping) and parsed.get(
            "has_more"
        ) is True

    def state(self, batch: str) -> BatchState:
        return read_state(read_json(self._client.batches.with_raw_response.retrieve(batch).http_response.content))

    def lines(self, file: str, images_per_line: int) -> Iterator[bytes]:
        """The lines of a file, as they come: a file of many images is never held as a whole.

        Raises
        ------
        ValueError
            A line is longer than any answer can be.
        """
        cap = images_per_line * MAX_IMAGE_BYTES * 4 // 3 + 1024 * 1024
        rest = bytearray()
        with self._client.files.with_streaming_response.content(file) as response:
            chunks = response.iter_bytes(_CHUNK)
            while True:
                with within(self._settings.timeout):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                *whole, last = chunk.split(b"\n")
                for part in whole:
                    yield bytes(rest + part)
                    rest.clear()
                rest += last
                if len(rest) > cap:
                    raise ValueError(f"a line of the answers is longer than {cap // 2**20} MiB")
        if rest:
            yield bytes(rest)


def left_in_words(state: BatchState, now: float | None = None) -> str:
    """How far a batch is, and when it may end: by its own pace, or at the latest."""
    now = time.time() if now is None else now
    done = state.completed + state.failed
    text = f"{state.status}, {done} of {state.total} done" if state.total else state.status
    elapsed = None if state.began is None else now - state.began
    if elapsed is not None and elapsed > 0 and 0 < done < state.total:
        return f"{text}, about {_minutes(elapsed / done * (state.total - done))} left"
    if state.expires is not None and state.expires > now and not state.ended:
        return f"{text}, at most {_minutes(state.expires - now)} left"
    return text


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 500 else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11 else None
