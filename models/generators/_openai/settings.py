"""What the user can set, checked once, and what is known about the models they may name."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from allfour.errors import BackendError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
PROVIDER_HOST = "api.openai.com"
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

_LISTS_OTHERWISE = (
    "openai.azure.com",
    "services.ai.azure.com",
    "cognitiveservices.azure.com",
    "openrouter.ai",
    "api.x.ai",
    "ai-gateway.vercel.sh",
)
"""Hosts whose list of models is not the list of what can be asked for images: Azure lists models where deployments are asked for,
the others list their chat models first. A name that is missing there is worth a warning."""
ENV_PLACEHOLDER = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
"""In `extra_headers`: the value of an environment variable."""
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie", "x-goog-api-key"}
)
_RESERVED_FIELDS = frozenset(
    {"model", "prompt", "n", "size", "quality", "response_format", "stream", "partial_images", "messages"}
)
_NO_RESPONSE_FORMAT = re.compile(r"^(gpt-image|chatgpt-image)", re.IGNORECASE)
NANO = 1_000_000_000


class SettingsError(BackendError, ValueError):
    """A setting is out of range or contradicts another. The message begins with its name in the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked settings of one `openai-images` generator. See `OpenAIImages` for each field."""

    model: str
    base_url: str
    api_key_env: str | None
    size: str | None
    quality: str | None
    response_format: str | None
    images_per_request: int
    concurrency: int
    images_per_minute: float | None
    price_per_image: float | None
    max_cost: float | None
    timeout: float
    max_retries: int
    extra_body: Mapping[str, Any]
    endpoint: str = "images"
    preflight: str = "strict"
    currency: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    api_key_header: str | None = None

    def __post_init__(self) -> None:
        _check(bool(self.model.strip()), "model", "name the model; the client's own default is a withdrawn one")
        _check_base_url(self.base_url)
        _check(
            self.response_format in (None, "url", "b64_json", "base64"),
            "response_format",
            "use url, b64_json or base64",
        )
        if self.response_format and self.on_provider and _NO_RESPONSE_FORMAT.match(self.model):
            _check(False, "response_format", f"{self.model} takes none and always answers base64: remove the setting")
        self._check_connection()
        _check(1 <= self.images_per_request <= 10, "images_per_request", "the API makes 1 to 10 images per request")
        _check(1 <= self.concurrency <= 256, "concurrency", "use 1 to 256")
        _check(0 <= self.max_retries <= 20, "max_retries", "use 0 to 20")
        _check(math.isfinite(self.timeout) and self.timeout > 0, "timeout", "use a number of seconds above 0")
        for name in ("images_per_minute", "price_per_image", "max_cost"):
            value = getattr(self, name)
            _check(value is None or (math.isfinite(value) and value >= 0), name, "use a number of 0 or more")
        _check(self.images_per_minute != 0, "images_per_minute", "0 would never send anything: remove it for no limit")
        if self.max_cost is not None:
            _check(bool(self.price_per_image), "max_cost", "set price_per_image too, else nothing can be counted")
        taken = sorted(_RESERVED_FIELDS & set(self.extra_body))
        _check(not taken, "extra_body", f"{', '.join(taken)} cannot be set here: the backend sets it or cannot take it")
        try:
            json.dumps(dict(self.extra_body), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"generator.extra_body: not JSON ({error})") from None
        if self.sends_seed:
            _check(
                self.images_per_request == 1,
                "images_per_request",
                f"must be 1 where extra_body sends {SEED_PLACEHOLDER}: each image has its own seed",
            )

    def _check_connection(self) -> None:
        _check(self.endpoint in ("images", "chat"), "endpoint", "use images or chat")
        _check(self.preflight in ("strict", "warn", "off"), "preflight", "use strict, warn or off")
        _check(
            self.currency is None or bool(re.fullmatch(r"[A-Z]{3}", self.currency)),
            "currency",
            "use a code of three letters, such as USD",
        )
        if self.endpoint == "chat":
            _check(
                self.images_per_request == 1,
                "images_per_request",
                "must be 1 with endpoint chat: a message asks for one",
            )
            for name in ("size", "quality", "response_format"):
                _check(
                    getattr(self, name) is None,
                    name,
                    "chat models take none: what yours takes belongs into generator.extra_body, such as image_config",
                )
        for name, value in self.extra_headers.items():
            _check(bool(_HEADER_NAME.match(name)), "extra_headers", f"{name!r} is no name of a header")
            _check(value.isascii() and value.isprintable(), "extra_headers", f"the value of {name} cannot be sent")
            _check(
                name.lower() not in _SECRET_HEADERS or bool(ENV_PLACEHOLDER.search(value)),
                "extra_headers",
                f"{name} holds a secret, which would be written into the run: put it into an environment variable and write "
                "{env:NAME} in its place",
            )
        _check(
            self.api_key_header is None or bool(_HEADER_NAME.match(self.api_key_header)),
            "api_key_header",
            "use the name of a header, such as api-key",
        )

    @property
    def lists_otherwise(self) -> bool:
        """Whether the server is known to list other names than those that it takes."""
        return any(f".{self.host}".endswith("." + known) for known in _LISTS_OTHERWISE)

    @property
    def host(self) -> str:
        return (urlsplit(self.base_url).hostname or "").lower()

    @property
    def on_provider(self) -> bool:
        """Whether requests go to the provider's own API (or one of its regional hosts)."""
        return self.host == PROVIDER_HOST or self.host.endswith("." + PROVIDER_HOST)

    @property
    def host_is_local_name(self) -> bool:
        """Whether the address itself, without a look-up, says that the server is on this machine or network."""
        try:
            return not ipaddress.ip_address(self.host).is_global
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    @property
    def sends_seed(self) -> bool:
        return SEED_PLACEHOLDER in _strings(self.extra_body)

    @property
    def price_nano(self) -> int:
        """Price of one image in billionths: whole numbers, so that sums of prices compare exactly with the limit."""
        return to_nano(self.price_per_image or 0.0)

    @property
    def withdrawn_on(self) -> dt.date | None:
        """The day the provider shut the model down, if requests go to the provider and that day has come."""
        day = SHUTDOWN_BY_PROVIDER.get(self.model.lower()) if self.on_provider else None
        return day if day and day <= dt.datetime.now(dt.UTC).date() else None

    def body_for(self, seed: int) -> dict[str, Any]:
        """`extra_body` with the seed put in place of its placeholder."""
        return {k: _fill(v, seed % SEED_RANGE) for k, v in self.extra_body.items()}


