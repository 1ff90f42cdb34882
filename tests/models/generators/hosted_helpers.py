"""What the tests of `openai-images` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from allfour.models.generators.base import Failed, Generated, GenerationRequest, Outcome, Refused, image_seed
from allfour.models.generators.openai_images import OpenAIImages
from tests.loopback_image_server import KEY, Fault, LoopbackImageServer

KEY_ENV = "ALLFOUR_TEST_KEY"


def requests(prompts: int | Iterable[str] = 1, images: int = 4) -> list[GenerationRequest]:
    """`images` requests for each of the prompts (named, or `prompts` made-up ones)."""
    names = [f"prompt number {n}" for n in range(prompts)] if isinstance(prompts, int) else list(prompts)
    return [
        GenerationRequest(prompt_id=f"p{n:02d}", index=i, prompt=text, seed=image_seed(0, f"p{n:02d}", i))
        for n, text in enumerate(names)
        for i in range(images)
    ]


def make(server: LoopbackImageServer, **options: Any) -> OpenAIImages:
    """A generator for `server`. Waits are short; the test sets the key with the `key` fixture."""
    options = {"model": "gpt-image-2.5-flare", "timeout": 5.0, "max_retries": 2} | options
    return OpenAIImages(base_url=server.base_url, api_key_env=KEY_ENV, **options)


def by_key(outcomes: Iterable[Outcome]) -> dict[tuple[str, int], Outcome]:
    """Outcomes by request; fails where a request has two."""
    listed = list(outcomes)
    assert not [k for k, n in Counter(o.request.key for o in listed).items() if n > 1], "two outcomes for one request"
    return {o.request.key: o for o in listed}


def kinds(outcomes: Iterable[Outcome]) -> Counter[str]:
    return Counter(type(o).__name__ for o in outcomes)


__all__ = [
    "KEY",
    "KEY_ENV",
    "Failed",
    "Generated",
    "GenerationRequest",
    "LoopbackImageServer",
    "OpenAIImages",
    "Refused",
    "by_key",
    "kinds",
    "make",
    "requests",
]


def always(fault: Fault) -> Any:
    """A server's plan: this fault, whatever is asked."""
    return lambda asked: fault


def first_time(fault: Fault) -> Any:
    """A server's plan: this fault at the first attempt of each request, and an answer after it."""
    return lambda asked: fault if asked.attempt == 1 else None
