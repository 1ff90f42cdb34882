"""One deadline for each part of an exchange, however slowly the other side drips."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from allfour.models.generators._openai import download
from allfour.models.generators._openai.download import Downloader, DownloadError
from allfour.models.generators.base import Failed
from allfour.models.generators.openai_images import OpenAIImages
from tests.dripping_server import BODY, HEADERS, Answer, served
from tests.models.generators.hosted_helpers import KEY_ENV, requests

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize("answer", [HEADERS, BODY], ids=["headers", "body"])
def test_an_api_that_drips_is_given_up(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "a-key-of-a-test")
    monkeypatch.setenv("NO_PROXY", "*")
    with served(answer) as port:
        generator = OpenAIImages(
            model="any", base_url=f"http://127.0.0.1:{port}/v1", api_key_env=KEY_ENV, timeout=0.6, max_retries=0
        )
        monkeypatch.setattr(generator, "preflight", _Fine)
        started = time.monotonic()
        found = list(generator.generate(requests(1, 1)))
    assert isinstance(found[0], Failed)
    assert time.monotonic() - started < 30


class _Fine:
    ok = True
    served_models = ()


@pytest.mark.parametrize("answer", [HEADERS, BODY], ids=["headers", "body"])
def test_a_download_over_tls_that_drips_is_cut_off(
    answer: Answer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    monkeypatch.setattr(download, "TRIES", 1)
    with served(answer, tls=server) as port:
        monkeypatch.setattr(
            download, "connect", lambda address, _, timeout: socket.create_connection(("127.0.0.1", port), timeout)
        )
        fetcher = Downloader(allow_inside=False, timeout=0.6, resolver=lambda host, _: [PUBLIC])
        started = time.monotonic()
        with pytest.raises(DownloadError):
            fetcher.fetch("https://images.example/x.png", threading.Event())
    assert time.monotonic() - started < 30
