"""What the user can set of the API that a judge is asked through, checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from allfour.models._hosted.connection import Connection, Service

ANSWERS = Service(
    block="classifier",
    order="answer",
    offers="chat",
    pace="answers_per_minute",
    price="price_per_answer",
    most_bytes=4 * 2**20,
    likely=re.compile(r"vl|vision|llava|gemma|gpt-[45]|gemini|claude|pixtral|internvl|minicpm|omni|-4o", re.IGNORECASE),
    settings={"response_format": "answer_format", "top_logprobs": "logprobs"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings(Connection):
    """Checked settings of the API of one `judge`. See `JudgeConfig` for each field."""

    service: ClassVar[Service] = ANSWERS
    reserved: ClassVar[frozenset[str]] = frozenset(
        {"model", "messages", "n", "stream", "response_format", "temperature", "max_tokens", "logprobs", "top_logprobs"}
    )

    answers_per_minute: float | None = None
    price_per_answer: float | None = None
    answer_format: str = "auto"
    logprobs: int = 0
    temperature: float | None = 0.0
    max_tokens: int | None = None
    detail: str | None = None

    @property
    def own_fields(self) -> frozenset[str]:
        """Fields of the request that an error may name and only a change of the settings mends."""
        return frozenset(
            {"model", "temperature", "max_tokens", "response_format", "logprobs", "top_logprobs", *self.extra_body}
        )
