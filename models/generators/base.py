"""The generator protocol: requests in, outcomes out.

A generator never raises for one image. Whatever happens to a request is an outcome with a name, so that nothing
can be dropped in silence: `Generated`, `Refused` (a policy said no) or `Failed` (anything else). Only an error that makes
every further request pointless (no key, no quota, no weights) is raised, as `BackendError`.

What a generator may do besides stands in protocols of its own; one that lacks it is served by the default that each names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from allfour.errors import BackendError
from allfour.models.settings import BackendSettings, Readiness


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One image to make."""

    prompt_id: str
    """Identifier of the prompt, safe as a folder name."""
    index: int
    """Position of the image within its prompt, from 0."""
    prompt: str
    """The text given to the model, unchanged."""
    seed: int
    """Seed of this image alone, in [0, 2**63): see `image_seed`."""

    @property
    def key(self) -> tuple[str, int]:
        return (self.prompt_id, self.index)


@dataclass(frozen=True, slots=True)
class Generated:
    """An image came back. `data` holds the original bytes, which the pipeline stores untouched."""

    request: GenerationRequest
    data: bytes
    extension: str
    """File extension without the dot, from the bytes and not from what a server claims: png, jpg, webp."""
    revised_prompt: str | None = None
    """The prompt as the service rewrote it, where it says so."""
    truth: Mapping[str, str] | None = None
    """True labels by attribute name, where the generator knows them (drawn images only)."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the backend reports, JSON-serialisable."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A content policy (or a safety checker) withheld the image. Never retried, never scored."""

    request: GenerationRequest
    reason: str
    code: str
    """The provider's own code, such as `content_policy_violation`; `safety_checker` for a local one."""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No image for any other reason, after the backend's own retries."""

    request: GenerationRequest
    error: str


Outcome = Generated | Refused | Failed

Finish = Callable[[], Outcome]
"""Brings one image to its end: waits for its pixels, checks and encodes them. From any thread, once; raises for no image."""


@runtime_checkable
class Generator(Protocol):
    """Turns requests into outcomes.

    `generate` yields exactly one outcome per request, in any order, and yields each as soon as it is made, so that the
    caller can commit it before the next one is paid for.
    """

    def identity(self) -> Mapping[str, Any]:
        """What makes these images these images: backend, model, weights' sha256, settings. JSON-serialisable, no secrets."""
        ...

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]: ...


@runtime_checkable
class AheadGenerator(Generator, Protocol):
    """A generator that makes the next images while the last ones are copied back, encoded and written.

    `generate_ahead` yields batches. Each holds every request that it answers, with what brings its outcome to an end; the caller
    calls that in threads of its own and asks for the next batch meanwhile. Images of a batch that is never finished are lost.
    Default: `generate`, one outcome after another.
    """

    def generate_ahead(
        self, requests: Iterable[GenerationRequest]
    ) -> Iterator[Sequence[tuple[GenerationRequest, Finish]]]: ...


@runtime_checkable
class PlannedGenerator(Protocol):
    """A generator that settles how it works by how much there is to do. Default: it works in one way."""

    def plan_for(self, images: int, earlier: Mapping[str, Any] | None) -> None:
        """Called once, before `identity`.

        Parameters
        ----------
        images
            Of the whole plan, whether made already or not, so that a run that goes on settles as it began.
        earlier
            Identity that this run's images have so far, None for a new run.
        """
        ...


@runtime_checkable
class HasFacts(Protocol):
    """A generator that says how it worked: what the run's header should tell and no image depends on. Default: nothing is told."""

    def facts(self) -> Mapping[str, Any]: ...


class Described(Protocol):
    """What can be put into one sentence for the terminal."""

    def describe(self) -> str: ...


@runtime_checkable
class HasEstimate(Protocol):
    """A generator that costs money and says how much before it is asked. Default: nothing is said."""

    def estimate(self, requests: Sequence[GenerationRequest]) -> Described: ...


@runtime_checkable
class HasLedger(Protocol):
    """A generator that keeps account of what it spent. Default: nothing was spent."""

    def spent(self) -> Any:
        """A dataclass of totals, JSON-serialisable."""
        ...


