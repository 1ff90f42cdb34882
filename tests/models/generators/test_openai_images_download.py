"""Images behind addresses: what is fetched, and what is not."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from allfour.models.generators._openai import download
from allfour.models.generators._openai.download import Downloader, DownloadError, is_inside, is_public
from tests.loopback_image_server import Fault, png
from tests.models.generators.hosted_helpers import (
    KEY,
    KEY_ENV,
    Failed,
    Generated,
    LoopbackImageServer,
    make,
    requests,
)

PUBLIC = "93.184.216.34"


@pytest.fixture
def server() -> Iterator[LoopbackImageServer]:
    with LoopbackImageServer() as running:
        running.files["/files/ok.png"] = png("ok", 8)
        yield running


@pytest.fixture
def outside(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> LoopbackImageServer:
    """The loopback server, reachable as if it were at a public address."""
    real = download.connect

    def connect(address: str, port: int, timeout: float) -> socket.socket:
        assert address == PUBLIC, "connected to an address that was not the checked one"
        return real("127.0.0.1", server.port, timeout)

    monkeypatch.setattr(download, "connect", connect)
    return server


def resolver(**names: str) -> Any:
    def look_up(host: str, port: int) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            if host.replace(".", "_") in names:
                return names[host.replace(".", "_")].split()
            raise OSError("unknown host") from None

    return look_up


def fetch(url: str, *, allow_inside: bool = False, timeout: float = 2.0, **names: str) -> bytes:
    downloader = Downloader(allow_inside=allow_inside, timeout=timeout, resolver=resolver(**names))
    return downloader.fetch(url, threading.Event())


def redirect(location: str, status: int = 302) -> Any:
    return lambda handler: handler.reply(status, b"", headers={"Location": location})


def test_a_public_address(outside: LoopbackImageServer) -> None:
    assert fetch("http://images.example/files/ok.png?sig=a%2Fb c", images_example=PUBLIC) == png("ok", 8)
    assert outside.fetch_headers[0]["host"] == "images.example"
    assert "authorization" not in outside.fetch_headers[0]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "64:ff9b:1::5db8:d822",
        "fec0::1",
        "::127.0.0.1",
        "::93.184.216.34",
        "::ffff:0:127.0.0.1",
        "5f00::1",
        "3fff::1",
    ],
)
def test_addresses_inside_are_not_fetched(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(DownloadError, match="inside this machine or network"):
        fetch(f"http://{host}/x")
    with pytest.raises(DownloadError, match="inside this machine or network"):
        fetch("http://images.example/x", images_example=address)
    assert not is_public(ipaddress.ip_address(address))


def test_a_name_with_one_address_inside_is_not_trusted(outside: LoopbackImageServer) -> None:
    with pytest.raises(DownloadError, match="inside this machine"):
        fetch("http://images.example/files/ok.png", images_example=f"{PUBLIC} 127.0.0.1")
    assert not outside.fetched


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "224.0.0.1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
    ],
)
def test_link_local_addresses_are_never_fetched(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(DownloadError, match="inside this machine or network"):
        fetch(f"http://{host}/latest/meta-data/", allow_inside=True)


def test_a_name_that_answers_differently_the_second_time(outside: LoopbackImageServer) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    downloader = Downloader(allow_inside=False, timeout=2, resolver=lambda host, port: next(answers))
    # Looked up once, and connected to what was checked (the fixture asserts it).
    assert downloader.fetch("http://images.example/files/ok.png", threading.Event()) == png("ok", 8)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/x",
        "http://localhost/x",
        "http://169.254.169.254/latest",
        "http://[::1]/x",
        "//10.0.0.1/x",
        "http://2130706433/x",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_inside_are_not_followed(outside: LoopbackImageServer, location: str, status: int) -> None:
    outside.files["/files/away"] = redirect(location, status)
    names = {"images_example": PUBLIC, "localhost": "127.0.0.1", "2130706433": "127.0.0.1"}
    with pytest.raises(DownloadError, match="inside this machine or network"):
        fetch("http://images.example/files/away", **names)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://images.example/x", "gopher://x/", "javascript:1"])
def test_redirects_to_other_schemes_are_not_followed(outside: LoopbackImageServer, location: str) -> None:
    outside.files["/files/away"] = redirect(location)
    with pytest.raises(DownloadError, match="not http"):
        fetch("http://images.example/files/away", images_example=PUBLIC)


def test_redirects_from_https_to_http_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Downloader, "_get", lambda *_, **__: "http://images.example/files/ok.png")
    with pytest.raises(DownloadError, match="from https to http"):
        fetch("https://images.example/files/ok.png", images_example=PUBLIC)


def test_https_is_not_taken_from_a_server_without_it(outside: LoopbackImageServer) -> None:
    with pytest.raises(DownloadError, match=r"broke off: no TLS connection could be agreed on .* \(3 tries\)"):
        fetch("https://images.example/files/ok.png", images_example=PUBLIC)
    assert not outside.fetched


def test_redirects_outside_are_followed_a_few_times(outside: LoopbackImageServer) -> None:
    outside.files["/files/1"] = redirect("/files/2")
    outside.files["/files/2"] = redirect("http://cdn.example/files/ok.png", 307)
    names = {"images_example": PUBLIC, "cdn_example": PUBLIC}
    assert fetch("http://images.example/files/1", **names) == png("ok", 8)
    outside.files["/files/ring"] = redirect("/files/ring")
    with pytest.raises(DownloadError, match="more than 3 times"):
        fetch("http://images.example/files/ring", **names)


@pytest.mark.parametrize("url", ["", "no scheme", "http://", "http://[::1", "http:///x", "//host/x", "http://h:port/x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(DownloadError):
        fetch(url)


def test_too_large(outside: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_IMAGE_BYTES", 1000)
    outside.files["/files/declared"] = b"x" * 1001

    def undeclared(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(1000):
            handler.wfile.write(b"x" * 1000)

    outside.files["/files/undeclared"] = undeclared
    for name in ("declared", "undeclared"):
        with pytest.raises(DownloadError, match="larger than"):
            fetch(f"http://images.example/files/{name}", images_example=PUBLIC)


def test_cut_short_is_tried_again_and_then_given_up(outside: LoopbackImageServer) -> None:
    def short(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)
        handler.wfile.flush()
        handler.hang_up()

    outside.files["/files/short"] = short
    with pytest.raises(DownloadError, match=r"\(3 tries\)"):
        fetch("http://images.example/files/short", images_example=PUBLIC)
    assert len(outside.fetched) == 3


def test_one_dropped_connection_does_not_lose_an_image(outside: LoopbackImageServer) -> None:
    def once(handler: Any) -> None:
        if len(outside.fetched) == 1:
            handler.hang_up()
        else:
            handler.reply(200, png("late", 8), kind="image/png")

    outside.files["/files/once"] = once
    assert fetch("http://images.example/files/once", images_example=PUBLIC) == png("late", 8)


def test_a_dripping_server_is_cut_off(outside: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 1)

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)

    outside.files["/files/drip"] = drip
    start = time.monotonic()
    with pytest.raises(DownloadError):
        fetch("http://images.example/files/drip", timeout=0.4, images_example=PUBLIC)
    assert time.monotonic() - start < 30


def test_gone(outside: LoopbackImageServer) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        fetch("http://images.example/files/none", images_example=PUBLIC)
    assert len(outside.fetched) == 1


def test_whether_a_host_is_inside() -> None:
    look_up = resolver(gateway_lan="10.1.2.3", both_example=f"10.1.2.3 {PUBLIC}")
    assert is_inside("127.0.0.1", 80, resolver=look_up)
    assert is_inside("gateway.lan", 80, resolver=look_up)
    assert not is_inside("both.example", 80, resolver=look_up)
    assert not is_inside(PUBLIC, 80, resolver=look_up)
    assert not is_inside("nowhere.example", 80, resolver=look_up)


# --- through the generator -------------------------------------------------------------------------------------------


def test_a_local_server_may_point_at_itself_but_not_at_metadata(
    server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    server.files["/files/away"] = redirect("http://169.254.169.254/latest/meta-data/")

    def answer(name: str) -> Fault:
        return Fault("raw", status=200, body={"data": [{"url": f"{server.origin}/files/{name}?token=secret"}]})

    server.plan = lambda asked: answer("ok.png" if asked.prompt.endswith("0") else "away")
    found = {o.request.prompt_id: o for o in make(server).generate(requests(2, 1))}
    assert isinstance(found["p00"], Generated)
    failed = found["p01"]
    assert isinstance(failed, Failed)
    assert "inside this machine or network, so the image was not fetched" in failed.error
    assert "secret" not in failed.error


def test_a_remote_server_may_not_point_inside(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setattr("allfour.models.generators._openai.reading.is_inside", lambda host, port: False)
    (outcome,) = make(server, model="dall-e-2").generate(requests(1, 1))
    assert isinstance(outcome, Failed)
    assert "inside this machine or network, so the image was not fetched" in outcome.error
    assert not server.fetched
