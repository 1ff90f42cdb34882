"""No connection: one error that says what is in the way and how to mend it, for a hosted API and for a server of one's own."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from allfour.models._hosted import client
from allfour.models.generators._local.http import LocalServer, ServerError
from allfour.models.generators.openai_images import OpenAIImages, OpenAIImagesConfig
from tests.dripping_server import BODY, served
from tests.models.generators.hosted_helpers import KEY, KEY_ENV

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and no proxy."""
    monkeypatch.setenv(KEY_ENV, KEY)
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def _said(base_url: str) -> str:
    found = OpenAIImages(model="m", base_url=base_url, api_key_env=KEY_ENV, timeout=2, max_retries=0).preflight()
    assert not found.ok
    return found.error()


def test_a_certificate_that_nobody_knows(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    with served(BODY, tls=server) as port:
        address = f"https://127.0.0.1:{port}"
        said = _said(f"{address}/v1")
        with pytest.raises(ServerError, match="its certificate is not trusted here"):
            LocalServer(address, auth_env=None, timeout=2).get("/")
    assert "its certificate is not trusted here" in said
    assert "export SSL_CERT_FILE=FILE" in said


def test_a_server_without_tls_at_an_https_address() -> None:
    with served(lambda peer, done: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        said = _said(f"https://127.0.0.1:{port}/v1")
    assert "no TLS connection could be agreed on" in said
    assert "Check whether generator.base_url should begin with https or http" in said


def test_a_name_that_is_not_known() -> None:
    said = _said("https://no-such-host.invalid/v1")
    assert said == (
        "No connection to https://no-such-host.invalid/v1: its name cannot be resolved. Check the network and generator.base_url, then "
        "repeat the command."
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://user:hidden-password@127.0.0.1:9", "Check the proxy in HTTPS_PROXY (or exempt this host in NO_PROXY)"),
        ("socks5://user:hidden-password@127.0.0.1:9", "pip install socksio"),
        ("gopher://user:hidden-password@127.0.0.1:9", "the proxy in HTTPS_PROXY cannot be used"),
    ],
    ids=["nobody there", "SOCKS", "another kind"],
)
def test_a_proxy_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("HTTPS_PROXY", value)
    found = _said("https://images.example/v1")
    assert said in found
    assert "hidden-password" not in found


def test_of_several_proxies_the_one_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert "the proxy in ALL_PROXY cannot be used" in _said("https://images.example/v1")


def test_a_host_that_is_exempt_needs_no_proxy_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the message about such a proxy proposes has to help; and a proxy for other addresses is none for this one."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "the connection was refused" in _said("http://127.0.0.1:9/v1")
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("ALL_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    assert "the connection was refused" in _said("http://127.0.0.1:9/v1")


def test_certificates_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client._tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert "Set SSL_CERT_FILE and SSL_CERT_DIR to files that exist, or unset them" in _said("https://images.example/v1")


def test_off_needs_no_quotes_in_yaml() -> None:
    """YAML 1.1 reads it as false."""
    config = OpenAIImagesConfig.model_validate({"backend": "openai-images", "model": "m", "preflight": False})
    assert config.preflight == "off"
