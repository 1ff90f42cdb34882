"""The money ledger by itself: what is on the disk, and what a signal may not undo."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from allfour.errors import BackendError
from allfour.models._hosted.ledger import Kept, Ledger, Settlement
from tests.models.generators.hosted_helpers import requests
from tests.models.generators.test_openai_images_money import rows


def test_every_booking_reaches_the_disk(tmp_path: Path) -> None:
    """A power cut may not undo an intent: SQLite's FULL, which is not what it does with a write-ahead log by itself everywhere."""
    ledger = Ledger(tmp_path / "ledger.sqlite", price_nano=1, max_nano=3)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_database_elsewhere_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A run folder may come from anywhere, and its ledger lead to anybody's database."""
    mine = tmp_path / "mine.sqlite"
    with sqlite3.connect(mine) as database:
        database.execute("PRAGMA user_version=0")
        database.execute("CREATE TABLE mine (x)")
    before = mine.read_bytes()
    (tmp_path / "ledger.sqlite").symlink_to(mine)
    with pytest.raises(BackendError, match="a link, which is not written through"):
        Ledger(tmp_path / "ledger.sqlite", price_nano=1, max_nano=3)
    assert mine.read_bytes() == before


class _Interrupted:
    """A database while one of whose statements runs a signal comes: Python raises once it has run."""

    def __init__(self, database: sqlite3.Connection, statement: str) -> None:
        self._database, self._statement = database, statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def execute(self, statement: str, *values: Any) -> Any:
        cursor = self._database.execute(statement, *values)
        if statement == self._statement:
            self._statement = ""
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize(("statement", "booked"), [("BEGIN IMMEDIATE", 1), ("COMMIT", 2)])
def test_a_signal_as_a_transaction_begins_or_ends_leaves_none_open(tmp_path: Path, statement: str, booked: int) -> None:
    """Or no thread could book the answer that it waits for: it would count as lost, and be paid for again."""
    ledger = Ledger(tmp_path / "ledger.sqlite", price_nano=1, max_nano=3)
    under_way = ledger.begin(requests(1, 1))
    ledger._db = _Interrupted(ledger._db, statement)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        ledger.begin(requests(1, 1))
    ledger.settle(under_way, Settlement(billed=1), ())
    ledger.close()
    assert [row["state"] for row in rows(tmp_path / "ledger.sqlite")] == ["answered", "in_flight"][:booked]


def test_what_was_handed_over_is_forgotten_in_one_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the main thread's own booking. A signal as a context manager hands over would leave its lock to a traceback."""
    ledger = Ledger(tmp_path / "ledger.sqlite", price_nano=1, max_nano=None)
    (order,) = requests(1, 1)
    ledger.keep(Kept("print", order.prompt_id, order.index, {"kind": "refused"}))
    monkeypatch.setattr(Ledger, "transaction", None)
    ledger.release("print", order)
    assert ledger.kept("print", order) is None
    ledger.close()
