"""What a user can set of a hosted API whatever is asked of it, checked once."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import urlsplit

from allfour.errors import BackendError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
PROVIDER_HOST = "api.openai.com"

_LISTS_OTHERWISE = (
    "openai.azure.com",
    "services.ai.azure.com",
    "cognitiveservices.azure.com",
    "openrouter.ai",
    "api.x.ai",
    "ai-gateway.vercel.sh",
)
"""Hosts whose list of models is not the list of what can be asked: Azure lists models where deployments are asked for, the others
list their chat models first. A name that is missing there is worth a warning."""
ENV_PLACEHOLDER = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
"""In `extra_headers`: the value of an environment variable."""
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie", "x-goog-api-key"}
)
NANO = 1_000_000_000


class SettingsError(BackendError, ValueError):
    """A setting is out of range or contradicts another. The message begins with its name in the config."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is asked of a hosted API, in the words that its errors need."""

    block: str
    """Of the config."""
    order: str
    """What is paid for: image, answer."""
    offers: str
    """What the server must have at its address."""
    pace: str
    """The setting that limits how much is asked for in a minute."""
    price: str
    """The setting with the price of one."""
    most_bytes: int
    """More than one of them is long, in an answer."""
    hint: str = ""
    """What can be done without the model, where something can."""
    likely: re.Pattern[str] | None = None
    """What names of fitting models look like."""
    known: Callable[[], tuple[str, ...]] = tuple
    """Models that the installed client knows, for a server that does not list its own."""
    withdrawn: Mapping[str, dt.date] = field(default_factory=dict)
    """Models of the provider that it shut, or will shut, and when."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Field of a request -> the setting that it comes from, where their names differ."""

    @property
    def orders(self) -> str:
        """Several of them."""
        return f"{self.order}s"

    def setting(self, name: str) -> str:
        """A setting as a config names it; `name` may be a field of the request."""
        return f"{self.block}.{self.settings.get(name, name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a model is asked, how often, and for how much at most."""

    service: ClassVar[Service]
    reserved: ClassVar[frozenset[str]]
    """Fields of the request that `extra_body` may not hold."""

    model: str
    base_url: str
    api_key_env: str | None
    concurrency: int
    timeout: float
    max_retries: int
    max_cost: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    preflight: str = "strict"
    currency: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    api_key_header: str | None = None

    def __post_init__(self) -> None:
        self.check(
            bool(self.model.strip()), "model", "name the model, because the client's own default has been withdrawn"
        )
        self._check_base_url()
        self.check(1 <= self.concurrency <= 256, "concurrency", "use 1 to 256")
        self.check(0 <= self.max_retries <= 20, "max_retries", "use 0 to 20")
        self.check(math.isfinite(self.timeout) and self.timeout > 0, "timeout", "use a number of seconds above 0")
        pace, price = self.service.pace, self.service.price
        for name in (pace, price, "max_cost"):
            value = getattr(self, name)
            self.check(value is None or (math.isfinite(value) and value >= 0), name, "use a number of 0 or more")
        self.check(getattr(self, pace) != 0, pace, "0 would never send anything. Remove it for no limit")
        if self.max_cost is not None:
            self.check(
                bool(self.unit_price), "max_cost", f"set {price} too, because without it spending cannot be counted"
            )
        taken = sorted(self.reserved & set(self.extra_body))
        self.check(
            not taken, "extra_body", f"{', '.join(taken)} cannot be set here: the backend sets it or cannot take it"
        )
        try:
            json.dumps(dict(self.extra_body), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{self.service.block}.extra_body: not JSON ({error})") from None
        self._check_words()

    def check(self, holds: bool, name: str, mend: str) -> None:
        """Raise SettingsError for a setting that does not hold."""
        if not holds:
            raise SettingsError(f"{self.service.block}.{name}: {mend}.")

    def _check_words(self) -> None:
        self.check(self.preflight in ("strict", "warn", "off"), "preflight", "use strict, warn or off")
        self.check(
            self.currency is None or bool(re.fullmatch(r"[A-Z]{3}", self.currency)),
            "currency",
            "use a code of three letters, such as USD",
        )
        for name, value in self.extra_headers.items():
            self.check(bool(_HEADER_NAME.match(name)), "extra_headers", f"{name!r} is not a header's name")
            self.check(value.isascii() and value.isprintable(), "extra_headers", f"the value of {name} cannot be sent")
            self.check(
                name.lower() not in _SECRET_HEADERS or bool(ENV_PLACEHOLDER.search(value)),
                "extra_headers",
                f"{name} contains a secret, which would be written into the run. Put it into an environment variable and write {{env:NAME}} instead",
            )
        self.check(
            self.api_key_header is None or bool(_HEADER_NAME.match(self.api_key_header)),
            "api_key_header",
            "use the name of a header, such as api-key",
        )

    def _check_base_url(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            _ = parts.port
        except ValueError as error:
            raise SettingsError(f"{self.service.block}.base_url: not a URL ({error}).") from None
        self.check(
            parts.scheme in ("http", "https") and bool(parts.hostname),
            "base_url",
            "use http(s)://HOST/v1, or leave base_url out",
        )
        self.check(
            parts.username is None and parts.password is None,
            "base_url",
            "leave out credentials and query, because they would be written into the run. The key goes into the environment",
        )
        self.check(
            not parts.query and not parts.fragment,
            "base_url",
            f'leave out credentials and query. What the server needs in its address goes into {self.service.block}.query, such as query: {{api-version: "2025-04-01-preview"}}',
        )
        for ending in ("/images/generations", "/chat/completions"):
            self.check(
                not parts.path.rstrip("/").endswith(ending), "base_url", f"leave {ending} out: the client adds it"
            )

    @property
    def unit_price(self) -> float | None:
        """Price of one of what is ordered, in any currency."""
        price: float | None = getattr(self, self.service.price)
        return price

    @property
    def unit_nano(self) -> int:
        """The same in billionths: whole numbers, so that sums of prices compare exactly with the limit."""
        return to_nano(self.unit_price or 0.0)

    @property
    def max_nano(self) -> int | None:
        """`max_cost` in billionths."""
        return None if self.max_cost is None else to_nano(self.max_cost)

    @property
    def per_minute(self) -> float | None:
        """How many may be ordered in a minute; None for no limit."""
        pace: float | None = getattr(self, self.service.pace)
        return pace

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
    def withdrawn_on(self) -> dt.date | None:
        """The day the provider shut the model down, if requests go to the provider and that day has come."""
        day = self.service.withdrawn.get(self.model.lower()) if self.on_provider else None
        return day if day and day <= dt.datetime.now(dt.UTC).date() else None


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
