"""`openai-images`: an image that came was paid for, however the server spells it and whatever stands around it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from allfour.models._hosted.moderation import moderation_code
from allfour.models.generators._openai.answers import read_answer, read_chat_answer
from allfour.models.generators._openai.bytes_check import check_image, decode_base64
from tests.loopback_image_server import Fault, png
from tests.models.generators.hosted_helpers import (
    Failed,
    Generated,
    LoopbackImageServer,
    Refused,
    always,
    by_key,
    kinds,
    make,
    requests,
)

pytestmark = pytest.mark.usefixtures("key")

PICTURE = png("a picture with + and / in it", 32)
SPELLED = base64.b64encode(PICTURE).decode()


def _raw(body: Any, **headers: str) -> Any:
    return always(Fault("raw", status=200, body=body, headers=headers))


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.translate(str.maketrans("+/", "-_")),
        lambda text: text.rstrip("="),
        lambda text: text.rstrip("=") + "====",
        lambda text: f"DATA:image/png;name=x.png;BASE64,{text}",
        lambda text: f"data:image/png;base64,{text.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    ],
    ids=["url-safe", "without padding", "too much padding", "data: in capitals", "data: in percents"],
)
@pytest.mark.parametrize("field", ["b64_json", "url"])
def test_base64_in_any_spelling(server: LoopbackImageServer, spell: Callable[[str], str], field: str) -> None:
    text = spell(SPELLED)
    if field == "url" and text[:5].lower() != "data:":
        text = f"data:image/png;base64,{text}"
    server.plan = _raw({"data": [{field: text}]})
    (outcome,) = make(server).generate(requests(1, 1))
    assert isinstance(outcome, Generated)
    assert outcome.data == PICTURE


def test_headers_that_are_no_ascii_lose_nothing(server: LoopbackImageServer) -> None:
    server.plan = _raw({"data": [{"b64_json": SPELLED}]}, **{"x-server": "caf\xe9"})
    assert [type(o) for o in make(server).generate(requests(1, 1))] == [Generated]


def test_a_broken_address_costs_its_own_image_alone(server: LoopbackImageServer, tmp_path: Path) -> None:
    entries = [{"url": "http://[::1"}, {"b64_json": SPELLED}, {"url": f"{server.origin}/files/back"}]
    server.files["/files/back"] = lambda handler: handler.reply(302, b"", headers={"Location": "http://[bad"})
    server.plan = _raw({"data": entries})
    found = by_key(make(server, images_per_request=3, ledger_path=tmp_path / "l.sqlite").generate(requests(1, 3)))
    assert [type(found["p00", n]) for n in range(3)] == [Failed, Generated, Failed]
    assert {o.error for o in found.values() if isinstance(o, Failed)} == {"the image's address is not a URL"}
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"data": [{"b64_json": [SPELLED]}]}, "b64_json (list)"),
        ({"data": [{"image": SPELLED, "seed": 3}]}, "image (str), seed (int)"),
        ({"data": [SPELLED]}, "str instead of an object"),
        ({"images": [{"b64_json": SPELLED}]}, "images (list)"),
    ],
    ids=["a list", "another name", "a bare text", "another list"],
)
def test_an_image_in_a_form_that_is_not_read_is_counted_and_not_asked_for_again(
    server: LoopbackImageServer, answer: Any, named: str
) -> None:
    """Three questions that count nothing would be three images on the bill."""
    server.plan = _raw(answer)
    made = make(server, price_per_image=0.5, max_cost=0.5)
    (outcome,) = made.generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert named in outcome.error
    assert len(server.asked) == 1


# --- what is withheld and does not say so in the provider's words -----------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b'{"data": [{"url": null, "is_image_safe": false, "prompt": "x"}]}', "is_image_safe"),
        (b'{"data": [{"content_violation": true}]}', "content_violation"),
        (b'{"id": "1", "status": "Request Moderated", "result": null}', "request_moderated"),
        (b'{"promptFeedback": {"blockReason": "SAFETY"}}', "content_filter"),
    ],
    ids=["Ideogram", "Reve", "Black Forest Labs", "Gemini"],
)
def test_marks_of_services_behind_a_proxy(answer: bytes, code: str) -> None:
    read = read_answer(answer)
    (found,) = [w for w in (read.withheld, *(item.withheld for item in read.items)) if w]
    assert found[0] == code


@pytest.mark.parametrize(
    "code", ["OutputImageSensitiveContentDetected", "InputTextSensitiveContentDetected.PolicyViolation"]
)
def test_codes_that_name_what_was_looked_at(code: str) -> None:
    assert moderation_code(400, (code,), "The request failed.") == code.lower()


def _file(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (Image.new("RGB", (40, 40)), "PNG", "#000000"),
        (Image.new("RGB", (40, 40), "white"), "JPEG", "#ffffff"),
        (Image.new("L", (40, 40), 128), "WEBP", "#808080"),
        (Image.new("RGBA", (40, 40), (9, 9, 9, 0)), "PNG", "#ffffff, transparent"),
        (Image.new("P", (40, 40), 3), "PNG", None),
        (Image.fromarray(np.full((40, 40), 0x8080, np.uint16)), "PNG", "#808080"),
        (Image.fromarray(np.arange(30000, 31600, dtype=np.uint16).reshape(40, 40)), "PNG", ""),
        (Image.radial_gradient("L"), "PNG", ""),
    ],
    ids=["black", "white", "grey", "transparent", "palette", "16 bits", "16 bits, a picture", "a picture"],
)
def test_a_picture_of_one_colour(image: Image.Image, kind: str, colour: str | None) -> None:
    """`""`: it is none. None: it is one, whatever colour."""
    found = check_image(_file(image, kind)).colour
    assert found == colour if colour else (found is not None) == (colour is None)


def test_a_blank_picture_is_withheld_for_good_and_paid(server: LoopbackImageServer, tmp_path: Path) -> None:
    blank = base64.b64encode(_file(Image.new("RGB", (40, 40)), "PNG")).decode()
    server.plan = _raw({"data": [{"b64_json": blank}]})
    made = make(server, price_per_image=0.5, ledger_path=tmp_path / "l.sqlite")
    (outcome,) = made.generate(requests(1, 1))
    assert isinstance(outcome, Refused)
    assert (outcome.code, "#000000" in outcome.reason) == ("blank_image", True)
    assert made.spent().spent == 0.5


def test_another_size_and_another_model_than_asked_for_are_told_once(
    server: LoopbackImageServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.plan = _raw({"data": [{"b64_json": SPELLED}], "model": "a-cheaper-one\x1b[2J"})
    made = make(server, size="64x64")
    assert kinds(made.generate(requests(1, 3))) == {"Generated": 3}
    assert made.facts() == {"images_of_another_size": 3, "images_of_another_model": 3}
    told = [record.getMessage() for record in caplog.records if "asked for" in record.getMessage()]
    assert len(told) == 2
    assert "32x32 pixels where 64x64 was asked for" in told[0]
    assert "'a-cheaper-one [2J' made an image" in told[1]


def test_the_size_and_the_model_asked_for_are_no_news(server: LoopbackImageServer) -> None:
    server.plan = _raw({"data": [{"b64_json": SPELLED}], "model": "models/gpt-image-2.5-flare"})
    made = make(server, size="32x32")
    list(made.generate(requests(1, 1)))
    assert made.facts() == {}


@pytest.mark.parametrize(
    "content",
    [
        f"Here it is:\n![a nurse](data:image/png;base64,{SPELLED})",
        [{"type": "text", "text": "Here:"}, {"inline_data": {"mime_type": "image/png", "data": SPELLED}}],
        [{"type": "image", "b64_json": SPELLED}],
        [{"type": "text", "text": f"![x]( data ) ![y](DATA:image/png;base64,{SPELLED})"}],
    ],
    ids=["Markdown", "inline data", "a part with base64", "Markdown in a part"],
)
def test_an_image_in_a_chat_is_found_where_gateways_put_it(content: Any) -> None:
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    (item,) = read_chat_answer(body).items
    assert item.url is not None
    assert decode_base64(item.url) == PICTURE


def test_a_part_of_a_chat_that_is_not_known_is_counted_and_no_refusal() -> None:
    part = {"type": "picture", "pixels": {"raw": SPELLED}}
    answer = read_chat_answer(json.dumps({"choices": [{"message": {"content": [part]}}]}).encode())
    assert answer.withheld is None
    assert [item.came for item in answer.items] == [True]
    words = {"type": "text", "text": "I would rather not. " * 50}
    answer = read_chat_answer(json.dumps({"choices": [{"message": {"content": [words]}}]}).encode())
    assert answer.withheld is not None
    assert answer.withheld[0] == "answered_in_words"


def test_a_second_answer_to_one_request_is_not_the_next_requests(server: LoopbackImageServer) -> None:
    """On a connection that is kept it lies there when the next prompt is asked for, whose image it would become."""

    def twice(handler: Any, asked: Any) -> None:
        body = json.dumps({"data": [{"b64_json": base64.b64encode(png(asked.prompt, 16)).decode()}]}).encode()
        one = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        handler.wfile.write(one + one)
        handler.wfile.flush()

    server.writes = twice
    made = make(server, concurrency=1, max_retries=2)
    found = by_key(made.generate(requests(2, 1)))
    assert kinds(found.values()) == {"Generated": 2}
    for outcome in found.values():
        assert isinstance(outcome, Generated)
        assert outcome.data == png(outcome.request.prompt, 16)
