"""`judge`: a vision-language model behind an OpenAI-compatible chat API looks at every image and answers closed questions.

vLLM, SGLang, Ollama or a hosted service. How to serve one, what it costs and how its answers become probabilities: docs/judge.md.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from allfour.errors import BackendError, ClassifierError
from allfour.models._hosted.connection import DEFAULT_BASE_URL, NANO, money, to_nano
from allfour.models._hosted.ledger import Ledger, read_totals
from allfour.models._hosted.session import open_session, preflight
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers._judge.question import INSTRUCTIONS, Question, make_question
from allfour.models.classifiers._judge.settings import JudgeSettings
from allfour.models.classifiers.base import ClassifierSettings, Reading
from allfour.models.settings import PreflightMode, Readiness

if TYPE_CHECKING:
    from PIL import Image

    from allfour.models._hosted.groups import Group
    from allfour.models.classifiers._judge.asking import Ask, Reply

_QUALITY = 90


class JudgeConfig(ClassifierSettings):
    """A vision-language model behind an OpenAI-compatible chat API."""

    hosted = True

    backend: Literal["judge"]
    model: str
    """As the server names it."""
    base_url: str | None = None
    """Address of the API, ending in /v1 as a rule. Without it `OPENAI_BASE_URL`, else the provider's."""
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key. A server at a local address needs none."""
    instructions: str = Field(default=INSTRUCTIONS, min_length=1, max_length=4000)
    """How the question begins. What follows, the questions and their answers, is made from the attributes file."""
    max_people: int = Field(default=20, ge=1, le=100)
    """More people than that are not asked for, and an answer that describes more is not used."""
    max_side: int = Field(default=768, ge=64, le=4096)
    """Images are made smaller until their longer side has so many pixels, and sent as JPEG."""
    detail: Literal["low", "high", "auto"] | None = None
    """Sent with the image where it is set: services that price by it take it."""
    answer_format: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    """How the form of an answer is asked for. `auto`: by JSON schema, and by less where the server does not take that."""
    logprobs: int = Field(default=5, ge=0, le=20)
    """Alternatives asked for at each token, from which probabilities are made (0: none). A server that gives none does no harm."""
    repeats: int = Field(default=1, ge=1, le=50)
    """Answers asked for about each image; probabilities are the mean over them."""
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """Null: not sent."""
    max_tokens: int | None = Field(default=1500, ge=16)
    """Of an answer; null: not sent."""
    concurrency: int = Field(default=4, ge=1, le=256)
    answers_per_minute: float | None = Field(default=None, gt=0)
    price_per_answer: float | None = Field(default=None, ge=0)
    """For the estimate and the ledger; any currency."""
    max_cost: float | None = Field(default=None, ge=0)
    """Total that is never passed by what is asked for; needs `price_per_answer`."""
    currency: str | None = Field(default=None, pattern=r"^[A-Z]{3}$")
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for an attempt, however its answer drips."""
    max_retries: int = Field(default=5, ge=0, le=20)
    preflight: PreflightMode = "strict"
    """What it means where the server does not list the model."""
    extra_body: dict[str, Any] | None = None
    """Further fields of the request."""
    query: dict[str, str] | None = None
    """Sent in the address of every request."""
    extra_headers: dict[str, str] | None = None
    """Sent with every request; `{env:NAME}` in a value stands for an environment variable."""
    api_key_header: str | None = None
    """The header that carries the key; otherwise `Authorization: Bearer`."""

    @model_validator(mode="after")
    def _repeats_differ(self) -> Self:
        if self.repeats > 1 and self.temperature == 0:
            raise ValueError(
                f"repeats: at temperature 0, {self.repeats} answers are the same answer paid for {self.repeats} times. Set temperature (to 1.0, say), or repeats to 1"
            )
        return self

    def connection(self) -> JudgeSettings:
        """The settings of the API. Raises SettingsError."""
        own = ("backend", "instructions", "max_people", "max_side", "repeats")
        given = {name: value for name, value in self.model_dump(exclude=set(own)).items() if value is not None}
        address = self.base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_BASE_URL
        none = {"temperature": self.temperature, "max_tokens": self.max_tokens, "max_cost": self.max_cost}
        return JudgeSettings(**{**given, **none, "base_url": address.rstrip("/")})

    def build(self, *, attributes: AttributeSet) -> JudgeClassifier:
        try:
            return JudgeClassifier(self, attributes=attributes)
        except BackendError as error:
            raise ClassifierError(str(error)) from None

    def check(self, *, attributes: AttributeSet) -> Readiness:
        """Whether the service answers and has the model. Asks nothing that costs."""
        self.build(attributes=attributes)
        connection = self.connection()
        found = preflight(connection)
        unpriced = self.price_per_answer is None and not connection.host_is_local_name
        warnings = (
            ("price_per_answer is not set, so the cost is unknown and max_cost cannot be kept.",) if unpriced else ()
        )
        return Readiness(found.ok, found.message, found.mend, (*found.warnings, *warnings))


