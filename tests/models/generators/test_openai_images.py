"""`openai-images` against a loopback server: what each answer of a server becomes."""

from __future__ import annotations

import io
import json
import threading
import time
from typing import Any

import pytest
from PIL import Image

from allfour.errors import BackendError
from allfour.models.generators.base import Generator
from allfour.models.generators.openai_images import SettingsError
from tests.loopback_image_server import Asked, Fault, png
from tests.models.generators.hosted_helpers import (
    Failed,
    Generated,
    LoopbackImageServer,
    OpenAIImages,
    Refused,
    always,
    by_key,
    first_time,
    kinds,
    make,
    requests,
)

pytestmark = pytest.mark.usefixtures("key")


# --- answers ---------------------------------------------------------------------------------------------------------


def test_is_a_generator(server: LoopbackImageServer) -> None:
    assert isinstance(make(server), Generator)


def test_one_outcome_per_request_with_original_bytes(server: LoopbackImageServer) -> None:
    todo = requests(3)
    found = by_key(make(server).generate(todo))
    assert set(found) == {r.key for r in todo}
    for request in todo:
        outcome = found[request.key]
        assert isinstance(outcome, Generated)
        assert outcome.request == request
        assert outcome.extension == "png"
        assert outcome.data == png(f"{request.prompt}\0{_made_as(outcome.data, request.prompt)}", 16)
        assert outcome.details["source"] == "b64_json"
        assert outcome.details["request_id"].startswith("req_")
        json.dumps(dict(outcome.details))


def _made_as(data: bytes, prompt: str) -> int:
    return next(i for i in range(10) if png(f"{prompt}\0{i}", 16) == data)


def test_the_model_is_always_sent_and_only_fields_that_are_set(server: LoopbackImageServer) -> None:
    list(make(server).generate(requests(1, 1)))
    assert dict(server.asked[0].body) == {"model": "gpt-image-2.5-flare", "prompt": "prompt number 0", "n": 1}


def test_settings_and_extra_body_are_sent(server: LoopbackImageServer) -> None:
    fields = {"size": "512x512", "quality": "standard", "response_format": "b64_json"}
    list(make(server, model="dall-e-2", extra_body={"user": "u"}, **fields).generate(requests(1, 1)))
    body = server.asked[0].body
    assert {name: body[name] for name in (*fields, "user")} == {**fields, "user": "u"}


def test_seed_is_sent_only_where_a_placeholder_asks_for_it(server: LoopbackImageServer) -> None:
    todo = requests(1, 2)
    found = by_key(make(server, extra_body={"options": {"seed": "{seed}"}}).generate(todo))
    sent = {a.body["options"]["seed"] for a in server.asked}
    assert sent == {r.seed % 2**31 for r in todo}
    assert {o.details["seed_sent"] for o in found.values() if isinstance(o, Generated)} == sent


def test_addresses_are_fetched_at_once_and_revised_prompts_kept(server: LoopbackImageServer) -> None:
    found = by_key(make(server, model="dall-e-3").generate(requests(2, 2)))
    assert kinds(found.values()) == {"Generated": 4}
    for outcome in found.values():
        assert isinstance(outcome, Generated)
        assert outcome.revised_prompt == f"A detailed photograph: {outcome.request.prompt}"
        assert outcome.details["source"] == "url"
        assert "url" not in outcome.details  # addresses may hold signed tokens
    assert len(server.fetched) == 4
    assert all("authorization" not in h and "cookie" not in h for h in server.fetch_headers)


@pytest.mark.parametrize(("format_name", "extension"), [("JPEG", "jpg"), ("WEBP", "webp"), ("PNG", "png")])
def test_extension_comes_from_the_bytes(server: LoopbackImageServer, format_name: str, extension: str) -> None:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((8, 8)).convert("RGB").save(buffer, format_name)
    server.files["/files/x"] = buffer.getvalue()  # served as image/png
    server.plan = always(Fault("raw", status=200, body={"data": [{"url": server.origin + "/files/x"}]}))
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert (outcome.extension, outcome.data) == (extension, buffer.getvalue())


