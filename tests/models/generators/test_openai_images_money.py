"""`openai-images`: what is counted as spent, and that nothing is paid for twice."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from allfour.errors import BackendError
from allfour.models._hosted import client
from allfour.models._hosted.connection import money, to_nano
from allfour.models._hosted.deadline import within
from allfour.models._hosted.ledger import BudgetReachedError, Ledger, Settlement
from allfour.models.generators.base import spending_of
from allfour.models.generators.openai_images import LedgerTotals, OpenAIImages
from tests.loopback_image_server import Asked, Fault, faults_by_prompt
from tests.models.generators.hosted_helpers import (
    KEY,
    KEY_ENV,
    Generated,
    LoopbackImageServer,
    Refused,
    by_key,
    kinds,
    make,
    requests,
)
from tests.models.generators.hosted_kills import Caller

pytestmark = pytest.mark.usefixtures("key")


def rows(ledger: Path) -> list[dict[str, Any]]:
    database = sqlite3.connect(ledger)
    database.row_factory = sqlite3.Row
    try:
        return [dict(r) for r in database.execute("SELECT * FROM attempts ORDER BY id")]
    finally:
        database.close()


def kept_rows(ledger: Path) -> int:
    database = sqlite3.connect(ledger)
    try:
        return int(database.execute("SELECT count(*) FROM kept").fetchone()[0])
    finally:
        database.close()


# --- the estimate ----------------------------------------------------------------------------------------------------


def test_estimate(server: LoopbackImageServer) -> None:
    estimate = make(server, price_per_image=0.02, max_cost=1.0, images_per_request=3).estimate(requests(20, 4))
    assert (estimate.images, estimate.api_requests, estimate.cost, estimate.fits) == (80, 40, 1.6, False)
    assert "80 images in 40 requests, about 1.60" in estimate.describe()
    assert "stop the run before it is complete" in estimate.describe()
    assert make(server).estimate(requests(1, 1)).describe().startswith("1 image in 1 request; cost unknown")
    assert make(server, price_per_image=0.1, max_cost=0.3).estimate(requests(1, 3)).fits  # 3 x 0.1 is 0.3 here
    assert not server.asked


def test_estimate_counts_what_was_spent_before(server: LoopbackImageServer, tmp_path: Path) -> None:
    generator = make(server, price_per_image=0.5, max_cost=2.0, ledger_path=tmp_path / "run" / "ledger.sqlite")
    list(generator.generate(requests(1, 3)))
    estimate = generator.estimate(requests(1, 2))
    assert (estimate.already_spent, estimate.cost, estimate.fits) == (1.5, 1.0, False)
    assert "in addition to 1.50 already spent" in estimate.describe()


def test_amounts_show_every_digit_that_they_have() -> None:
    assert [money(amount) for amount in (0, 1.6, 0.045, 3, 1234567.5, 0.000000001)] == [
        "0.00", "1.60", "0.045", "3.00", "1234567.50", "0.000000001"
    ]  # fmt: skip


def test_what_was_asked_for_is_what_is_spent(
    server: LoopbackImageServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.plan = lambda asked: Fault("short", count=-49)  # 50 images for n = 1
    generator = make(server, price_per_image=0.015, max_cost=0.06, concurrency=1, ledger_path=tmp_path / "l.sqlite")
    with pytest.raises(BackendError, match=r"the run's ledger shows 0\.06 spent"):
        for outcome in generator.generate(requests(1, 5)):
            assert isinstance(outcome, Generated)
    assert len(server.asked) == 4
    assert (generator.spent().spent, generator.spent().answered_images) == (0.06, 4)
    assert generator.facts() == {"images_beyond_order": 4 * 49}
    assert {row["code"] for row in rows(tmp_path / "l.sqlite")} == {"surplus_49"}
    assert [record.getMessage()[:55] for record in caplog.records] == [
        "The server sent 50 images where 1 was asked for. Only t"
    ]


# --- the ledger against the server's own count -----------------------------------------------------------------------


def test_ledger_equals_the_servers_count_under_every_fault(server: LoopbackImageServer, tmp_path: Path) -> None:
    server.plan = faults_by_prompt(
        0.1,
        [
            Fault("moderation"),
            Fault("rate_limit"),
            Fault("status", status=500),
            Fault("drop_after"),
            Fault("short"),
            Fault("garbage_image"),
            Fault("null_data"),
            Fault("status", status=409),
        ],
        seed=5,
    )
    ledger = tmp_path / "ledger.sqlite"
    todo = requests(20, 4)
    generator = make(
        server, price_per_image=0.02, images_per_request=2, concurrency=8, max_retries=6, ledger_path=ledger
    )
    found = by_key(generator.generate(todo))
    assert set(found) == {r.key for r in todo}
    counted = kinds(found.values())
    assert counted["Refused"] == 8
    assert counted["Failed"] >= 1
    assert sum(counted.values()) == 80
    totals = generator.spent()
    assert totals.attempts == len(server.asked)
    assert totals.answered_images + totals.uncertain_images == server.total_billed
    assert totals.uncertain_images > 0
    assert totals.in_flight == 0
    assert totals.spent == pytest.approx(0.02 * server.total_billed)
    assert {r["state"] for r in rows(ledger)} == {"answered", "rejected", "unknown"}
    assert kept_rows(ledger) == 0


@pytest.mark.parametrize(
    ("fault", "state", "billed"),
    [
        (Fault("moderation"), "rejected", 0),
        (Fault("rate_limit"), "rejected", 0),
        (Fault("status", status=500), "rejected", 0),
        (Fault("raw", status=504, body={"detail": "gateway timeout"}), "unknown", 2),
        (Fault("drop_after"), "unknown", 2),
        (Fault("drop_before"), "unknown", 2),  # nobody can tell the two apart
        (Fault("slow", seconds=30.0), "unknown", 2),
        (Fault("raw", status=200, body=b"<html>"), "unknown", 2),
        (Fault("garbage_image"), "answered", 2),
        (Fault("short", count=1), "answered", 1),
        (Fault("null_data"), "answered", 0),
    ],
)
def test_what_counts_as_spent(
    server: LoopbackImageServer, tmp_path: Path, fault: Fault, state: str, billed: int
) -> None:
    server.plan = lambda asked: fault if asked.attempt == 1 else Fault("moderation")
    ledger = tmp_path / "ledger.sqlite"
    timeout = 0.5 if fault.kind == "slow" else 5.0
    options = {"images_per_request": 2, "max_retries": 0, "timeout": timeout}
    list(make(server, ledger_path=ledger, **options).generate(requests(1, 2)))
    first = rows(ledger)[0]
    assert (first["state"], first["billed"], first["asked"], first["indexes"]) == (state, billed, 2, "[0, 1]")
    assert first["started"] <= first["ended"]


def test_a_timed_out_attempt_and_its_retry_both_count(
    server: LoopbackImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first answer is late, and only it is not waited for."""
    server.plan = lambda asked: Fault("slow", seconds=30.0) if asked.attempt == 1 else None
    generator = make(server, timeout=30.0, price_per_image=1.0, ledger_path=tmp_path / "ledger.sqlite")
    assert generator.preflight().ok
    patience = itertools.chain([0.3], itertools.repeat(30.0))
    monkeypatch.setattr(client, "within", lambda seconds: within(next(patience)))
    assert kinds(generator.generate(requests(1, 1))) == {"Generated": 1}
    assert generator.spent() == LedgerTotals(2, 1, 1, 0, 0, 2.0)