class JudgeClassifier:
    """`AskedPeople` and `KeepsAccounts`: see `allfour.models.classifiers.base`.

    Raises
    ------
    BackendError
        A setting is out of range or contradicts another.
    ClassifierError
        The attributes cannot be asked for.
    """

    def __init__(self, config: JudgeConfig, *, attributes: AttributeSet) -> None:
        self._config, self._attributes = config, attributes
        self._settings = config.connection()
        self._question = make_question(attributes, instructions=config.instructions, max_people=config.max_people)
        self._ledger: Path | None = None
        self._models: Counter[str] = Counter()
        self._form: str | None = None
        self._stopped: str | None = None

    def __repr__(self) -> str:
        return f"JudgeClassifier(model={self._settings.model!r}, base_url={self._settings.base_url!r})"

    @property
    def attributes(self) -> AttributeSet:
        return self._attributes

    @property
    def question(self) -> Question:
        """What is asked about every image."""
        return self._question

    def identity(self) -> Mapping[str, Any]:
        """What decides the answers: model, address, the whole question, and how it is asked. Not how fast or how dear they come."""
        s, c = self._settings, self._config
        return {
            "backend": "judge",
            "model": s.model,
            "base_url": s.base_url,
            "question": self._question.text,
            "answer_format": s.answer_format,
            "image": {"max_side": c.max_side, "jpeg_quality": _QUALITY, "detail": s.detail},
            "repeats": c.repeats,
            "logprobs": s.logprobs,
            "temperature": s.temperature,
            "max_tokens": s.max_tokens,
            "extra_body": dict(s.extra_body),
            "wording_sha256": self._attributes.wording_sha256(),
            **({"query": dict(s.query)} if s.query else {}),
        }

    def keep_accounts(self, path: Path) -> None:
        self._ledger = path

    def recount(self, earlier: Mapping[str, Any], *, read: int) -> str | None:
        """See `KeepsAccounts`. Raises ClassifierError where the ledger cannot be used."""
        answers, s = sum(int(earlier.get(name) or 0) for name in ("answers", "uncertain")), self._settings
        if self._ledger is None or not (answers or read):
            return None
        try:
            with contextlib.closing(Ledger(self._ledger, price_nano=s.unit_nano, max_nano=None)) as ledger:
                booked, nano = ledger.recount(
                    images=answers,
                    spent_nano=to_nano(float(earlier.get("spent") or 0.0)),
                    existing=read * self._config.repeats,
                )
        except BackendError as error:
            raise ClassifierError(str(error)) from None
        if not booked:
            return None
        return f"{self._ledger.name} is missing, empty or an older copy. {booked:,} answers that it does not list are counted as spent ({money(nano / NANO, s.currency)}), because run.json and the images that were read show them. The answers themselves are lost, and images that need them are asked about again"

    def estimate(self, images: int) -> str:
        s, answers = self._settings, images * self._config.repeats
        text = f"{images:,} images, {answers:,} answers"
        if not s.unit_price and s.host_is_local_name:
            return text
        if not s.unit_price:
            return f"{text}; cost unknown, because classifier.price_per_answer is not set"
        text += f", about {money(answers * s.unit_nano / NANO, s.currency)} at {s.unit_price:g} each if none has been asked before"
        return text + (f"; the limit is {s.max_cost:g}" if s.max_cost is not None else "")

    def account(self) -> dict[str, Any]:
        totals = read_totals(self._ledger)
        return {
            "attempts": totals.attempts,
            "answers": totals.answered_images,
            "uncertain": totals.uncertain_images,
            "in_flight": totals.in_flight,
            "rejected": totals.rejected,
            "spent": totals.spent,
            "currency": self._settings.currency,
            "models": dict(self._models),
            "answer_format": self._form,
            "stopped": self._stopped,
        }

    def prepare(self, image: Image.Image) -> bytes:
        """A JPEG whose longer side is at most `max_side`."""
        side = self._config.max_side
        if max(image.size) > side:
            scale = side / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            from PIL import Image as Pillow

            image = image.resize(size, Pillow.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def read(self, images: Iterator[tuple[str, bytes]]) -> Generator[tuple[str, Reading]]:
        """See `AskedPeople`. An image whose answers are all in the ledger is not asked about."""
        from allfour.models.classifiers._judge.desk import Desk

        try:
            ledger = Ledger(self._ledger, price_nano=self._settings.unit_nano, max_nano=self._settings.max_nano)
        except BackendError as error:
            raise ClassifierError(str(error)) from None
        desk = Desk(
            ledger,
            identity=self.identity(),
            repeats=self._config.repeats,
            answers=functools.partial(self._answers, ledger),
        )
        try:
            yield from desk.read(images)
        finally:
            self._models += desk.models
            self._stopped = desk.stopped or self._stopped
            ledger.close()

    def _answers(self, ledger: Ledger, groups: Iterable[Group[Ask]]) -> Generator[Reply]:
        """Ask; connects first, so that nothing is asked of a server that cannot answer. Raises NoFurtherError, ClassifierError."""
        from allfour.models._hosted.dispatch import dispatch
        from allfour.models.classifiers._judge.asking import JudgeAsker

        s, stop = self._settings, threading.Event()
        checked = preflight(s)
        if not checked.ok:
            raise ClassifierError(checked.error())
        session = open_session(s, ledger=ledger, stop=stop, own_fields=s.own_fields)
        asker = JudgeAsker(
            settings=s,
            question=self._question,
            identity=self.identity(),
            max_people=self._config.max_people,
            client=session.client,
            ledger=ledger,
            scrub=session.scrub,
            verdicts=session.verdicts,
            stop=stop,
            served_models=checked.served_models,
        )
        try:
            with contextlib.closing(dispatch(asker, groups, ledger=ledger, stop=stop, settings=s)) as replies:
                yield from replies
        finally:
            self._form = asker.form.format
            if not asker.calls:  # a call that was left behind still uses it
                session.client.close()
