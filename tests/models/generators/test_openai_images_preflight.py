"""`openai-images`: whether a run can start, asked before anything is paid for."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterator

import pytest

from allfour.errors import BackendError
from allfour.models.generators._openai.settings import known_models
from tests.loopback_image_server import Fault
from tests.models.generators.hosted_helpers import (
    KEY,
    KEY_ENV,
    LoopbackImageServer,
    OpenAIImages,
    kinds,
    make,
    requests,
)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[LoopbackImageServer]:
    with LoopbackImageServer(models=["gpt-image-2", "gpt-image-2.5-flare", "text-model-9", "sdxl-turbo"]) as running:
        yield running


def test_a_served_model(server: LoopbackImageServer) -> None:
    found = make(server, model="gpt-image-2").preflight()
    assert found.ok
    assert found.served_models == ("gpt-image-2", "gpt-image-2.5-flare", "text-model-9", "sdxl-turbo")
    assert (found.mend, found.warnings) == (None, ())


def test_an_unknown_model_ends_in_one_error(server: LoopbackImageServer) -> None:
    with pytest.raises(BackendError) as caught:
        list(make(server, model="gpt-image-2.5-flar").generate(requests(1, 1)))
    message = str(caught.value)
    assert f"'gpt-image-2.5-flar' is not served at {server.base_url}" in message
    assert "did you mean gpt-image-2.5-flare?" in message
    assert "Served now: gpt-image-2.5-flare, gpt-image-2, sdxl-turbo." in message  # the text model is left out
    assert "allfour rescore" in message
    assert not server.asked


def test_a_name_without_its_variant_is_close_to_the_whole_name(server: LoopbackImageServer) -> None:
    found = make(server, model="gpt-image-2.5").preflight()
    assert "did you mean gpt-image-2.5-flare?" in (found.mend or "")


def test_a_model_that_the_list_leaves_out_but_the_server_has(server: LoopbackImageServer) -> None:
    server.models_reply = (200, "application/json", json.dumps({"data": [{"id": "other"}]}).encode())
    assert make(server, model="sdxl-turbo").preflight().ok


@pytest.mark.parametrize("shape", ["date", "time"])
def test_a_shutdown_date_that_passed(server: LoopbackImageServer, shape: str) -> None:
    server.shutdown_dates = {"gpt-image-2": "2026-05-12" if shape == "date" else "2026-05-12T00:00:00Z"}
    found = make(server, model="gpt-image-2").preflight()
    assert not found.ok
    assert found.message == "gpt-image-2 was shut down on 2026-05-12, according to the server."
    assert found.mend is not None
    assert "gpt-image-2.5-flare" in found.mend
    assert "allfour rescore" in found.mend


def test_a_shutdown_date_to_come_is_a_warning(server: LoopbackImageServer) -> None:
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).date().isoformat()
    server.shutdown_dates = {"gpt-image-2": later}
    found = make(server, model="gpt-image-2").preflight()
    assert found.ok
    assert found.warnings == (f"gpt-image-2 will be shut down on {later}.",)


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_models_the_provider_withdrew_need_no_key_to_be_told(model: str) -> None:
    found = OpenAIImages(model=model, api_key_env="ALLFOUR_NO_SUCH_KEY").preflight()
    assert not found.ok
    day = "2026-10-23" if model == "gpt-image-1" else "2026-05-12"
    assert found.message == f"{model} was withdrawn by its provider on {day} and is no longer served."
    assert found.mend is not None
    assert "gpt-image-2.5-flare" in found.mend
    assert f"{model}," not in found.mend
    assert "allfour rescore" in found.mend


def test_another_server_may_still_serve_a_withdrawn_model() -> None:
    with LoopbackImageServer(models=["dall-e-2"]) as server:
        assert make(server, model="dall-e-2").preflight().ok
        assert kinds(make(server, model="dall-e-2").generate(requests(1, 1))) == {"Generated": 1}


@pytest.mark.parametrize(
    "reply",
    [
        None,
        (405, "application/json", b'{"detail": "Method Not Allowed"}'),
        (403, "application/json", b'{"error": {"message": "Missing scopes: api.model.read"}}'),
        (200, "text/html", b"<html><title>Welcome</title></html>"),
        (200, "application/json", b'{"data": null}'),
        (200, "application/json", b'[{"name": 1}, null, 3]'),
        (500, "text/plain", b"oops"),
    ],
    ids=["404", "405", "403", "html", "null", "odd", "500"],
)
def test_servers_that_list_no_models_do_not_block(
    server: LoopbackImageServer, reply: tuple[int, str, bytes] | None
) -> None:
    server.lists_models = False
    server.models_reply = reply
    found = make(server, model="sdxl-turbo").preflight()
    assert found.ok
    assert "Whether it serves sdxl-turbo will show with the first image." in found.warnings[0]
    assert kinds(make(server, model="sdxl-turbo").generate(requests(1, 1))) == {"Generated": 1}


def test_a_bare_list_of_models_is_understood(server: LoopbackImageServer) -> None:
    server.models_reply = (200, "application/json", b'[{"id": "flux.1"}, {"id": "sdxl-turbo"}]')
    assert make(server, model="flux.1").preflight().served_models == ("flux.1", "sdxl-turbo")


def test_without_a_list_the_first_image_tells(server: LoopbackImageServer) -> None:
    server.lists_models = False
    with pytest.raises(BackendError, match=r"'flux-9' is not served at .* does not exist") as caught:
        list(make(server, model="flux-9", concurrency=1).generate(requests(3, 4)))
    assert "allfour rescore" in str(caught.value)
    assert len(server.asked) == 1


def test_a_model_withdrawn_during_the_run(server: LoopbackImageServer) -> None:
    body = {"error": {"message": "The model `gpt-image-2` has been deprecated.", "code": "model_not_found"}}
    server.plan = lambda asked: Fault("raw", status=404, body=body) if asked.number == 2 else None
    found = []
    with pytest.raises(BackendError, match="Served now"):
        for outcome in make(server, model="gpt-image-2", concurrency=1).generate(requests(1, 4)):
            found.append(outcome)
    assert kinds(found) == {"Generated": 1}


def test_a_key_that_is_not_accepted(server: LoopbackImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "sk-another-key-000111222")
    found = make(server).preflight()
    assert not found.ok
    assert "does not accept the API key" in found.message
    assert found.mend == f"Set a valid key: export {KEY_ENV}=..."


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    found = OpenAIImages(model="gpt-image-2").preflight()
    assert not found.ok
    assert "OPENAI_API_KEY is not set" in found.message
    assert "export OPENAI_API_KEY=..." in found.message
    with pytest.raises(BackendError, match="OPENAI_API_KEY is not set"):
        list(OpenAIImages(model="gpt-image-2").generate(requests(1, 1)))


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV)
    with LoopbackImageServer(key=None) as server:
        assert kinds(make(server).generate(requests(1, 1))) == {"Generated": 1}


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackImageServer() as server:
        generator = make(server, max_retries=0)
    found = generator.preflight()
    assert not found.ok
    assert (
        found.message
        == f"No connection to {server.base_url}: the connection was refused, so no server is listening there."
    )


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch, server: LoopbackImageServer) -> None:
    for name in [n for n in sys.modules if n == "allfour.models._hosted.client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openai", None)
    found = make(server).preflight()
    assert not found.ok
    assert "pip install 'openai>=" in found.message
    with pytest.raises(BackendError, match="pip install"):
        list(make(server).generate(requests(1, 1)))


def test_preflight_is_quick(server: LoopbackImageServer) -> None:
    server.lists_models = False
    server.models_reply = (503, "text/plain", b"later")
    generator = make(server, max_retries=20)
    assert generator.preflight().ok
    assert len(server.authorizations) == 2  # one retry, not twenty


def test_known_models_hold_no_withdrawn_one() -> None:
    assert known_models()
    assert not {"dall-e-2", "dall-e-3", "gpt-image-1"} & set(known_models())
