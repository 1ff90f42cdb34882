"""`openai-images`: any server that speaks the OpenAI image API, through the official client.

    generator = OpenAIImages(model="gpt-image-2.5-flare", size="1024x1024", price_per_image=0.02, max_cost=2.0)
    print(generator.estimate(requests).describe())
    for outcome in generator.generate(requests):
        ...  # commit it: the next step of the loop tells the generator that this one is safe

How it behaves, and what is counted as spent: docs/hosted-apis.md.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from allfour.errors import BackendError, MaxCostError
from allfour.models._hosted.connection import DEFAULT_BASE_URL, NANO, SettingsError, money, to_nano
from allfour.models._hosted.ledger import Ledger, LedgerTotals, read_totals
from allfour.models._hosted.preflight import Preflight
from allfour.models._hosted.session import open_session, preflight
from allfour.models.generators._openai.keeping import fingerprint, outcome_of
from allfour.models.generators._openai.reading import AnswerReader
from allfour.models.generators._openai.settings import Settings
from allfour.models.generators.base import GenerationRequest, GeneratorSettings, Outcome
from allfour.models.settings import PreflightMode, Readiness

__all__ = ["CostEstimate", "LedgerTotals", "OpenAIImages", "Preflight", "SettingsError"]

RESUME_HINT = "Everything made so far is kept: repeat the same command to continue."


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a run would cost, in the currency of `price_per_image`."""

    images: int
    """Images to ask for."""
    api_requests: int
    """Requests to the server if none has to be repeated."""
    price_per_image: float | None
    cost: float | None
    """images x price; None where no price is set."""
    already_spent: float
    """From the run's ledger, with what was in flight at a crash."""
    max_cost: float | None
    currency: str | None = None
    ordered: int = 0
    """Further images that are on order already, and counted in `already_spent`."""

    @property
    def fits(self) -> bool:
        """Whether all images fit under `max_cost`, if every request succeeds the first time."""
        if self.cost is None or self.max_cost is None:
            return True
        return to_nano(self.already_spent) + self.images * to_nano(self.price_per_image or 0) <= to_nano(self.max_cost)

    def describe(self) -> str:
        """One sentence for the terminal."""
        head = f"{_count(self.images, 'image')} in {_count(self.api_requests, 'request')}"
        if self.ordered:
            head = f"{_count(self.ordered, 'image')} already ordered, and {head}"
        if self.cost is None:
            return f"{head}; cost unknown, because generator.price_per_image is not set."
        text = f"{head}, about {money(self.cost, self.currency)} at {self.price_per_image:g} each"
        if self.already_spent:
            text += f", in addition to {money(self.already_spent, self.currency)} already spent"
        if self.max_cost is not None:
            text += f"; the limit is {money(self.max_cost, self.currency)}" + (
                "" if self.fits else ", which will stop the run before it is complete"
            )
        return text + "."