@runtime_checkable
class Recounts(HasLedger, Protocol):
    """A generator whose account can be lost, and be told again from what else the run knows. Default: there is none to lose."""

    def recount(self, earlier: Mapping[str, Any], *, existing: int) -> str | None:
        """Book what the account lacks.

        Parameters
        ----------
        earlier
            Totals that `spent` gave when a command last ended; empty where none did.
        existing
            Existing images of this generator.

        Returns
        -------
        What to tell the user; None where nothing was lacking.
        """
        ...


@runtime_checkable
class TellsProgress(Protocol):
    """A generator that has news between its outcomes, such as how far a batch is. Default: outcomes are the news."""

    def tell(self, note: Callable[[str], None]) -> None:
        """Called once, before `generate`; `note` shows a line to the user, from any thread."""
        ...


def settle(generator: Generator, *, images: int, earlier: Mapping[str, Any] | None) -> None:
    """Let a generator settle for a plan; see `PlannedGenerator.plan_for`."""
    if isinstance(generator, PlannedGenerator):
        generator.plan_for(images, earlier)


def facts_of(generator: Generator) -> dict[str, Any]:
    """How a generator worked; empty where it does not say."""
    return dict(generator.facts()) if isinstance(generator, HasFacts) else {}


def tell_progress(generator: Generator, note: Callable[[str], None]) -> None:
    """Let a generator say how far it is; see `TellsProgress`."""
    if isinstance(generator, TellsProgress):
        generator.tell(note)


def estimate_of(generator: Generator, requests: Sequence[GenerationRequest]) -> str | None:
    """What requests will cost, in a sentence; None where they cost nothing."""
    return generator.estimate(requests).describe() if isinstance(generator, HasEstimate) else None


def spent_of(generator: Generator) -> dict[str, Any] | None:
    """Totals of what was spent; None where a generator keeps no account."""
    return asdict(generator.spent()) if isinstance(generator, HasLedger) else None


def spending_of(generator: Generator, left: int = 0, *, price: tuple[float, str | None] | None = None) -> str | None:
    """What was spent so far, in words; None where it costs nothing or no price is known.

    Parameters
    ----------
    left
        Images that are still to come, at `price` each: the text then says what all will have cost.
    """
    try:
        spent = spent_of(generator)
    except BackendError:  # the run itself will say so
        return None
    if not spent or not spent.get("spent"):
        return None
    text = f"{spent['spent']:.2f}{' ' + spent['currency'] if spent.get('currency') else ''} spent"
    unbooked = left - int(spent.get("in_flight") or 0)  # what is on the wire is booked already
    if price is None or unbooked <= 0:
        return text
    return f"{text}, about {spent['spent'] + unbooked * price[0]:.2f} in all"


class GeneratorSettings(BackendSettings):
    """The block `generator`. A backend's own settings are a subclass of this one, with the field `backend: Literal["NAME"]` and what
    `build` hands to its class."""

    hosted: ClassVar[bool] = False
    """Asked over a network, by one process alone: `--rank` is refused."""

    backend: str

    def build(self, *, ledger: Path | None = None) -> Generator:
        """The generator. Imports what it needs.

        Parameters
        ----------
        ledger
            A file in the run's folder, for the accounts of a generator that costs money; None: nothing is kept.

        Raises
        ------
        BackendError
            It is not available.
        """
        raise NotImplementedError

    def price(self) -> tuple[float, str | None] | None:
        """What one image costs, with its currency where that is named. Default: None, nothing that is known of."""
        return None

    def booked(self, ledger: Path) -> float:
        """What the accounts in a run's folder say was spent. Default: nothing."""
        return 0.0

    def capped(self, total: float) -> Self:
        """The same with a limit of what a run may have cost in all. Default: it costs nothing, and has none."""
        return self

    def check(self) -> Readiness:
        """Whether a run can start, in seconds and without a download. Default: the generator is built. Raises BackendError."""
        self.build()
        return Readiness(True, "ready")


def image_seed(run_seed: int, prompt_id: str, index: int) -> int:
    """Seed of one image: the first 63 bits of sha256 over run seed, prompt id and index.

    Depends on nothing else, so the same image gets the same seed whatever the batch size, rank or order.
    (`hash()` of a string differs between processes and would not do.)
    """
    digest = hashlib.sha256(f"{run_seed}\x00{prompt_id}\x00{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
