"""The money ledger: every attempt is written down before it is sent, and what came of it after.

A SQLite file in WAL mode beside the run. Three promises rest on it:

- `max_cost` is never passed by what was asked for: the price of an attempt is reserved, in the same transaction that
  checks the limit, before a byte is sent.
- What was in flight when the process died counts as spent: its row still says `in_flight`, and nobody can know better.
- An answer that arrived is kept here, with its bytes where it has any, until the caller has taken it, so that a death between
  the answer and the caller's own commit does not pay for the same thing twice.

Money is whole billionths of the currency the price was given in.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.models._hosted.connection import NANO

FORMAT = 1

State = Literal["in_flight", "answered", "rejected", "unsent", "unknown"]
"""in_flight: sent, no answer yet (after a crash: for ever). answered: what was ordered came, each counted. rejected: the server
said no, nothing spent. unsent: no connection came about, nothing spent. unknown: sent, and the answer was lost or cut
off (timeout, dropped connection, gateway error), so all images asked for count as spent."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    id         INTEGER PRIMARY KEY,
    started    TEXT NOT NULL,
    ended      TEXT,
    state      TEXT NOT NULL CHECK (state IN ('in_flight', 'answered', 'rejected', 'unsent', 'unknown')),
    prompt_id  TEXT NOT NULL,
    indexes    TEXT NOT NULL,              -- JSON list of the image indexes asked for
    asked      INTEGER NOT NULL,
    billed     INTEGER NOT NULL,           -- images counted as spent
    price_nano INTEGER NOT NULL,           -- price of one image, in billionths
    status     INTEGER,                    -- HTTP status
    code       TEXT,
    request_id TEXT,
    usage      TEXT                        -- JSON, as the server reported it
);
CREATE TABLE IF NOT EXISTS kept (
    fingerprint TEXT NOT NULL,             -- of the settings, the prompt and the seed
    prompt_id   TEXT NOT NULL,
    image_index INTEGER NOT NULL,
    outcome     TEXT NOT NULL,             -- JSON, without the bytes
    data        BLOB,
    PRIMARY KEY (fingerprint, prompt_id, image_index)
);
"""


class Order(Protocol):
    """One thing that is asked for and paid: an image of a prompt, an answer about an image."""

    @property
    def prompt_id(self) -> str:
        """What it is asked about."""
        ...

    @property
    def index(self) -> int:
        """Which of those that are asked about it."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """An outcome as it is kept."""

    fingerprint: str
    """What it must match to be taken again: settings, wording, the order."""
    prompt_id: str
    index: int
    record: Mapping[str, Any]
    """JSON-serialisable."""
    data: bytes | None = None


class BudgetReachedError(Exception):
    """The next attempt would pass `max_cost`."""


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """What a run has spent, by its own books."""

    attempts: int
    """HTTP requests for images, the client's retries included."""
    answered_images: int
    """Images that came back, of those asked for."""
    uncertain_images: int
    """Images asked for in attempts whose answer was lost: counted as spent, though the server may not have billed."""
    in_flight: int
    """Attempts still open: those of a process that died, once no process is running."""
    rejected: int
    """Attempts that the server turned down."""
    spent: float
    """(answered + uncertain images) x price, in the currency of `price_per_image`."""
    currency: str | None = None
    """Of `spent`, where the settings name it."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an answered attempt ended: the images it brought of those ordered, and what the server says about the bill."""

    billed: int
    code: str | None = None
    request_id: str | None = None
    usage: Mapping[str, Any] | None = None


