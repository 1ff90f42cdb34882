"""`openai-images` against each service that speaks its API, or nearly: images, and every shape of refusal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from allfour.errors import BackendError
from allfour.models._hosted.errors import BadAnswerError, retry_after, verdict_of
from allfour.models._hosted.moderation import moderation_code
from allfour.models._hosted.secrets import Scrubber
from allfour.models.generators._openai.answers import read_answer, read_chat_answer
from allfour.models.generators._openai.settings import IMAGES
from allfour.models.generators.base import Generated, Refused
from allfour.models.generators.openai_images import OpenAIImages, SettingsError
from tests.image_services import KEY, REFUSED, SHAPES, ImageServices
from tests.loopback_image_server import png
from tests.models.generators.hosted_helpers import KEY_ENV, by_key, requests


@pytest.fixture(scope="module")
def services() -> Iterator[ImageServices]:
    with ImageServices() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(services: ImageServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    services.asked.clear()
    services.wrong.clear()


def generator(services: ImageServices, shape: str, **more: Any) -> OpenAIImages:
    services.shape = shape
    known = SHAPES[shape]
    settings = {"max_retries": 1, "timeout": 5.0, "model": known.model, **known.settings, **more}
    return OpenAIImages(base_url=services.base_url(), api_key_env=KEY_ENV, **settings)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_come_and_a_refusal_is_refused_once(services: ImageServices, shape: str) -> None:
    made = generator(services, shape, price_per_image=0.5)
    found = by_key(made.generate(requests(["a nurse", f"a {REFUSED} thing"], 1)))
    image, refused = found["p00", 0], found["p01", 0]
    assert isinstance(image, Generated), image
    assert image.data == png("a nurse", 16)
    assert isinstance(refused, Refused), refused
    assert refused.code == SHAPES[shape].code
    assert refused.reason
    assert len(services.asked) == 2, "a refusal was asked for again"
    assert services.wrong == []


@pytest.mark.parametrize("shape", ["azure-v1", "openrouter", "xai"])
def test_a_name_that_a_server_lists_otherwise_is_a_warning(services: ImageServices, shape: str) -> None:
    found = generator(services, shape).preflight()
    assert found.ok
    assert "is not in the server's list of models, but that list may use other names" in found.warnings[0]
    assert not generator(services, shape, preflight="strict").preflight().ok


def test_a_key_that_is_not_taken_and_a_server_that_is_not_there_are_no_warnings(
    services: ImageServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `preflight` says of lists: the first image would end the run."""
    asked = generator(services, "litellm", preflight="warn")
    monkeypatch.setenv(KEY_ENV, "another-key-0123456789")
    assert not asked.preflight().ok
    with pytest.raises(BackendError, match="does not accept the API key"):
        list(asked.generate(requests(1, 1)))
    assert not OpenAIImages(model="m", base_url="http://127.0.0.1:9/v1", preflight="warn").preflight().ok


def test_hosts_that_list_otherwise_are_known() -> None:
    def lists_otherwise(base_url: str) -> bool:
        return OpenAIImages(model="m", base_url=base_url)._settings.lists_otherwise

    assert lists_otherwise("https://my-own.openai.azure.com/openai/v1")
    assert lists_otherwise("https://openrouter.ai/api/v1")
    assert not lists_otherwise("https://api.openai.com/v1")
    assert not lists_otherwise("https://notopenrouter.ai/v1")


def test_no_question_without_preflight(services: ImageServices) -> None:
    assert generator(services, "xai", preflight="off").preflight().ok


def test_ids_match_with_and_without_the_prefix(services: ImageServices) -> None:
    assert generator(services, "gemini").preflight().ok
    assert generator(services, "gemini", model="models/imagen-x").preflight().ok


def test_a_header_from_the_environment_is_sent_and_never_shown(
    services: ImageServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SECRET", "very-secret-value")
    made = generator(services, "litellm", extra_headers={"X-Gateway": "Key {env:OTHER_SECRET}"})
    list(made.generate(requests(1, 1)))
    assert services.asked[0].headers["x-gateway"] == "Key very-secret-value"
    assert "very-secret" not in repr(made) + str(made.identity())
    monkeypatch.delenv("OTHER_SECRET")
    with pytest.raises(BackendError, match="OTHER_SECRET is not set"):
        list(made.generate(requests(1, 1)))


def test_behind_a_redirect_to_another_server_no_key_is_sent(services: ImageServices) -> None:
    with ImageServices() as other:
        other.shape = "litellm"
        services.redirect = other.origin + "/v1/images/generations"
        try:
            made = generator(
                services, "azure-deployment", extra_headers={"X-Own": "{env:" + KEY_ENV + "}"}, preflight="off"
            )
            with pytest.raises(BackendError, match="HTTP 401"):
                list(made.generate(requests(1, 1)))
        finally:
            services.redirect = None
        assert KEY in str(services.asked[0].headers)
        assert KEY not in str(other.asked)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "https://x.example/openai/v1?api-version=1"}, "generator.query"),
        ({"base_url": "https://x.example/v1/images/generations"}, "leave /images/generations out"),
        ({"extra_headers": {"Authorization": "Key abc"}}, "{env:NAME}"),
        ({"extra_headers": {"bad name": "x"}}, "not a header's name"),
        ({"endpoint": "chat", "size": "1024x1024"}, "generator.extra_body"),
        ({"endpoint": "chat", "images_per_request": 2}, "must be 1"),
        ({"currency": "euro"}, "three letters"),
        ({"preflight": "maybe"}, "strict, warn or off"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        OpenAIImages(model="m", **{"base_url": "https://x.example/v1", **settings})
    assert message in str(caught.value)


def test_costs_carry_their_currency(services: ImageServices) -> None:
    made = generator(services, "litellm", price_per_image=0.04, currency="EUR")
    assert "about 0.16 EUR at 0.04 each" in made.estimate(requests(1, 4)).describe()
    assert made.spent().currency == "EUR"


# --- the reading itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "the content policy service is down"),
        (503, "content filter unavailable"),
        (429, "content moderation is busy"),
        (403, "Your account was flagged for content policy checks"),
        (403, "Your organization must be verified to use this model under our usage guidelines"),
        (400, "Invalid size"),
        (404, "no such content"),
    ],
)
def test_what_is_no_refusal(status: int, message: str) -> None:
    assert moderation_code(status, (None,), message) is None


def test_a_filter_that_did_not_fire_is_no_refusal() -> None:
    answer = read_answer(b'{"data": [{"b64_json": "AAAA", "content_filter_results": {"hate": {"filtered": false}}}]}')
    assert answer.items[0].withheld is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        ("1000000000", 1e9),
        ("-5", 0.0),
        ("nan", None),
        ("1e999", float("inf")),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    assert retry_after({"retry-after": value}) == expected


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["1000000000", "a date in three years", "1e999"])
def test_a_far_retry_after_ends_the_run_in_words_of_bounded_length(status: int, value: str) -> None:
    if value.startswith("a date"):  # no name of a test: two processes collect at two times
        value = formatdate(time.time() + 10**8, usegmt=True)
    verdict = verdict_of(
        status,
        b'{"error": "busy"}',
        {"retry-after": value},
        scrub=Scrubber(),
        service=IMAGES,
        key_env=None,
        own_fields=frozenset(),
    )
    assert verdict.kind == "stop"
    assert "asks to wait more than four days, and allfour waits 120 s at most" in verdict.message


def test_an_answer_without_choices_is_no_answer() -> None:
    with pytest.raises(BadAnswerError, match="no choices"):
        read_chat_answer(b'{"object": "chat.completion"}')
