"""What the user can set of an image API, checked once, and what is known about the models they may name."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from allfour.models._hosted.connection import Connection, Service
from allfour.models.generators._openai.bytes_check import MAX_IMAGE_BYTES

SEED_PLACEHOLDER = "{seed}"
SEED_RANGE = 2**31
"""Seeds are sent modulo this: the largest range that servers with signed 32-bit seeds take as well."""

SHUTDOWN_BY_PROVIDER: Mapping[str, dt.date] = {
    "dall-e-2": dt.date(2026, 5, 12),
    "dall-e-3": dt.date(2026, 5, 12),
    "gpt-image-1": dt.date(2026, 10, 23),
    "gpt-image-1-mini": dt.date(2026, 12, 1),
    "gpt-image-1.5": dt.date(2026, 12, 1),
    "gpt-image-1.5-2025-12-16": dt.date(2026, 12, 1),
    "chatgpt-image-latest": dt.date(2026, 12, 1),
}
"""When the provider shut, or will shut, its image models down (https://developers.openai.com/api/docs/deprecations,
November 2026). Applies to the provider's own host alone: another server may serve models of these names."""


def known_models() -> tuple[str, ...]:
    """Image models the installed client documents, less those shut down or about to be; empty without the client."""
    try:
        from openai.types.image_model import ImageModel
    except ImportError:
        return ()
    return tuple(m for m in get_args(ImageModel) if m not in SHUTDOWN_BY_PROVIDER)


IMAGES = Service(
    block="generator",
    order="image",
    offers="image generation",
    pace="images_per_minute",
    price="price_per_image",
    most_bytes=MAX_IMAGE_BYTES * 4 // 3,
    hint="Images of this model that already exist can still be measured: allfour rescore ARCHIVE --config FILE",
    likely=re.compile(r"image|dall|flux|diffusion|sdxl|\bsd[-_.]?\d|imagen|kandinsky|pixart", re.IGNORECASE),
    known=known_models,
    withdrawn=SHUTDOWN_BY_PROVIDER,
    settings={"n": "images_per_request"},
)
_NO_RESPONSE_FORMAT = re.compile(r"^(gpt-image|chatgpt-image)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Connection):
    """Checked settings of one `openai-images` generator. See `OpenAIImages` for each field."""

    service: ClassVar[Service] = IMAGES
    reserved: ClassVar[frozenset[str]] = frozenset(
        {"model", "prompt", "n", "size", "quality", "response_format", "stream", "partial_images", "messages"}
    )

    size: str | None
    quality: str | None
    response_format: str | None
    images_per_request: int
    images_per_minute: float | None
    price_per_image: float | None
    endpoint: str = "images"

    def __post_init__(self) -> None:
        Connection.__post_init__(self)
        self.check(
            self.response_format in (None, "url", "b64_json", "base64"),
            "response_format",
            "use url, b64_json or base64",
        )
        if self.response_format and self.on_provider and _NO_RESPONSE_FORMAT.match(self.model):
            self.check(
                False,
                "response_format",
                f"{self.model} does not take it, and always answers in base64. Remove the setting",
            )
        self.check(self.endpoint in ("images", "chat"), "endpoint", "use images or chat")
        if self.endpoint == "chat":
            self._check_chat()
        self.check(1 <= self.images_per_request <= 10, "images_per_request", "the API makes 1 to 10 images per request")
        if self.sends_seed:
            self.check(
                self.images_per_request == 1,
                "images_per_request",
                f"must be 1 where extra_body sends {SEED_PLACEHOLDER}, because each image has its own seed",
            )

    def _check_chat(self) -> None:
        self.check(
            self.images_per_request == 1,
            "images_per_request",
            "must be 1 with endpoint chat, where each message asks for one image",
        )
        for name in ("size", "quality", "response_format"):
            self.check(
                getattr(self, name) is None,
                name,
                "chat models do not take it. What your model takes goes into generator.extra_body, such as image_config",
            )

    @property
    def sends_seed(self) -> bool:
        return SEED_PLACEHOLDER in _strings(self.extra_body)

    def fields_for(self, prompt: str, images: int) -> dict[str, Any]:
        """The API's own fields of a request to the images endpoint."""
        fields = {
            "model": self.model,
            "prompt": prompt,
            "n": images,
            "size": self.size,
            "quality": self.quality,
            "response_format": self.response_format,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def own_fields(self) -> frozenset[str]:
        """Fields of a request that come from the settings."""
        named = {name for name in ("size", "quality", "response_format") if getattr(self, name) is not None}
        return frozenset({"n", "model", *self.extra_body, *named})

    def body_for(self, seed: int) -> dict[str, Any]:
        """`extra_body` with the seed put in place of its placeholder."""
        return {k: _fill(v, seed % SEED_RANGE) for k, v in self.extra_body.items()}


def _strings(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return set().union(*map(_strings, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_strings, value))
    return set()


def _fill(value: Any, seed: int) -> Any:
    if value == SEED_PLACEHOLDER:
        return seed
    if isinstance(value, Mapping):
        return {k: _fill(v, seed) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(v, seed) for v in value]
    return value
