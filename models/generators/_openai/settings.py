"""What the user can set, checked once, and what is known about the models they may name."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
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

_RESERVED_FIELDS = frozenset({"model", "prompt", "n", "size", "quality", "response_format", "stream", "partial_images"})
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

    def __post_init__(self) -> None:
        _check(bool(self.model.strip()), "model", "name the model; the client's own default is a withdrawn one")
        _check_base_url(self.base_url)
        _check(self.response_format in (None, "url", "b64_json"), "response_format", "use url or b64_json")
        if self.response_format and self.on_provider and _NO_RESPONSE_FORMAT.match(self.model):
            _check(False, "response_format", f"{self.model} takes none and always answers base64: remove the setting")
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


def money(amount: float) -> str:
    """An amount with two decimals, or as many as it has.

    >>> money(1.6), money(0.045)
    ('1.60', '0.045')
    """
    whole, _, part = f"{Decimal(to_nano(amount)) / NANO:f}".partition(".")
    return f"{whole}.{part.rstrip('0'):0<2}"


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
        parts.username is None and parts.password is None and not parts.query and not parts.fragment,
        "base_url",
        "leave credentials and query out: they would be written into the run; the key belongs into the environment",
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