def test_requests_of_one_prompt_are_grouped(server: LoopbackImageServer) -> None:
    todo = requests(2, 5)
    interleaved = [r for pair in zip(todo[:5], todo[5:], strict=True) for r in pair]
    found = by_key(make(server, images_per_request=4, concurrency=1).generate(interleaved))
    assert kinds(found.values()) == {"Generated": 10}
    assert [(a.prompt[-1], a.n) for a in server.asked] == [("0", 4), ("0", 1), ("1", 4), ("1", 1)]
    for request in todo:  # the k-th entry of an answer is the k-th request of its group
        outcome = found[request.key]
        assert isinstance(outcome, Generated)
        assert outcome.data == png(f"{request.prompt}\0{request.index}", 16)


def test_a_server_that_sends_more_than_asked(server: LoopbackImageServer) -> None:
    server.plan = always(Fault("short", count=-2))
    assert kinds(make(server).generate(requests(2, 2))) == {"Generated": 4}


def test_redirects_without_end_fail_at_once(server: LoopbackImageServer) -> None:
    address = {"location": f"{server.base_url}/images/generations"}
    server.plan = always(Fault("raw", status=307, body=b"", headers=address))
    for outcome in make(server, max_retries=5).generate(requests(2, 1)):
        assert isinstance(outcome, Failed)
        assert "redirects more than 3 times. Set generator.base_url" in outcome.error
    assert len(server.asked) == 2 * 4


def test_a_redirect_is_followed(server: LoopbackImageServer) -> None:
    address = {"location": f"{server.base_url}/images/generations"}
    server.plan = first_time(Fault("raw", status=308, body=b"", headers=address))
    assert kinds(make(server).generate(requests(1, 1))) == {"Generated": 1}


def test_identical_bytes_are_passed_on_untouched(server: LoopbackImageServer) -> None:
    server.same_bytes = True
    found = list(make(server).generate(requests(1, 3)))
    assert len({o.data for o in found if isinstance(o, Generated)}) == 1


def test_concurrency_is_bounded_and_used(server: LoopbackImageServer) -> None:
    four = threading.Event()

    def until_four(asked: Asked) -> None:
        if server.running >= 4:
            four.set()
        four.wait(30)

    server.plan, server.latency = until_four, 0.15
    assert kinds(make(server, concurrency=4, timeout=60).generate(requests(2, 4))) == {"Generated": 8}
    assert server.most_running == 4


def test_outcomes_come_as_soon_as_they_stand(server: LoopbackImageServer) -> None:
    taken, waited = threading.Event(), []

    def after_the_other(asked: Asked) -> None:
        if asked.prompt.endswith("0"):
            waited.append(taken.wait(30))

    server.plan, arrived = after_the_other, []
    for outcome in make(server, concurrency=2, timeout=60).generate(requests(2, 1)):
        arrived.append(outcome.request.prompt_id)
        taken.set()
    assert (arrived, waited) == (["p01", "p00"], [True])


def test_images_per_minute(server: LoopbackImageServer) -> None:
    start = time.monotonic()
    list(make(server, images_per_minute=60 / 0.1, concurrency=4).generate(requests(1, 5)))
    for place, arrived in enumerate(sorted(a.at for a in server.asked)):
        assert arrived - start >= place * 0.1


def test_nothing_to_do(server: LoopbackImageServer) -> None:
    assert list(make(server).generate([])) == []
    assert not server.asked


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": {"message": "no", "code": "content_policy_violation"}}, "content_policy_violation"),
        (400, {"error": {"message": "no", "code": "moderation_blocked"}}, "moderation_blocked"),
        (400, {"error": {"message": "no", "code": "content_filter"}}, "content_filter"),
        (422, {"detail": {"message": "no", "code": "content-policy-violation"}}, "content_policy_violation"),
        (403, {"error": {"message": "no", "type": "content_policy_violation"}}, "content_policy_violation"),
        (500, {"error": {"message": "no", "code": "moderation_blocked"}}, "moderation_blocked"),
        (429, {"error": {"message": "no", "code": "moderation_blocked"}}, "moderation_blocked"),
        (
            400,
            {"error": {"message": "Your request was rejected as a result of our safety system.", "code": None}},
            "content_policy_violation",
        ),
        (200, {"error": {"message": "no", "code": "moderation_blocked"}}, "moderation_blocked"),
    ],
)
def test_moderation_is_refused_and_never_retried(
    server: LoopbackImageServer, status: int, body: Any, code: str
) -> None:
    headers = {"x-should-retry": "true", "retry-after-ms": "1"}
    server.plan = always(Fault("raw", status=status, body=body, headers=headers))
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Refused)
    assert outcome.code == code
    assert outcome.request_id == "req_000001"
    assert len(server.asked) == 1


