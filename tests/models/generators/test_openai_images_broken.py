"""`openai-images` against a server that fails: what is retried, what is one failed row, and what stops the run."""

from __future__ import annotations

import json
import threading
import time

import pytest

from allfour.errors import BackendError
from allfour.models._hosted import dispatch
from tests.loopback_image_server import Asked, Fault, png
from tests.models.generators.hosted_helpers import (
    Failed,
    Generated,
    LoopbackImageServer,
    always,
    by_key,
    first_time,
    kinds,
    make,
    requests,
)

pytestmark = pytest.mark.usefixtures("key")


# --- what the client retries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("rate_limit"),
        Fault("status", status=500),
        Fault("status", status=503),
        Fault("status", status=408),
        Fault("status", status=409),
        Fault("drop_before"),
        Fault("drop_after"),
    ],
    ids=["429", "500", "503", "408", "409", "dropped before", "dropped after"],
)
def test_transient_faults_are_retried_by_the_client(server: LoopbackImageServer, fault: Fault) -> None:
    server.plan = first_time(fault)
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert [a.retry for a in server.asked] == [0, 1]  # the client's own count: no second layer


def test_retry_after_is_honoured(server: LoopbackImageServer) -> None:
    server.plan = first_time(Fault("rate_limit", headers={"retry-after-ms": "700"}))
    assert kinds(make(server).generate(requests(1, 1))) == {"Generated": 1}
    assert server.asked[1].at - server.asked[0].at >= 0.65


@pytest.mark.parametrize("fault", [Fault("rate_limit"), Fault("status", status=500)])
def test_retries_end(server: LoopbackImageServer, fault: Fault) -> None:
    server.plan = always(fault)
    (outcome,) = make(server, max_retries=3).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert str(429 if fault.kind == "rate_limit" else 500) in outcome.error
    assert [a.retry for a in server.asked] == [0, 1, 2, 3]


def test_no_answer_in_time(server: LoopbackImageServer) -> None:
    server.plan = always(Fault("slow", seconds=30.0))
    (outcome,) = make(server, timeout=0.3, max_retries=0).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "no answer within 0.3 s (1 attempt)" in outcome.error


def test_dropped_for_good(server: LoopbackImageServer) -> None:
    server.plan = always(Fault("drop_before"))
    found = by_key(make(server, max_retries=0).generate(requests(1, 2)))
    assert kinds(found.values()) == {"Failed": 2}
    assert all("connection failed" in o.error for o in found.values() if isinstance(o, Failed))


# --- answers that are short, empty or broken -------------------------------------------------------------------------


def test_fewer_images_than_asked_are_asked_for_again(server: LoopbackImageServer) -> None:
    server.plan = first_time(Fault("short", count=3))
    found = by_key(make(server, images_per_request=4).generate(requests(1, 4)))
    assert kinds(found.values()) == {"Generated": 4}
    assert [a.n for a in server.asked] == [4, 3]
    for index in range(4):
        outcome = found["p00", index]
        assert isinstance(outcome, Generated)
        assert outcome.data == png(f"prompt number 0\0{index}", 16)


def test_one_image_per_answer_is_enough(server: LoopbackImageServer) -> None:
    server.plan = lambda asked: Fault("short", count=asked.n - 1)
    assert kinds(make(server, images_per_request=10).generate(requests(1, 10))) == {"Generated": 10}
    assert [a.n for a in server.asked] == list(range(10, 0, -1))


@pytest.mark.parametrize("fault", [Fault("null_data"), Fault("raw", status=200, body={"data": []})])
def test_a_server_that_never_sends_an_image(server: LoopbackImageServer, fault: Fault) -> None:
    server.plan = always(fault)
    found = list(make(server, images_per_request=2).generate(requests(1, 2)))
    assert kinds(found) == {"Failed": 2}
    assert "3 times in a row without an image" in found[0].error  # type: ignore[union-attr]
    assert len(server.asked) == 3


