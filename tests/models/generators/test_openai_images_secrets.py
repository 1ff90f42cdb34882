"""The API key reaches no outcome, error, log, traceback, ledger or repr."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from allfour.errors import BackendError
from allfour.models._hosted.secrets import REDACTED, Scrubber, read_key
from allfour.models.generators.base import Failed, Generated
from tests.loopback_image_server import Fault, png
from tests.models.generators.hosted_helpers import KEY_ENV, LoopbackImageServer, kinds, make, requests

SECRET = "hosted/key+with=odd&characters-0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackImageServer]:
    monkeypatch.setenv(KEY_ENV, SECRET)
    monkeypatch.setenv("NO_PROXY", "*")
    with LoopbackImageServer(key=SECRET) as running:
        yield running


def everything(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file())


ECHOES = [
    Fault("raw", status=400, body={"error": {"message": f"key {SECRET} is bad", "code": SECRET, "param": SECRET}}),
    Fault("raw", status=400, body={"error": {"message": f"key {SECRET}", "code": "moderation_blocked"}}),
    Fault("raw", status=500, body=f"<html><title>Bearer {SECRET}</title></html>".encode(), content_type="text/html"),
    Fault("raw", status=200, body=f"Bearer {SECRET}".encode()),
    Fault("raw", status=200, body={"data": [{"url": f"http://{'x' * 30}.invalid/{SECRET}"}]}),
    Fault("raw", status=200, body={"data": [{"url": f"{SECRET}://host"}]}),
    Fault("raw", status=400, body={"error": {"message": "x" * 280 + SECRET}}),
]


@pytest.mark.parametrize("fault", ECHOES)
def test_a_server_that_echoes_the_key(
    server: LoopbackImageServer, fault: Fault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.plan = lambda asked: fault
    found = list(make(server, max_retries=0, ledger_path=tmp_path / "ledger.sqlite").generate(requests(1, 1)))
    assert len(found) == 1
    for text in (repr(found), caplog.text):
        assert SECRET not in text
        assert SECRET[:20] not in text
    assert SECRET.encode() not in everything(tmp_path)


def test_an_answer_that_carries_the_key(server: LoopbackImageServer, tmp_path: Path) -> None:
    image = {"url": server.origin + "/files/x", "revised_prompt": f"a nurse {SECRET}"}
    server.files["/files/x"] = png("x", 8)
    server.plan = lambda asked: Fault("raw", status=200, body={"data": [image], "model": SECRET, "size": SECRET})
    stream = make(server, ledger_path=tmp_path / "ledger.sqlite").generate(requests(1, 1))
    outcome = next(stream)
    assert kinds([outcome]) == {"Generated": 1}
    assert SECRET not in repr(outcome)
    assert f"a nurse {REDACTED}" in repr(outcome)
    stream.close()
    assert SECRET.encode() not in everything(tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 402, 429])
def test_the_error_that_stops_the_run(server: LoopbackImageServer, status: int) -> None:
    body = {"error": {"message": f"no access for {SECRET}, model not found", "code": "insufficient_quota"}}
    server.plan = lambda asked: Fault("raw", status=status, body=body)
    generator = make(server)
    with pytest.raises(BackendError) as caught:
        list(generator.generate(requests(1, 1)))
    inside = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None  # without this test's frame
    shown = "".join(
        traceback.TracebackException(BackendError, caught.value, inside, capture_locals=True).format(chain=True)
    )
    assert "in dispatch" in shown
    assert SECRET not in shown
    assert SECRET not in str(caught.value)


def test_reprs_and_identity(server: LoopbackImageServer) -> None:
    generator = make(server)
    assert generator.preflight().ok
    for text in (
        repr(generator),
        json.dumps(dict(generator.identity())),
        repr(vars(generator)),
        repr(Scrubber(SECRET)),
    ):
        assert SECRET not in text


def test_a_key_that_cannot_be_sent_is_not_shown(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in (f"{SECRET}\nx", f"{SECRET} {SECRET}", f"{SECRET}é"):
        monkeypatch.setenv(KEY_ENV, bad)
        found = make(server).preflight()
        assert not found.ok
        assert "cannot be sent" in found.message
        assert SECRET not in found.message


def test_surrounding_white_space_is_forgiven(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, f"  {SECRET}\n")
    assert make(server).preflight().ok
    assert read_key(KEY_ENV, required=True) == SECRET


def test_the_key_goes_to_the_server_and_nowhere_else(server: LoopbackImageServer) -> None:
    list(make(server, model="dall-e-2").generate(requests(1, 2)))
    assert set(server.authorizations) == {f"Bearer {SECRET}"}
    assert len(server.fetch_headers) == 2
    assert all(SECRET not in json.dumps(headers) for headers in server.fetch_headers)


def test_scrubber() -> None:
    scrub = Scrubber(SECRET)
    assert scrub(f"a {SECRET} b") == f"a {REDACTED} b"
    assert scrub("Incorrect API key provided: sk-proj-abc***xyz.") == f"Incorrect API key provided: {REDACTED}"
    assert scrub("Authorization: Bearer abc.def") == f"Authorization: {REDACTED}"
    assert scrub("hosted%2Fkey%2Bwith%3Dodd%26characters-0123456789") == REDACTED
    assert scrub("a\x1b[31m\nb\u202e") == "a [31m b"
    assert len(scrub("x" * 1000)) == 300
    assert Scrubber("none")("there is none") == "there is none"  # a placeholder is no secret
    for spelled in (SECRET.upper(), SECRET.lower()):  # a server's log may have folded it
        assert spelled not in Scrubber(SECRET)(f"the key {spelled} is wrong")
    assert scrub.deep({"a": [SECRET, 1, None]}) == {"a": [REDACTED, 1, None]}


def test_the_key_in_names_of_a_usage_report_and_in_base64(server: LoopbackImageServer, tmp_path: Path) -> None:
    coded = base64.b64encode(SECRET.encode()).decode()
    image = {"url": server.origin + "/files/x", "revised_prompt": f"a nurse {coded}"}
    server.files["/files/x"] = png("x", 8)
    body = {"data": [image], "usage": {SECRET: 1, "tokens": {f"of {coded.rstrip('=')}": 2}}, "model": coded}
    server.plan = lambda asked: Fault("raw", status=200, body=body)
    stream = make(server, ledger_path=tmp_path / "ledger.sqlite").generate(requests(1, 1))
    text = repr(next(stream))
    stream.close()
    for form in (SECRET, SECRET[:20], coded.rstrip("=")):
        assert form not in text
        assert form.encode() not in everything(tmp_path)


def test_lone_surrogates_and_nul_end_no_paid_run(server: LoopbackImageServer, tmp_path: Path) -> None:
    bad = "caf\ud800\x00"
    image = {"url": server.origin + "/files/x", "revised_prompt": bad}
    server.files["/files/x"] = png("x", 8)
    body = {"data": [image], "model": bad, "size": bad, "usage": {bad: 1}}
    answers = [
        Fault("raw", status=200, body=body),
        Fault("raw", status=400, body={"error": {"message": bad, "code": bad}}),
    ]
    server.plan = lambda asked: answers.pop(0)
    found = list(make(server, max_retries=0, ledger_path=tmp_path / "l.sqlite").generate(requests(1, 2)))
    assert kinds(found) == {"Generated": 1, "Failed": 1}
    for outcome in found:
        assert isinstance(outcome, Failed | Generated)
        text = outcome.error if isinstance(outcome, Failed) else repr([outcome.revised_prompt, outcome.details])
        assert "caf" in text
        assert "\\ud800" not in text
        assert "\\x00" not in text
        text.encode("utf-8")


def test_the_clients_own_log_holds_no_key(server: LoopbackImageServer, caplog: pytest.LogCaptureFixture) -> None:
    """What OPENAI_LOG=debug and a root logger at DEBUG show: the request's options, the wire, and a key that the server echoes."""
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    coded = base64.b64encode(SECRET.encode()).decode()
    echo = {"x-request-id": SECRET, "x-more": coded, "set-cookie": f"k={SECRET}"}
    server.plan = lambda asked: Fault("status", status=500, headers=echo) if asked.attempt == 1 else None
    headers = {"api-key": f"{{env:{KEY_ENV}}}"}
    generator = make(server, extra_headers=headers, max_retries=1)
    list(generator.generate(requests(1, 1)))
    logging.getLogger("httpcore2.http11").debug("%s %s", *[SECRET])  # cannot be put together
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("openai._base_client").exception("failed")
    assert {record.name.partition(".")[0] for record in caplog.records} >= {"openai", "httpx2", "httpcore2"}
    assert REDACTED in caplog.text
    for text in (caplog.text, *(str(record.__dict__) for record in caplog.records)):
        assert SECRET not in text.replace(repr(ValueError(SECRET)), "")
        assert coded.rstrip("=") not in text