def test_a_refused_prompt_leaves_the_others(server: LoopbackImageServer) -> None:
    server.plan = lambda asked: Fault("moderation") if asked.prompt.endswith("1") else None
    found = by_key(make(server, images_per_request=2).generate(requests(3)))
    assert kinds(found.values()) == {"Generated": 8, "Refused": 4}
    assert {k[0] for k, o in found.items() if isinstance(o, Refused)} == {"p01"}


def test_an_item_withheld_by_moderation_is_refused_alone(server: LoopbackImageServer) -> None:
    server.plan = always(Fault("withheld_item"))
    found = by_key(make(server, images_per_request=3).generate(requests(1, 3)))
    assert isinstance(found["p00", 0], Refused)
    assert isinstance(found["p00", 1], Generated)
    assert len(server.asked) == 1


def test_a_server_error_is_never_booked_as_a_refusal(server: LoopbackImageServer) -> None:
    server.plan = always(Fault("raw", status=500, body={"error": {"message": "safety system is down"}}))
    (outcome,) = make(server, max_retries=0).generate(requests(1, 1))
    assert isinstance(outcome, Failed)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": " "}, "generator.model"),
        ({"base_url": "ftp://host/v1"}, "generator.base_url"),
        ({"base_url": "http://user:secret@host/v1"}, "generator.base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "generator.base_url"),
        ({"base_url": "http://host:99999/v1"}, "generator.base_url"),
        ({"model": "gpt-image-2", "response_format": "url"}, "generator.response_format"),
        ({"response_format": "png"}, "generator.response_format"),
        ({"images_per_request": 11}, "generator.images_per_request"),
        ({"images_per_request": 0}, "generator.images_per_request"),
        ({"images_per_request": 2, "extra_body": {"seed": "{seed}"}}, "generator.images_per_request"),
        ({"concurrency": 0}, "generator.concurrency"),
        ({"images_per_minute": 0}, "generator.images_per_minute"),
        ({"max_cost": 1.0}, "generator.max_cost"),
        ({"price_per_image": float("nan")}, "generator.price_per_image"),
        ({"timeout": 0}, "generator.timeout"),
        ({"max_retries": -1}, "generator.max_retries"),
        ({"extra_body": {"prompt": "mine"}}, "generator.extra_body"),
        ({"extra_body": {"stream": True}}, "generator.extra_body"),
        ({"extra_body": {"x": object()}}, "generator.extra_body"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=f"^{named}: ") as caught:
        OpenAIImages(**{"model": "dall-e-2"} | options)
    assert isinstance(caught.value, BackendError)
    assert "secret" not in str(caught.value)


def test_identity_is_what_decides_the_images(server: LoopbackImageServer) -> None:
    one = make(server, size="1024x1024", extra_body={"style": "natural"})
    same = make(server, size="1024x1024", extra_body={"style": "natural"}, concurrency=9, price_per_image=1.0)
    assert one.identity() == same.identity()
    assert json.loads(json.dumps(one.identity())) == one.identity()
    assert one.identity()["base_url"] == server.base_url
    assert one.identity() != make(server, size="512x512").identity()


def test_base_url_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/")
    assert OpenAIImages(model="x").identity()["base_url"] == "http://127.0.0.1:9/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert OpenAIImages(model="x").identity()["base_url"] == "https://api.openai.com/v1"