class HostedConfig(GeneratorSettings):
    """What every backend sets that asks an OpenAI-compatible image API."""

    hosted = True

    model: str
    base_url: str | None = None
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key. A key itself never stands in a config."""
    size: str | None = None
    quality: str | None = None
    response_format: Literal["b64_json", "base64", "url"] | None = None
    images_per_request: int = Field(default=1, ge=1, le=10)
    price_per_image: float | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=5, ge=0, le=20)
    extra_body: dict[str, Any] | None = None
    preflight: PreflightMode = "strict"
    """What it means where the server does not list the model."""
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    query: dict[str, str] | None = None
    """Sent in the address of every request."""
    extra_headers: dict[str, str] | None = None
    """Sent with every request; `{env:NAME}` in a value stands for an environment variable."""
    api_key_header: str | None = None
    """The header that carries the key; otherwise `Authorization: Bearer`."""

    def price(self) -> tuple[float, str | None] | None:
        return None if self.price_per_image is None else (self.price_per_image, self.currency)

    def booked(self, ledger: Path) -> float:
        return read_totals(ledger).spent if ledger.is_file() else 0.0

    def capped(self, total: float) -> Self:
        least = total if self.max_cost is None else min(total, self.max_cost)
        return self.model_copy(update={"max_cost": least})


class OpenAIImagesConfig(HostedConfig):
    """A hosted, OpenAI-compatible image API."""

    backend: Literal["openai-images"]
    concurrency: int = Field(default=4, ge=1, le=256)
    images_per_minute: float | None = Field(default=None, gt=0)
    endpoint: Literal["images", "chat"] = "images"
    """`chat`: a model that draws in a chat (POST /chat/completions)."""

    def build(self, *, ledger: Path | None = None) -> OpenAIImages:
        return OpenAIImages(**self.model_dump(exclude={"backend"}), ledger_path=ledger)

    def check(self) -> Readiness:
        """Whether the service answers and has the model."""
        return self.build().preflight().readiness


class OpenAIImages:
    """Generator that asks an OpenAI-compatible image API.

    Parameters
    ----------
    model
        Model id, always sent (the client's own default is a withdrawn model).
    base_url
        Address of the API, ending in /v1 as a rule. None: `OPENAI_BASE_URL`, else the provider's.
    api_key_env
        Name of the environment variable with the key. A server at a local address needs none.
    size, quality, response_format
        Sent where set. gpt-image models take no `response_format`.
    endpoint
        `images` (POST /images/generations), or `chat` (POST /chat/completions) for models that draw in a chat.
    preflight
        What a model that the server does not list means: `strict` ends the run, `warn` warns, `off` does not ask.
    currency
        Three letters, for messages and the run's header.
    query
        Sent in the address of every request, such as `api-version`.
    extra_headers
        Sent with every request; "{env:NAME}" in a value stands for an environment variable.
    api_key_header
        The header that carries the key; None: `Authorization: Bearer`.
    images_per_request
        Images of one prompt asked for at once (the field `n`), 1 to 10. A policy that withholds
        one image refuses the whole request, so 1 loses the fewest.
    concurrency
        Requests under way at once.
    images_per_minute
        Limit over all requests, retries included.
    price_per_image
        For the estimate and the ledger; any currency.
    max_cost
        Total that is never passed by what is asked for; needs `price_per_image`.
    timeout
        Seconds for an attempt up to the last header of its answer, and as many for the body, however either drips.
    max_retries
        Retries of the official client, the only ones there are.
    extra_body
        Further fields of the request. The text "{seed}" stands for the image's seed modulo 2**31; without
        it no seed is sent, as the provider's API has none.
    ledger_path
        The SQLite ledger; None keeps it in memory.

    Raises
    ------
    SettingsError
        (A BackendError and a ValueError.) A setting is out of range or contradicts another; the message
        names it as `generator.NAME`.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = "OPENAI_API_KEY",
        size: str | None = None,
        quality: str | None = None,
        response_format: str | None = None,
        images_per_request: int = 1,
        concurrency: int = 4,
        images_per_minute: float | None = None,
        price_per_image: float | None = None,
        max_cost: float | None = None,
        timeout: float = 120.0,
        max_retries: int = 5,
        extra_body: Mapping[str, Any] | None = None,
        endpoint: str = "images",
        preflight: str = "strict",
        currency: str | None = None,
        query: Mapping[str, str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        api_key_header: str | None = None,
        ledger_path: str | Path | None = None,
    ) -> None:
        self._settings = Settings(
            model=model,
            base_url=(base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL).rstrip("/"),
            api_key_env=api_key_env,
            size=size,
            quality=quality,
            response_format=response_format,
            images_per_request=images_per_request,
            concurrency=concurrency,
            images_per_minute=images_per_minute,
            price_per_image=price_per_image,
            max_cost=max_cost,
            timeout=timeout,
            max_retries=max_retries,
            extra_body=dict(extra_body or {}),
            endpoint=endpoint,
            preflight=preflight,
            currency=currency,
            query=dict(query or {}),
            extra_headers=dict(extra_headers or {}),
            api_key_header=api_key_header,
        )
        self._ledger_path = Path(ledger_path) if ledger_path is not None else None
        self._preflight: Preflight | None = None
        self._facts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"OpenAIImages(model={self._settings.model!r}, base_url={self._settings.base_url!r})"

    def identity(self) -> Mapping[str, Any]:
        """What decides the images: backend, model, address and the fields sent. Not how fast or how dear they come."""
        s = self._settings
        identity = {
            "backend": "openai-images",
            "model": s.model,
            "base_url": s.base_url,
            "size": s.size,
            "quality": s.quality,
            "extra_body": dict(s.extra_body),
        }
        # Named where they are set alone, so that runs from before they existed go on.
        return (
            identity
            | ({"query": dict(s.query)} if s.query else {})
            | ({"endpoint": "chat"} if s.endpoint == "chat" else {})
        )

    def estimate(self, requests: Iterable[GenerationRequest]) -> CostEstimate:
        """What generating `requests` would cost. Sends nothing."""
        s = self._settings
        counts: dict[tuple[str, str], int] = {}
        for request in requests:
            counts[request.prompt_id, request.prompt] = counts.get((request.prompt_id, request.prompt), 0) + 1
        images = sum(counts.values())
        return CostEstimate(
            images=images,
            api_requests=sum(math.ceil(count / s.images_per_request) for count in counts.values()),
            price_per_image=s.price_per_image,
            cost=None if s.price_per_image is None else images * s.unit_nano / NANO,
            already_spent=self.spent().spent,
            max_cost=s.max_cost,
            currency=s.currency,
        )

    def spent(self) -> LedgerTotals:
        """The ledger's totals so far (zeros where it is kept in memory: those end with `generate`).

        Raises
        ------
        BackendError
            The ledger cannot be read.
        """
        return replace(read_totals(self._ledger_path), currency=self._settings.currency)

    def recount(self, earlier: Mapping[str, Any], *, existing: int) -> str | None:
        """See `Recounts`. Raises BackendError where the ledger cannot be used."""
        images = sum(int(earlier.get(name) or 0) for name in ("answered_images", "uncertain_images"))
        if self._ledger_path is None or not (images or existing):
            return None
        ledger = Ledger(self._ledger_path, price_nano=self._settings.unit_nano, max_nano=None)
        try:
            booked, nano = ledger.recount(
                images=images, spent_nano=to_nano(float(earlier.get("spent") or 0.0)), existing=existing
            )
        finally:
            ledger.close()
        if not booked:
            return None
        return f"{self._ledger_path.name} is missing, empty or an older copy. {_count(booked, 'image')} that it does not list {'is' if booked == 1 else 'are'} counted as spent ({money(nano / NANO, self._settings.currency)}), because run.json and the images show them. Attempts since the last finished command that brought no image, and orders of a batch that is still open, are recorded nowhere else"

    def facts(self) -> Mapping[str, Any]:
        """What the server did that no image shows: images beyond those asked for, of another size, or by another model's name."""
        return dict(self._facts)

    def preflight(self) -> Preflight:
        """Whether a run can start: package, key, server, model. Costs nothing and takes seconds; never raises."""
        self._preflight = preflight(self._settings)
        return self._preflight

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        """One outcome per request, each as soon as it stands.

        Asking for the next outcome says that the last one is safe with the caller: until then its bytes stay in the
        ledger, and a later call for the same request gets them from there instead of paying again.

        Raises
        ------
        BackendError
            The run cannot start (see `preflight`), or cannot go on: key, quota, model or setting not
            accepted, `max_cost` reached, ledger not writable. Every outcome that stands is yielded first.
        """
        todo = list(requests)
        if not todo:
            return
        identity = self.identity()
        ledger = Ledger(self._ledger_path, price_nano=self._settings.unit_nano, max_nano=self._settings.max_nano)
        try:
            prints = {request.key: fingerprint(identity, request) for request in todo}
            missing: list[GenerationRequest] = []
            for request in todo:
                kept = ledger.kept(prints[request.key], request)
                if kept is None:
                    missing.append(request)
                    continue
                yield outcome_of(request, kept)
                ledger.release(prints[request.key], request)
            if missing:
                # closed before the ledger is: answers on the wire are booked even where the caller walks away
                with contextlib.closing(self._generate(missing, identity, ledger)) as outcomes:
                    for outcome in outcomes:
                        yield outcome
                        ledger.release(prints[outcome.request.key], outcome.request)
        finally:
            ledger.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _generate(
        self, todo: list[GenerationRequest], identity: Mapping[str, Any], ledger: Ledger
    ) -> Generator[Outcome]:
        s = self._settings
        checked = self._preflight  # by the caller, a moment ago
        if checked is None or not checked.ok:
            checked = self.preflight()
        if not checked.ok:
            raise BackendError(checked.error())
        from allfour.models._hosted.dispatch import NoFurtherError, dispatch
        from allfour.models.generators._openai.asking import ImageAsker, group_requests

        stop = threading.Event()
        session = open_session(s, ledger=ledger, stop=stop, own_fields=s.own_fields)
        reader = AnswerReader(settings=s, scrub=session.scrub, stop=stop)
        asker = ImageAsker(
            client=session.client,
            settings=s,
            identity=identity,
            ledger=ledger,
            reader=reader,
            scrub=session.scrub,
            verdicts=session.verdicts,
            stop=stop,
            served_models=checked.served_models,
        )
        try:
            yield from dispatch(asker, group_requests(todo, s.images_per_request), ledger=ledger, stop=stop, settings=s)
        except NoFurtherError as error:
            raise (MaxCostError if error.budget else BackendError)(f"{error} {RESUME_HINT}") from error
        finally:
            self._facts += reader.facts
            if not asker.calls:  # a call that was left behind still uses it
                session.client.close()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