class Ledger:
    """One run's ledger. Safe to use from several threads, and from several processes on one machine.

    Raises
    ------
    BackendError
        The file cannot be opened, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path | None, *, price_nano: int, max_nano: int | None) -> None:
        self._path = path
        self._price = price_nano
        self._max = max_nano
        self._lock = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_symlink():  # a run folder may come from anywhere, and so may lead to anybody's database
                    raise OSError("it is a link, which is not written through")
            self._db = sqlite3.connect(
                ":memory:" if path is None else path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # an intent that a power cut undoes would be money forgotten
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise BackendError(
                    f"The ledger {path} has format {version}, which is newer than this version of allfour can read ({FORMAT}). Update allfour."
                )
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise BackendError(
                f"The ledger {path} cannot be used ({error}). It records what this run has spent. Restore it from a backup, or move it away: spending is then counted again from run.json and the images, and no image is lost."
            ) from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block, or nothing of it. A signal that comes while it begins or ends leaves none open either."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- attempts ------------------------------------------------------------------------------------------------

    def begin(self, orders: Sequence[Order]) -> int:
        """Write the intent to ask for `orders` (about one thing) and reserve its price. Returns the attempt's id.

        Raises
        ------
        BudgetReachedError
            The price does not fit under `max_cost` any more; nothing was written.
        """
        with self.transaction() as db:
            return self.begin_in(db, orders)

    def begin_in(self, db: sqlite3.Connection, orders: Sequence[Order]) -> int:
        """`begin`, as a part of a transaction that writes more."""
        if self._max is not None and _spent(db) + len(orders) * self._price > self._max:
            raise BudgetReachedError
        cursor = db.execute(
            "INSERT INTO attempts (started, state, prompt_id, indexes, asked, billed, price_nano)"
            " VALUES (?, 'in_flight', ?, ?, ?, ?, ?)",
            (
                now(),
                orders[0].prompt_id,
                json.dumps([r.index for r in orders]),
                len(orders),
                len(orders),
                self._price,
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end(
        self,
        attempt: int,
        state: Literal["rejected", "unsent", "unknown"],
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        keep: Iterable[Kept] = (),
    ) -> None:
        """Write how an attempt that brought nothing to be paid for ended, and keep, in one transaction, what it decided."""
        with self.transaction() as db:
            db.execute(
                "UPDATE attempts SET ended=?, state=?, billed=CASE WHEN ?='unknown' THEN asked ELSE 0 END,"
                " status=?, code=?, request_id=? WHERE id=?",
                (now(), state, state, status, code, request_id, attempt),
            )
            for kept in keep:
                _keep(db, kept)

    def settle(self, attempt: int, settlement: Settlement, keep: Iterable[Kept]) -> None:
        """Write, in one transaction, that an attempt was answered, and keep what it brought."""
        with self.transaction() as db:
            db.execute(
                "UPDATE attempts SET ended=?, state='answered', billed=?, status=200, code=?, request_id=?, usage=?"
                " WHERE id=?",
                (
                    now(),
                    settlement.billed,
                    settlement.code,
                    settlement.request_id,
                    json.dumps(settlement.usage) if settlement.usage else None,
                    attempt,
                ),
            )
            for kept in keep:
                _keep(db, kept)

    def keep(self, kept: Kept) -> None:
        """Keep an outcome that stands apart from any settlement, such as an image fetched from its address."""
        with self.transaction() as db:
            _keep(db, kept)

    def recount(self, *, images: int, spent_nano: int, existing: int) -> tuple[int, int]:
        """Book what the run's own documents say was spent and this ledger does not know, since it was lost or is an older copy.

        Parameters
        ----------
        images, spent_nano
            What the ledger held when a command last ended.
        existing
            Images that were paid for and stand. They say something where the ledger holds nothing at all: an older copy may lack
            some of them, and they may be of another run.

        Returns
        -------
        The images and the billionths that were booked; zeros where nothing was missing.
        """
        with self.transaction() as db:
            attempts, known = db.execute("SELECT count(*), coalesce(sum(billed), 0) FROM attempts").fetchone()
            if not attempts:
                images, spent_nano = max(images, existing), max(spent_nano, existing * self._price)
            lacking, money = max(0, images - known), max(0, spent_nano - _spent(db))
            if not lacking and not money:
                return 0, 0
            count = max(1, lacking)
            each = -(-money // count)
            db.execute(
                "INSERT INTO attempts (started, ended, state, prompt_id, indexes, asked, billed, price_nano, code)"
                " VALUES (?, ?, 'answered', '', '[]', ?, ?, ?, 'recounted')",
                (now(), now(), count, count, each),
            )
            return count, count * each

    # -- kept outcomes -------------------------------------------------------------------------------------------

    def kept(self, fingerprint: str, order: Order) -> Kept | None:
        """The outcome kept for `order`, if one is."""
        with self._lock:
            row = self._db.execute(
                "SELECT outcome, data FROM kept WHERE fingerprint=? AND prompt_id=? AND image_index=?",
                (fingerprint, order.prompt_id, order.index),
            ).fetchone()
        return None if row is None else Kept(fingerprint, order.prompt_id, order.index, read_json(row[0]), row[1])

    def release(self, fingerprint: str, order: Order) -> None:
        """Forget the kept outcome of `order`: the caller has it.

        One statement and no `transaction`, since signals strike here: one that comes as `transaction` hands over would leave the
        lock to a frame of the traceback, while answers on the wire wait to be booked.
        """
        with self._lock:
            self._db.execute(
                "DELETE FROM kept WHERE fingerprint=? AND prompt_id=? AND image_index=?",
                (fingerprint, order.prompt_id, order.index),
            )

    # -- sums ----------------------------------------------------------------------------------------------------

    def affordable(self) -> int | None:
        """How many more orders fit under `max_cost`; None where there is no limit."""
        if self._max is None or not self._price:
            return None
        with self._lock:
            return max(0, (self._max - _spent(self._db)) // self._price)

    def totals(self) -> LedgerTotals:
        with self._lock:
            row = self._db.execute(
                "SELECT count(*), coalesce(sum(CASE WHEN state='answered' THEN billed END), 0),"
                " coalesce(sum(CASE WHEN state IN ('unknown', 'in_flight') THEN billed END), 0),"
                " coalesce(sum(state='in_flight'), 0), coalesce(sum(state='rejected'), 0) FROM attempts"
            ).fetchone()
            attempts, answered, uncertain, in_flight, rejected = map(int, row)
            return LedgerTotals(attempts, answered, uncertain, in_flight, rejected, _spent(self._db) / NANO)


def read_totals(path: Path | None) -> LedgerTotals:
    """Totals of the ledger at `path` without creating or changing it; zeros where there is none."""
    if path is None or not path.is_file():
        return LedgerTotals(0, 0, 0, 0, 0, 0.0)
    ledger = Ledger(path, price_nano=0, max_nano=None)
    try:
        return ledger.totals()
    finally:
        ledger.close()


def _spent(db: sqlite3.Connection) -> int:
    (spent,) = db.execute("SELECT coalesce(sum(billed * price_nano), 0) FROM attempts").fetchone()
    return int(spent)


def now() -> str:
    """As times are written in the ledger."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _keep(db: sqlite3.Connection, kept: Kept) -> None:
    db.execute(
        "INSERT OR REPLACE INTO kept (fingerprint, prompt_id, image_index, outcome, data) VALUES (?, ?, ?, ?, ?)",
        (kept.fingerprint, kept.prompt_id, kept.index, json.dumps(kept.record), kept.data),
    )