def test_a_null_entry_is_asked_for_again_alone(server: LoopbackImageServer) -> None:
    server.plan = first_time(Fault("null_item"))
    found = by_key(make(server, images_per_request=3).generate(requests(1, 3)))
    assert kinds(found.values()) == {"Generated": 3}
    assert [a.n for a in server.asked] == [3, 1]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("garbage_image"), "do not decode as PNG, JPEG or WebP"),
        (Fault("truncated_image"), "do not decode as PNG, JPEG or WebP"),
        (Fault("garbage_b64"), "not base64"),
        (Fault("raw", status=200, body=b'{"data": [{"b64'), "not JSON"),
        (Fault("raw", status=200, body=b"[1, 2]"), "not a JSON object"),
        (Fault("raw", status=200, body=b'{"data": "no"}'), "not a list but str"),
        (Fault("raw", status=200, body=b"[" * 100_000), "not JSON"),
        (Fault("raw", status=200, body=b"\xff\xfe\x00"), "not JSON"),
        (
            Fault("raw", status=200, body=b"<!DOCTYPE html><title>Log in</title>", content_type="text/html"),
            "an HTML page titled 'Log in'",
        ),
        (Fault("raw", status=200, body={"data": [{"url": "file:///etc/passwd"}]}), "not http(s) but 'file'"),
        (Fault("raw", status=200, body={"data": [{"url": "data:image/png;base64,AAAA"}]}), "do not decode"),
        (Fault("raw", status=200, body={"data": [{"url": "data:text/html,<p>"}]}), "data: address is not base64"),
        (Fault("raw", status=404, body=b"<html><title>Nope</title></html>", content_type="text/html"), None),
        (Fault("raw", status=400, body={"detail": "prompt is too long"}), "HTTP 400: prompt is too long"),
        (
            Fault("raw", status=422, body={"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "x"}]}),
            "HTTP 422: too long",
        ),
        (Fault("raw", status=400, body={"error": "as plain text"}), "HTTP 400: as plain text"),
        (Fault("raw", status=400, body=b"", content_type="text/plain"), "HTTP 400: an empty body"),
        (
            Fault("raw", status=502, body=b"<html><title>Bad Gateway</title></html>", content_type="text/html"),
            "HTTP 502: an HTML page titled 'Bad Gateway'",
        ),
    ],
)
def test_broken_answers_fail_with_a_reason(server: LoopbackImageServer, fault: Fault, message: str | None) -> None:
    server.plan = always(fault)
    generator = make(server, max_retries=0)
    if message is None:
        with pytest.raises(BackendError, match="no image generation at this address"):
            list(generator.generate(requests(1, 1)))
        return
    (outcome,) = generator.generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert message in outcome.error
    assert "\n" not in outcome.error


def test_json_under_a_wrong_content_type_is_taken(server: LoopbackImageServer) -> None:
    server.files["/files/ok"] = png("ok", 8)
    body = json.dumps({"data": [{"url": server.origin + "/files/ok"}]}).encode()
    server.plan = always(Fault("raw", status=200, body=body, content_type="text/plain"))
    assert kinds(make(server).generate(requests(1, 1))) == {"Generated": 1}