def test_no_connection_costs_nothing(tmp_path: Path) -> None:
    with LoopbackImageServer() as server:
        generator = make(server, price_per_image=1.0, max_retries=0, ledger_path=tmp_path / "ledger.sqlite")
        assert generator.preflight().ok
        list(generator.generate(requests(1, 1)))
    assert kinds(generator.generate(requests(1, 2))) == {"Failed": 2}
    assert generator.spent() == LedgerTotals(3, 1, 0, 0, 0, 1.0)


def test_usage_and_request_id_are_kept(server: LoopbackImageServer, tmp_path: Path) -> None:
    list(make(server, ledger_path=tmp_path / "ledger.sqlite").generate(requests(1, 1)))
    (row,) = rows(tmp_path / "ledger.sqlite")
    assert row["request_id"] == "req_000001"
    assert '"output_tokens": 439' in row["usage"]


def test_the_intent_is_on_disk_before_the_request_arrives(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    seen: list[tuple[int, str]] = []

    def plan(asked: Asked) -> None:
        seen.append((len(rows(ledger)), rows(ledger)[-1]["state"]))

    server.plan = plan
    list(make(server, concurrency=1, ledger_path=ledger).generate(requests(1, 3)))
    assert seen == [(1, "in_flight"), (2, "in_flight"), (3, "in_flight")]


# --- the limit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("images_per_request", [1, 4])
def test_max_cost_is_reached_but_never_passed(
    server: LoopbackImageServer, tmp_path: Path, concurrency: int, images_per_request: int
) -> None:
    server.latency = 0.02
    generator = make(
        server,
        price_per_image=0.1,
        max_cost=0.7,
        concurrency=concurrency,
        images_per_request=images_per_request,
        ledger_path=tmp_path / "ledger.sqlite",
    )
    found = []
    with pytest.raises(BackendError, match=r"max_cost of 0\.7 leaves no room .* Raise generator\.max_cost") as caught:
        for outcome in generator.generate(requests(5, 4)):
            found.append(outcome)
    assert "repeat the same command" in str(caught.value)
    assert kinds(found) == {"Generated": 7}
    assert server.total_billed == 7
    assert generator.spent().spent == 0.7


def test_refusals_give_their_price_back(server: LoopbackImageServer) -> None:
    server.plan = lambda asked: Fault("moderation") if asked.prompt.endswith(("0", "1")) else None
    generator = make(server, price_per_image=1.0, max_cost=4.0, concurrency=8)
    assert kinds(generator.generate(requests(3, 4))) == {"Refused": 8, "Generated": 4}


def test_retries_cannot_pass_the_limit(server: LoopbackImageServer, tmp_path: Path) -> None:
    server.plan = lambda asked: Fault("drop_after")
    generator = make(server, price_per_image=1.0, max_cost=2.0, max_retries=9, ledger_path=tmp_path / "ledger.sqlite")
    with pytest.raises(BackendError, match="max_cost"):
        list(generator.generate(requests(1, 1)))
    assert server.total_billed == 2
    assert generator.spent().spent == 2.0


def test_a_raised_limit_goes_on_where_the_run_stopped(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    todo = requests(2, 4)
    first = []
    with pytest.raises(BackendError):
        for outcome in make(server, price_per_image=1.0, max_cost=3.0, ledger_path=ledger).generate(todo):
            first.append(outcome)
    have = {o.request.key for o in first}
    rest = [r for r in todo if r.key not in have]
    with pytest.raises(BackendError, match="max_cost of 3 leaves no room"):
        list(make(server, price_per_image=1.0, max_cost=3.0, ledger_path=ledger).generate(rest))
    assert server.total_billed == 3
    found = by_key(make(server, price_per_image=1.0, max_cost=8.0, ledger_path=ledger).generate(rest))
    assert set(found) | have == {r.key for r in todo}
    assert server.total_billed == 8


def test_two_processes_share_one_limit(tmp_path: Path) -> None:
    one, two = (Ledger(tmp_path / "ledger.sqlite", price_nano=1, max_nano=3) for _ in range(2))
    one.begin(requests(1, 2))
    assert two.affordable() == 1
    with pytest.raises(BudgetReachedError):
        two.begin(requests(1, 2))
    attempt = two.begin(requests(1, 1))
    assert one.affordable() == 0
    two.end(attempt, "rejected")
    assert one.affordable() == 1
    one.close()
    two.close()


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_an_answer_the_caller_did_not_commit_is_not_paid_for_twice(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    server.plan = lambda asked: Fault("moderation") if asked.prompt.endswith("1") else None
    todo = requests(2, 2)
    stream = make(server, concurrency=4, ledger_path=ledger).generate(todo)
    first = next(stream)
    stream.close()  # the caller died before its commit; the other answers had arrived or were under way
    seen = len(server.asked)
    assert kept_rows(ledger) == seen
    found = by_key(make(server, ledger_path=ledger).generate(todo))
    assert len(server.asked) == 4
    assert kinds(found.values()) == {"Generated": 2, "Refused": 2}
    again = found[first.request.key]
    assert again == first
    assert kept_rows(ledger) == 0


def test_kept_answers_are_only_for_the_same_settings_and_prompt(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    stream = make(server, ledger_path=ledger).generate(requests(["nurse"], 1))
    next(stream)
    stream.close()
    list(make(server, ledger_path=ledger).generate(requests(["pilot"], 1)))
    list(make(server, size="512x512", ledger_path=ledger).generate(requests(["nurse"], 1)))
    assert [a.prompt for a in server.asked] == ["nurse", "pilot", "nurse"]
    list(make(server, ledger_path=ledger).generate(requests(["nurse"], 1)))  # the first one's, still kept
    assert len(server.asked) == 3
    assert kept_rows(ledger) == 0


def test_a_run_with_faults_killed_three_times(server: LoopbackImageServer, tmp_path: Path) -> None:
    """20 prompts x 4, every tenth refused, faults among the rest, and SIGKILL at three moments."""
    refused = {2, 7}
    transient = faults_by_prompt(0.1, [Fault("rate_limit"), Fault("status", status=500)], seed=1)

    options = {
        "model": "gpt-image-2.5-flare", "base_url": server.base_url, "api_key_env": KEY_ENV, "price_per_image": 0.02, "max_cost": 100.0,
        "concurrency": 4, "max_retries": 4, "timeout": 5.0,
    }  # fmt: skip
    caller = Caller(tmp_path, "openai-images", options, {KEY_ENV: KEY, "NO_PROXY": "*"}, (20, 4))

    def plan(asked: Asked) -> Fault | None:
        if asked.number in (12, 35, 60):
            caller.kill()
        if int(asked.prompt.rsplit(" ", 1)[1]) in refused:
            return Fault("moderation")
        return transient(asked)

    server.plan = plan
    server.latency = 0.01
    assert [caller.run() for _ in range(4)] == [-9, -9, -9, 0]

    journal = caller.journal()
    assert set(journal) == {r.key for r in requests(20, 4)}
    assert {k for k, e in journal.items() if e["kind"] == "Refused"} == {
        (f"p{n:02d}", i) for n in refused for i in range(4)
    }
    assert {e["kind"] for e in journal.values()} == {"Generated", "Refused"}

    ledger = rows(tmp_path / "ledger.sqlite")
    generator = make(server, price_per_image=0.02, ledger_path=tmp_path / "ledger.sqlite")
    totals = generator.spent()
    lost = [r for r in ledger if r["state"] == "in_flight"]
    assert 1 <= totals.in_flight == len(lost) <= 3 * 4
    # No image that was answered was asked for again: one answer for each image of the journal, and no more.
    answered = [(r["prompt_id"], r["indexes"]) for r in ledger if r["state"] == "answered"]
    assert len(answered) == len(set(answered)) == 72
    # The books agree with the server's: equal but for requests that died between the two.
    billed = server.total_billed
    assert totals.answered_images == 72
    assert 72 <= billed <= totals.answered_images + totals.uncertain_images <= billed + len(lost)
    assert len(server.asked) <= totals.attempts <= len(server.asked) + len(lost)
    assert totals.spent == pytest.approx(0.02 * (72 + totals.uncertain_images))


# --- a ledger that is lost -------------------------------------------------------------------------------------------


def _settled(path: Path, images: int, *, price: float = 0.02) -> Ledger:
    ledger = Ledger(path, price_nano=to_nano(price), max_nano=None)
    for request in requests(images, 1):
        ledger.settle(ledger.begin([request]), Settlement(billed=1), keep=())
    return ledger


@pytest.mark.parametrize("loss", ["deleted", "emptied", "older copy", "nothing"])
def test_what_a_ledger_lacks_is_booked_again_and_said_once(tmp_path: Path, loss: str) -> None:
    path, older = tmp_path / "ledger.sqlite", tmp_path / "older.sqlite"
    _settled(older, 3).close()
    _settled(path, 10).close()
    made = OpenAIImages(model="m", base_url="http://127.0.0.1:9/v1", price_per_image=0.02, ledger_path=path)
    earlier = asdict(made.spent())
    if loss in ("deleted", "older copy"):
        path.unlink()
    if loss == "emptied":
        path.write_bytes(b"")
    if loss == "older copy":
        shutil.copy(older, path)
    logged = made.recount(earlier, existing=10)
    assert (logged is None) == (loss == "nothing")
    if logged is not None:
        count = 7 if loss == "older copy" else 10
        assert f"{count} images that it does not list are counted as spent ({0.02 * count:.2f})" in logged
    assert (made.spent().answered_images, made.spent().spent) == (10, 0.2)
    assert made.recount(earlier, existing=10) is None


def test_what_was_spent_and_what_all_will_have_cost(tmp_path: Path) -> None:
    ledger = _settled(tmp_path / "l", 3)
    ledger.begin(requests(1, 1))  # on the wire: booked, and still to come
    ledger.close()
    made = OpenAIImages(
        model="m", base_url="http://127.0.0.1:9/v1", price_per_image=0.02, currency="USD", ledger_path=tmp_path / "l"
    )
    assert spending_of(made, 7, price=(0.02, "USD")) == "0.08 USD spent, about 0.20 in all"
    assert spending_of(made, 0, price=(0.02, "USD")) == spending_of(made) == "0.08 USD spent"


def test_images_that_stand_are_counted_where_no_command_ended_and_an_older_price_is_kept(tmp_path: Path) -> None:
    def paid(name: str) -> OpenAIImages:
        return OpenAIImages(
            model="m", base_url="http://127.0.0.1:9/v1", price_per_image=0.02, ledger_path=tmp_path / name
        )

    first = paid("a.sqlite")
    assert first.recount({}, existing=0) is None
    assert first.recount({}, existing=5) is not None
    assert first.spent().spent == 0.1
    dearer = paid("b.sqlite")
    dearer.recount({"answered_images": 3, "uncertain_images": 1, "spent": 1.0}, existing=3)
    assert (dearer.spent().answered_images, dearer.spent().spent) == (4, 1.0)
    assert OpenAIImages(model="m", base_url="http://127.0.0.1:9/v1").recount({}, existing=5) is None  # in memory


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_ledger_is_one_clear_error(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_bytes(b"not a database" * 100)
    with pytest.raises(BackendError, match=r"ledger\.sqlite cannot be used"):
        list(make(server, ledger_path=ledger).generate(requests(1, 1)))
    assert not server.asked


def test_a_newer_ledger_is_not_touched(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(BackendError, match="format 99, which is newer"):
        make(server, ledger_path=ledger).spent()


def test_what_cannot_be_booked_is_not_sent(
    server: LoopbackImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("allfour.models._hosted.ledger.Ledger.begin", full)
    with pytest.raises(BackendError, match="database or disk is full"):
        list(make(server, ledger_path=tmp_path / "ledger.sqlite").generate(requests(1, 2)))
    assert not server.asked


def test_outcomes_survive_the_ledger_unchanged(server: LoopbackImageServer, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    stream = make(server, model="dall-e-3", concurrency=1, ledger_path=ledger).generate(requests(1, 1))
    first = next(stream)
    stream.close()
    (again,) = make(server, model="dall-e-3", ledger_path=ledger).generate(requests(1, 1))
    assert isinstance(again, Generated)
    assert again == first
    server.plan = lambda asked: Fault("moderation")
    stream = make(server, ledger_path=ledger).generate(requests(["other"], 1))
    refused = next(stream)
    stream.close()
    (again_refused,) = make(server, ledger_path=ledger).generate(requests(["other"], 1))
    assert isinstance(again_refused, Refused)
    assert again_refused == refused
