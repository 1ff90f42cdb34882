"""`images-batch`: an order is bought once, whatever happens to the process, the network or the batch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allfour.errors import BackendError
from allfour.models._hosted.ledger import read_totals
from allfour.models.generators._openai.batching import left_in_words, read_state
from allfour.models.generators.base import Failed, Generated
from allfour.models.generators.images_batch import ImagesBatch, ImagesBatchConfig
from allfour.models.generators.openai_images import SettingsError
from tests.image_services import REFUSED, SHAPES, ImageServices
from tests.loopback_batch_server import Hangup, LoopbackBatchServer
from tests.models.generators.hosted_helpers import KEY, KEY_ENV, by_key, kinds, requests
from tests.models.generators.hosted_kills import Caller, at

MODERATED = {"error": {"code": "moderation_blocked", "message": "Rejected by our safety system.", "type": "x"}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackBatchServer]:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    with LoopbackBatchServer() as running:
        yield running


def settings(server: LoopbackBatchServer, **more: Any) -> dict[str, Any]:
    return {
        "model": "gpt-image-2.5-flare", "base_url": server.base_url, "api_key_env": KEY_ENV, "price_per_image": 0.02,
        "poll_seconds": 0.01, "timeout": 5.0, "max_retries": 2, **more,
    }  # fmt: skip


def batch(server: LoopbackBatchServer, ledger: Path | None = None, **more: Any) -> ImagesBatch:
    return ImagesBatch(**settings(server, **more), ledger_path=ledger)


def test_images_come_for_half_the_price_in_the_order_of_their_ids(server: LoopbackBatchServer, tmp_path: Path) -> None:
    made = batch(server, tmp_path / "l", currency="USD")
    assert "80 images in 80 requests, about 0.80 USD at 0.01 each" in made.estimate(requests(20, 4)).describe()
    messages: list[str] = []
    made.tell(messages.append)
    found = by_key(made.generate(requests(20, 4)))
    assert kinds(found.values()) == {"Generated": 80}
    for (prompt_id, _), outcome in found.items():  # the server sent them in reverse
        assert isinstance(outcome, Generated)
        assert outcome.request.prompt == f"prompt number {int(prompt_id[1:])}"
    (sent,) = [lines for name, lines in server.files.items() if name.startswith("file-0")]
    assert sent[0]["url"] == "/v1/images/generations"
    assert sent[0]["body"] == {"model": "gpt-image-2.5-flare", "prompt": "prompt number 0", "n": 1}
    assert len({line["custom_id"] for line in sent}) == 80
    spent = made.spent()
    assert (spent.answered_images, spent.uncertain_images, spent.spent) == (80, 0, 0.8)
    assert server.total_billed == 80
    assert any("in_progress" in line for line in messages)


@pytest.mark.parametrize("where", ["uploaded", "created", "looked"])
def test_a_kill_at_each_point_buys_nothing_twice(server: LoopbackBatchServer, tmp_path: Path, where: str) -> None:
    server.answer = lambda prompt, n: (400, MODERATED) if prompt.endswith("number 1") else None
    size = (2, 4)
    caller = Caller(tmp_path / "run", "images-batch", settings(server), {KEY_ENV: KEY, "NO_PROXY": "*"}, size)
    server.looks_until_end = 5
    counts = {"uploaded": (1, 1, 1), "created": (1, 1, 2), "looked": (1, 1, 2)}
    for count in counts[where]:  # three kills
        step = at(count, caller.kill)
        server.hook = lambda event, step=step: step() if event == where else None
        if where == "created" and server.batches:  # is found again, and never created twice
            server.hook = lambda event, step=step: step() if event == "looked" else None
        assert caller.run() == -9
    server.hook = lambda event: None
    assert caller.run() == 0
    journal = caller.journal()
    assert len(journal) == size[0] * size[1]
    assert sum(entry["kind"] == "Refused" for entry in journal.values()) == 4
    assert len(server.batches) == 1, "an order was bought twice"
    assert max(server.ran.values()) == 4
    totals = read_totals(tmp_path / "run" / "ledger.sqlite")
    assert (totals.answered_images, totals.uncertain_images, totals.in_flight) == (server.total_billed, 0, 0)
    assert totals.rejected == 4


def test_a_lost_answer_to_the_order_is_looked_up(server: LoopbackBatchServer) -> None:
    def lose(event: str) -> None:
        if event == "created":
            raise Hangup

    server.hook = lose
    assert kinds(batch(server).generate(requests(2, 2))) == {"Generated": 4}
    assert len(server.batches) == 1


def test_an_order_in_doubt_is_never_sent_again(server: LoopbackBatchServer, tmp_path: Path) -> None:
    def lose(event: str) -> None:
        if event == "created":
            raise Hangup

    server.hook, server.lists_batches = lose, False
    for _ in range(2):
        with pytest.raises(BackendError, match=r"not known .*because the server does not list its batches"):
            list(batch(server, tmp_path / "l").generate(requests(1, 1)))
    assert len(server.batches) == 1
    assert read_totals(tmp_path / "l").spent == 0.01  # on order: counts as spent
    server.lists_batches = True
    assert kinds(batch(server, tmp_path / "l").generate(requests(1, 1))) == {"Generated": 1}


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(server: LoopbackBatchServer) -> None:
    server.create_status = [503, 429]
    assert kinds(batch(server).generate(requests(1, 1))) == {"Generated": 1}
    server.create_status = [400] * 3
    made = batch(server)
    with pytest.raises(BackendError, match="did not accept a batch"):
        list(made.generate(requests(1, 1)))
    assert len(server.create_status) == 2
    assert len(server.batches) == 1


@pytest.mark.parametrize("names_the_rest", [True, False])
@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_it_made(
    server: LoopbackBatchServer, tmp_path: Path, ending: str, names_the_rest: bool
) -> None:
    server.ending, server.worked_share, server.names_the_rest = ending, 0.5, names_the_rest
    found = list(batch(server, tmp_path / "l").generate(requests(5, 2)))
    assert kinds(found) == {"Generated": 5, "Failed": 5}
    assert any(ending in outcome.error for outcome in found if isinstance(outcome, Failed))
    totals = read_totals(tmp_path / "l")
    assert (totals.answered_images, totals.uncertain_images, totals.rejected) == (server.total_billed, 0, 5)
    server.ending = "completed"
    rest = [outcome.request for outcome in found if isinstance(outcome, Failed)]
    assert kinds(batch(server, tmp_path / "l").generate(rest)) == {"Generated": 5}  # what was not made is ordered again
    assert max(server.billed.values()) == 2


def test_a_batch_that_is_not_taken_says_why_and_costs_nothing(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.ending = "failed"
    server.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached.", "line": None}]
    with pytest.raises(BackendError, match="Enqueued token limit reached"):
        list(batch(server, tmp_path / "l").generate(requests(2, 2)))
    assert read_totals(tmp_path / "l").spent == 0
    server.ending = "completed"
    assert kinds(batch(server, tmp_path / "l").generate(requests(2, 2))) == {"Generated": 4}


@pytest.mark.parametrize("shape", [name for name, known in SHAPES.items() if "chat" not in known.path])
def test_every_shape_with_every_fault_and_three_kills(server: LoopbackBatchServer, tmp_path: Path, shape: str) -> None:
    reply = SHAPES[shape].refusal(ImageServices.__new__(ImageServices), REFUSED)
    faults: dict[tuple[str, int], Any] = {
        ("prompt 0", 0): (500, {"error": {"message": "the server had an error"}}),
        ("prompt 1", 1): (504, {"error": {"message": "gateway"}}),
        ("prompt 3", 2): (200, {"data": [{"b64_json": "%%%"}]}),
        ("prompt 4", 3): (None, {"code": "odd", "message": "something"}),
        ("prompt 5", 0): (429, {"error": {"message": "busy"}}),
    }
    server.answer = lambda prompt, n: reply if REFUSED in prompt else faults.get((prompt, n))
    server.create_status, server.look_status, server.looks_until_end = [503], [500, 502], 5
    prompts = [f"a {REFUSED} thing {n}" if n in (2, 7) else f"prompt {n}" for n in range(20)]
    caller = Caller(tmp_path / "run", "images-batch", settings(server), {KEY_ENV: KEY, "NO_PROXY": "*"}, (prompts, 4))
    for where, count in (("created", 1), ("looked", 2), ("line", 31)):
        step = at(count, caller.kill)
        server.hook = lambda event, step=step, where=where: step() if event == where else None
        assert caller.run() == -9

    def tear(event: str) -> None:
        if event == "line" and not torn:
            torn.append(event)
            raise Hangup

    torn: list[str] = []
    server.hook = tear
    assert caller.run() == 0
    assert torn
    journal = caller.journal()
    kinds = Counter(entry["kind"] for entry in journal.values())
    assert kinds == {"Generated": 67, "Refused": 8, "Failed": 5}, "each refusal is a row, once"
    assert len(server.batches) == 1, "an order was bought twice"
    assert server.ran == Counter(dict.fromkeys(prompts, 4))
    totals = read_totals(tmp_path / "run" / "ledger.sqlite")
    # A server that marks an image as withheld and sends it has made it; garbled base64 came, and a gateway's answer may have.
    assert totals.answered_images == server.total_billed + 8 * SHAPES[shape].blackened + 1
    assert (totals.uncertain_images, totals.in_flight) == (1, 0)
    codes = {entry["code"] for entry in journal.values() if entry["kind"] == "Refused"}
    assert codes == {SHAPES[shape].code}


def test_each_fault_of_a_line_is_its_own_row(server: LoopbackBatchServer, tmp_path: Path) -> None:
    replies: dict[str, Any] = {
        "prompt number 0": (500, {"error": {"message": "the server had an error"}}),
        "prompt number 1": (504, {"error": {"message": "gateway"}}),
        "prompt number 2": (200, {"data": [{"b64_json": "%%%"}]}),
        "prompt number 3": (200, "no object"),
        "prompt number 4": (200, {"data": []}),
        "prompt number 5": (None, {"code": "odd", "message": "something"}),
        "prompt number 6": (200, {"data": [{"url": "ftp://host/x.png"}]}),
    }
    server.answer = lambda prompt, n: replies.get(prompt)
    found = by_key(batch(server, tmp_path / "l").generate(requests(8, 1)))
    assert kinds(found.values()) == {"Failed": 7, "Generated": 1}
    totals = read_totals(tmp_path / "l")
    # Garbled base64 and an address came, so they are paid for; a gateway's answer and one that cannot be read may be.
    assert (totals.answered_images, totals.uncertain_images, totals.rejected) == (3, 2, 2)
    assert totals.in_flight == 0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {"error": {"message": "bad key"}}), "does not accept the API key"),
        ((429, {"error": {"code": "insufficient_quota", "message": "no credit"}}), "cannot pay"),
        ((404, {"error": {"code": "model_not_found", "message": "no such model"}}), "is not served at"),
    ],
)
def test_what_meets_every_line_stops_the_run(server: LoopbackBatchServer, reply: Any, message: str) -> None:
    server.answer = lambda prompt, n: reply
    with pytest.raises(BackendError, match=message):
        list(batch(server).generate(requests(2, 2)))


def test_a_download_that_breaks_off_is_taken_up_again(server: LoopbackBatchServer, tmp_path: Path) -> None:
    def tear(event: str) -> None:
        if event == "line" and server.events["line"] in (3, 9):
            raise Hangup

    server.hook = tear
    assert kinds(batch(server, tmp_path / "l").generate(requests(10, 1))) == {"Generated": 10}
    assert len(server.downloads) == 3
    assert read_totals(tmp_path / "l").answered_images == server.total_billed == 10


def test_looks_that_fail_do_not_end_the_waiting_unless_they_go_on(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.look_status = [500] * 3
    made = batch(server, max_retries=0)
    assert kinds(made.generate(requests(1, 1))) == {"Generated": 1}
    server.look_status = [500] * 20
    with pytest.raises(BackendError, match="cannot be checked"):
        list(batch(server, tmp_path / "l", max_retries=0).generate(requests(1, 1)))
    server.look_status = []
    assert kinds(batch(server, tmp_path / "l").generate(requests(1, 1))) == {"Generated": 1}
    assert len(server.batches) == 2


def test_the_waiting_has_an_end_and_goes_on_with_the_next_command(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.looks_until_end = 10**6
    with pytest.raises(BackendError, match=r"generator.wait_hours\): Batch batch_0000: in_progress"):
        list(batch(server, tmp_path / "l", wait_hours=1e-5).generate(requests(2, 2)))
    again = batch(server, tmp_path / "l")
    assert "4 images already ordered, and 0 images in 0 requests" in again.estimate(requests(2, 2)).describe()
    server.looks_until_end = 0
    assert kinds(again.generate(requests(2, 2))) == {"Generated": 4}
    assert len(server.batches) == 1


def test_a_batch_that_the_server_forgot_is_counted_as_spent(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.hook = lambda event: server.batches.clear() if event == "looked" else None
    found = list(batch(server, tmp_path / "l").generate(requests(1, 2)))
    assert kinds(found) == {"Failed": 2}
    assert read_totals(tmp_path / "l").uncertain_images == 2


def test_no_order_passes_the_limit(server: LoopbackBatchServer, tmp_path: Path) -> None:
    made = batch(server, tmp_path / "l", max_cost=0.05, images_per_batch=2)
    found = []
    with pytest.raises(BackendError, match=r"generator.max_cost of 0.05 leaves no room"):
        found.extend(made.generate(requests(4, 2)))
    # The outcomes came before the error.
    assert server.total_billed == 5
    assert len(server.batches) == 3
    assert made.spent().spent == 0.05


def test_a_study_counts_the_price_of_a_batch_and_caps_it(server: LoopbackBatchServer, tmp_path: Path) -> None:
    config = ImagesBatchConfig(backend="images-batch", **settings(server, currency="USD"))
    assert config.price() == (0.01, "USD")
    assert config.capped(0.03).max_cost == 0.03
    with pytest.raises(BackendError, match=r"generator.max_cost of 0.03 leaves no room"):
        list(config.capped(0.03).build(ledger=tmp_path / "l").generate(requests(1, 4)))
    assert config.booked(tmp_path / "l") == 0.03


def test_an_order_of_more_than_is_asked_for_now(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.looks_until_end = 10**6
    with pytest.raises(BackendError):
        list(batch(server, tmp_path / "l", wait_hours=1e-5).generate(requests(3, 2)))
    server.looks_until_end = 0
    assert kinds(batch(server, tmp_path / "l").generate(requests(1, 2))) == {"Generated": 2}
    assert kinds(batch(server, tmp_path / "l").generate(requests(3, 2)[2:])) == {"Generated": 4}
    assert server.total_billed == 6


def test_several_images_of_a_line(server: LoopbackBatchServer) -> None:
    found = by_key(batch(server, images_per_request=4).generate(requests(2, 4)))
    assert kinds(found.values()) == {"Generated": 8}
    assert server.ran == {"prompt number 0": 1, "prompt number 1": 1}


def test_doctor_looks_and_orders_nothing(server: LoopbackBatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> Any:
        return ImagesBatchConfig(backend="images-batch", **settings(server)).check()

    assert check().ok
    server.lists_batches = False
    assert "Whether" in check().warnings[0]
    server.has_batches = False
    found = check()
    assert not found.ok
    assert "generator.backend to openai-images" in found.mend
    monkeypatch.setenv(KEY_ENV, "wrong")
    assert "does not accept the API key" in check().message
    assert not server.files


@pytest.mark.parametrize("wrong", [{"discount": 1.0}, {"images_per_batch": 0}, {"images_per_request": 11}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ImagesBatch(model="m", base_url="https://x.example/v1", **wrong)


def test_how_far_a_batch_is_in_words() -> None:
    known = {"id": "b", "status": "in_progress", "created_at": 1000, "expires_at": 90000}
    counts = {"total": 80, "completed": 18, "failed": 2}
    at_pace = left_in_words(read_state({**known, "request_counts": counts}), now=1000 + 20 * 60)
    assert at_pace == "in_progress, 20 of 80 done, about 60 min left"
    assert left_in_words(read_state(known), now=3600) == "in_progress, at most 24.0 h left"
    with pytest.raises(ValueError, match="no id"):
        read_state({"error": 1})


# --- files that say what is not so ------------------------------------------------------------------------------------


def test_a_file_of_another_batch_answers_nothing(server: LoopbackBatchServer, tmp_path: Path) -> None:
    """Lines of two batches would else be told apart by nothing, and a picture of one prompt stand under another."""
    assert kinds(batch(server, tmp_path / "l").generate(requests(2, 1))) == {"Generated": 2}
    look = server.look
    server.look = lambda name: look(name) | {"output_file_id": "file-output-batch_0000"}  # type: ignore[method-assign]
    found = by_key(batch(server, tmp_path / "l").generate(requests(["another", "and another"], 1)))
    assert kinds(found.values()) == {"Failed": 2}
    totals = read_totals(tmp_path / "l")
    assert (totals.answered_images, totals.uncertain_images) == (2, 2)
    assert totals.answered_images + totals.uncertain_images >= server.total_billed


def test_a_line_that_stands_twice_is_one_answer(server: LoopbackBatchServer, tmp_path: Path) -> None:
    """The server made two images and its file has one of them, twice: which line the other was of, nobody can tell."""
    server.ending, server.worked_share, server.names_the_rest = "expired", 0.5, False
    look = server.look

    def twice(name: str) -> dict[str, Any]:
        state = look(name)
        if file := state["output_file_id"]:
            foreign = server.files[file][0] | {"custom_id": "of-another-order"}
            server.files[file] = [server.files[file][0], server.files[file][0], foreign]
        return state

    server.look = twice  # type: ignore[method-assign]
    found = by_key(batch(server, tmp_path / "l").generate(requests(4, 1)))
    assert kinds(found.values()) == {"Generated": 1, "Failed": 3}
    totals = read_totals(tmp_path / "l")
    assert (totals.answered_images, totals.uncertain_images, server.total_billed) == (1, 3, 2)


@pytest.mark.parametrize("spell", [lambda r: r | {"status_code": "200"}, lambda r: {"body": r["body"]},
                                   lambda r: r | {"body": json.dumps(r["body"])}], ids=["text", "none", "body as text"])  # fmt: skip
def test_an_answer_is_taken_however_its_line_is_spelled(
    server: LoopbackBatchServer, tmp_path: Path, spell: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    look = server.look

    def spelled(name: str) -> dict[str, Any]:
        state = look(name)
        for entry in server.files.get(state["output_file_id"] or "", []):
            entry["response"] = spell(entry["response"])
        return state

    server.look = spelled  # type: ignore[method-assign]
    assert kinds(batch(server, tmp_path / "l").generate(requests(2, 1))) == {"Generated": 2}
    assert read_totals(tmp_path / "l").answered_images == 2


def test_a_line_that_says_nothing_is_counted_as_spent(server: LoopbackBatchServer, tmp_path: Path) -> None:
    server.answer = lambda prompt, n: (None, None)
    (outcome,) = batch(server, tmp_path / "l").generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert read_totals(tmp_path / "l").uncertain_images == 1