def test_a_body_without_end_is_cut_off(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allfour.models._hosted.client._MAX_ANSWER_BYTES", 100_000)
    server.plan = always(Fault("raw", status=200, body=b" " * 300_000))
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "the answer is larger than" in outcome.error
    assert len(server.asked) == 1  # asking again would only pay again


def test_an_image_of_too_many_pixels(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allfour.models.generators._openai.bytes_check.MAX_PIXELS", 100)
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "16x16 pixels are more than the 100 that are allowed" in outcome.error


def test_base64_with_a_prefix_and_line_breaks_is_taken(server: LoopbackImageServer) -> None:
    import base64

    text = "data:image/png;base64," + base64.encodebytes(png("x", 16)).decode()
    server.plan = always(Fault("raw", status=200, body={"data": [{"b64_json": text}]}))
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert outcome.data == png("x", 16)


# --- what stops the run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("quota"), "cannot pay for more images"),
        (
            Fault("raw", status=400, body={"error": {"message": "limit", "code": "billing_hard_limit_reached"}}),
            "cannot pay for more images",
        ),
        (Fault("raw", status=402, body={"detail": "payment required"}), "cannot pay for more images"),
        (Fault("raw", status=401, body={"error": {"message": "bad key"}}), "does not accept the API key"),
        (Fault("raw", status=403, body={"error": {"message": "not your region"}}), "refuses this request"),
        (Fault("raw", status=405, body={"detail": "Method Not Allowed"}), "no image generation at this address"),
        (Fault("raw", status=404, body={"detail": "Model 'x' not found"}), "is not served at"),
        (Fault("rate_limit", headers={"retry-after-ms": "", "retry-after": "600"}), "asks to wait 600 s"),
        (
            Fault("raw", status=400, body={"error": {"message": "bad size", "param": "size"}}),
            "rejects the setting generator.size",
        ),
        (
            Fault("raw", status=422, body={"detail": [{"loc": ["body", "n"], "msg": "must be 1"}]}),
            "rejects the setting generator.images_per_request",
        ),
    ],
)
def test_what_no_further_request_can_mend_stops_at_once(
    server: LoopbackImageServer, fault: Fault, message: str
) -> None:
    server.plan = lambda asked: fault if asked.number == 3 else None
    todo = requests(3, 4)
    found = []
    with pytest.raises(BackendError, match="repeat the same command") as caught:
        for outcome in make(server, concurrency=1, size="1024x1024").generate(todo):
            found.append(outcome)
    assert message in str(caught.value)
    assert kinds(found) == {"Generated": 2}  # what stood was yielded first
    assert len(server.asked) == 3  # and nothing was sent after


def test_answers_under_way_are_kept_when_the_run_stops(
    server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three are answered once the run knows that it stops, because of the fourth."""
    knows = threading.Event()

    class Known(dispatch.NoFurtherError):
        def __init__(self, reason: str, *, budget: bool) -> None:
            super().__init__(reason, budget=budget)
            knows.set()

    def plan(asked: Asked) -> Fault | None:
        if asked.number == 4:
            return Fault("quota")
        knows.wait(60)
        return None

    monkeypatch.setattr(dispatch, "NoFurtherError", Known)
    server.plan = plan
    found = []
    with pytest.raises(BackendError, match="cannot pay"):
        for outcome in make(server, concurrency=4, timeout=60).generate(requests(3, 4)):
            found.append(outcome)
    assert kinds(found) == {"Generated": 3}
    assert len(server.asked) == 4


def test_a_retry_that_sleeps_does_not_hold_up_the_stop(server: LoopbackImageServer) -> None:
    def plan(asked: Asked) -> Fault | None:
        if asked.prompt.endswith("0"):
            return Fault("rate_limit", headers={"retry-after-ms": "30000"})
        return Fault("slow", seconds=0.3) if asked.prompt.endswith("1") else Fault("quota")

    server.plan = plan
    start = time.monotonic()
    with pytest.raises(BackendError, match="cannot pay"):
        list(make(server, concurrency=3).generate(requests(3, 1)))
    assert time.monotonic() - start < 20
    # The one that sleeps must not hold up the end of the process either.
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("images-"))


def test_a_caller_that_walks_away_ends_the_run(server: LoopbackImageServer) -> None:
    before = set(threading.enumerate())
    server.latency = 0.05
    stream = make(server, concurrency=2).generate(requests(5, 4))
    next(stream)
    stream.close()
    seen = len(server.asked)
    assert seen <= 4
    time.sleep(0.2)
    assert len(server.asked) == seen
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("images-"):
            thread.join(30)
            assert not thread.is_alive()


def test_a_defect_costs_one_row(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> str:
        raise RuntimeError("a defect")

    monkeypatch.setattr("allfour.models.generators._openai.reading.check_image", broken)
    found = list(make(server).generate(requests(1, 2)))
    assert kinds(found) == {"Failed": 2}
