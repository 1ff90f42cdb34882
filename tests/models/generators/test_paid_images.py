"""`openai-images`: an image that came was paid for, however the server spells it and whatever stands around it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.loopback_image_server import Fault, png
from tests.models.generators.hosted_helpers import (
    Failed,
    Generated,
    LoopbackImageServer,
    always,
    by_key,
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