def to_nano(amount: float) -> int:
    """`amount` in billionths. Goes through the shortest decimal form: 0.1 is a tenth here, as the user wrote it."""
    return int(Decimal(repr(float(amount))) * NANO)


def money(amount: float, currency: str | None = None) -> str:
    """An amount with two decimals, or as many as it has, and its currency.

    >>> money(1.6), money(0.045, "USD")
    ('1.60', '0.045 USD')
    """
    whole, _, part = f"{Decimal(to_nano(amount)) / NANO:f}".partition(".")
    return f"{whole}.{part.rstrip('0'):0<2}" + (f" {currency}" if currency else "")


def _check(holds: bool, field: str, mend: str) -> None:
    if not holds:
        raise SettingsError(f"generator.{field}: {mend}.")


def _check_base_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"generator.base_url: not a URL ({error}).") from None
    _check(
        parts.scheme in ("http", "https") and bool(parts.hostname), "base_url", "use http(s)://HOST/v1 or leave it out"
    )
    _check(
        parts.username is None and parts.password is None,
        "base_url",
        "leave credentials and query out: they would be written into the run; the key belongs into the environment",
    )
    _check(
        not parts.query and not parts.fragment,
        "base_url",
        "leave credentials and query out; what the server needs in the address belongs into generator.query, such as "
        'query: {api-version: "2025-04-01-preview"}',
    )
    for ending in ("/images/generations", "/chat/completions"):
        _check(
            not parts.path.rstrip("/").endswith(ending),
            "base_url",
            f"leave {ending} out: the client adds it",
        )


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
