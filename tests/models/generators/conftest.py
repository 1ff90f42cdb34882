"""Folders of tests that keep accounts lie in memory where there is such a place: a ledger waits for the disk with every line, and
a process that is killed loses no more of it there than on a disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.generators.hosted_helpers import KEY, KEY_ENV, LoopbackImageServer

_MEMORY = Path("/dev/shm")
_KEEP_ACCOUNTS = ("test_openai_images", "test_images_batch", "test_image_services", "test_image_faults")


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this test alone."""
    name = request.module.__name__.rpartition(".")[2]
    if not (name.startswith(_KEEP_ACCOUNTS) and os.access(_MEMORY, os.W_OK)):
        yield tmp_path_factory.mktemp("folder", numbered=True)
        return
    folder = Path(tempfile.mkdtemp(prefix="allfour-test-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the loopback server, in the environment."""
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server() -> Iterator[LoopbackImageServer]:
    with LoopbackImageServer() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate, which no authority signed, for the host images.example; the certificate alone beside it (.crt)."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl for a certificate of its own")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=images.example",
         "-addext", "subjectAltName=DNS:images.example", "-keyout", path, "-out", path.with_suffix(".crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path
