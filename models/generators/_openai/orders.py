"""Orders of a batch, in the ledger: what was ordered, where it was uploaded, which batch came of it, and which lines are open.

An order is written with an attempt of the ledger for every line, in one transaction: its whole price is reserved before a byte is
sent. A line is open while its attempt is in flight. So an order is known after a kill at any point, and how far it came.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path

from allfour.border import read_json
from allfour.models._hosted.groups import Group
from allfour.models._hosted.ledger import Ledger, now
from allfour.models.generators.base import GenerationRequest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id         TEXT PRIMARY KEY,
    created    TEXT NOT NULL,
    input_file TEXT,                       -- the provider's name of the uploaded requests
    batch      TEXT                        -- the provider's name of the batch
);
CREATE TABLE IF NOT EXISTS order_lines (
    order_id   TEXT NOT NULL,
    custom_id  TEXT NOT NULL,
    attempt    INTEGER NOT NULL,           -- of the table attempts
    requests   TEXT NOT NULL,              -- JSON list of the requests and their fingerprints
    PRIMARY KEY (order_id, custom_id)
);
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One request of an order."""

    custom_id: str
    attempt: int
    """Its row in the ledger."""
    group: Group[GenerationRequest]
    fingerprints: tuple[str, ...]
    """Of the group's requests."""


@dataclass(slots=True)
class Order:
    """Requests that are sent as one batch."""

    id: str
    created: str
    input_file: str | None
    batch: str | None
    lines: dict[str, Line] = field(default_factory=dict)
    """Open lines by `custom_id`."""
    ids: set[str] = field(default_factory=set)
    """`custom_id` of every line, settled ones among them."""


class Orders:
    """The orders of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        with ledger.transaction() as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    def write(
        self, groups: Sequence[Group[GenerationRequest]], fingerprint: Callable[[GenerationRequest], str]
    ) -> Order:
        """Write the intent to order `groups`, and reserve the price of all.

        Raises
        ------
        BudgetReachedError
            The price does not fit under `max_cost`; nothing was written.
        """
        order = Order(uuid.uuid4().hex, now(), None, None)
        with self._ledger.transaction() as db:
            db.execute("INSERT INTO orders (id, created) VALUES (?, ?)", (order.id, order.created))
            for number, group in enumerate(groups):
                prints = tuple(fingerprint(request) for request in group.orders)
                # The order's own: a file of another batch holds no answer to it.
                custom_id = f"{order.id[:12]}-{number:05d}"
                line = Line(custom_id, self._ledger.begin_in(db, group.orders), group, prints)
                order.lines[line.custom_id] = line
                order.ids.add(line.custom_id)
                db.execute(
                    "INSERT INTO order_lines (order_id, custom_id, attempt, requests) VALUES (?, ?, ?, ?)",
                    (order.id, line.custom_id, line.attempt, _dump(line)),
                )
        return order

    def open(self, *, of: Set[str]) -> list[Order]:
        """Orders with an open line of a request with one of the fingerprints `of`, oldest first."""
        found: dict[str, Order] = {}
        with self._ledger.transaction() as db:
            rows = db.execute(
                "SELECT o.id, o.created, o.input_file, o.batch, l.custom_id, l.attempt, l.requests"
                " FROM orders o JOIN order_lines l ON l.order_id = o.id JOIN attempts a ON a.id = l.attempt"
                " WHERE a.state = 'in_flight' ORDER BY o.created, o.id, l.custom_id"
            ).fetchall()
            listed = db.execute("SELECT order_id, custom_id FROM order_lines").fetchall()
        for order_id, created, input_file, batch, custom_id, attempt, requests in rows:
            order = found.setdefault(order_id, Order(order_id, created, input_file, batch))
            order.lines[custom_id] = _load(custom_id, attempt, requests)
        for order_id, custom_id in listed:
            if order_id in found:
                found[order_id].ids.add(custom_id)
        return [o for o in found.values() if any(of & set(line.fingerprints) for line in o.lines.values())]

    def uploaded(self, order: Order, input_file: str) -> None:
        """Write where an order's requests lie. A batch may be created of them from now on."""
        with self._ledger.transaction() as db:
            db.execute("UPDATE orders SET input_file=? WHERE id=?", (input_file, order.id))
        order.input_file = input_file

    def placed(self, order: Order, batch: str) -> None:
        """Write which batch came of an order."""
        with self._ledger.transaction() as db:
            db.execute("UPDATE orders SET batch=? WHERE id=?", (batch, order.id))
        order.batch = batch


def open_fingerprints(path: Path | None) -> set[str]:
    """Fingerprints of the requests that are on order in the ledger at `path`, which is neither created nor changed for it."""
    if path is None or not path.is_file():
        return set()
    ledger = Ledger(path, price_nano=0, max_nano=None)
    try:
        with ledger.transaction() as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name='order_lines'").fetchone() is None:
                return set()
            rows = db.execute(
                "SELECT l.requests FROM order_lines l JOIN attempts a ON a.id = l.attempt WHERE a.state = 'in_flight'"
            ).fetchall()
    finally:
        ledger.close()
    return {found for (requests,) in rows for _, found in read_json(requests)}


def _dump(line: Line) -> str:
    return json.dumps([[asdict(r), p] for r, p in zip(line.group.orders, line.fingerprints, strict=True)])


def _load(custom_id: str, attempt: int, text: str) -> Line:
    pairs = read_json(text)
    requests = tuple(GenerationRequest(**request) for request, _ in pairs)
    return Line(custom_id, attempt, Group(requests), tuple(found for _, found in pairs))
