"""`web-ui`: a Stable Diffusion web UI that runs already, by its API (/sdapi/v1/txt2img; started with --api).

AUTOMATIC1111's, and the forks that kept its API (Forge, SD.Next). How to set it up: docs/local-servers.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.models.generators._local.http import LocalServer, ServerError
from allfour.models.generators._local.images import attempt, ensure_ready, outcome_of
from allfour.models.generators._openai.bytes_check import NotAnImageError, decode_base64
from allfour.models.generators.base import Failed, Generated, GenerationRequest, GeneratorSettings, Outcome
from allfour.models.settings import Readiness

_SEEDS = 2**32
"""The web UI draws its noise from a seed of 32 bits."""
_OWN = frozenset(
    {"prompt", "negative_prompt", "seed", "steps", "cfg_scale", "width", "height", "sampler_name", "scheduler", "batch_size",
     "n_iter", "override_settings", "send_images", "save_images"}
)  # fmt: skip
_QUICK = 15.0
_MAX_PROMPT = 40_000
_ASKED_FOR = {"seed": "the seed", "steps": "steps", "cfg_scale": "guidance"}
"""What is compared with the server's report, and in which words. Names of samplers are no such thing: they have aliases."""


class WebUIConfig(GeneratorSettings):
    """A Stable Diffusion web UI that runs already."""

    hosted = True

    backend: Literal["web-ui"]
    base_url: str = "http://127.0.0.1:7860"
    auth_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable with USER:PASSWORD, where the server runs with --api-auth."""
    checkpoint: str | None = None
    """Title or name of a checkpoint that the server lists; otherwise the one that is loaded."""
    sampler: str | None = None
    scheduler: str | None = None
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    timeout: float = Field(default=600.0, gt=0)
    """Seconds for one image."""
    max_retries: int = Field(default=2, ge=0, le=20)
    extra_body: dict[str, Any] | None = None
    """Further fields of the request, such as alwayson_scripts."""

    def build(self, *, ledger: Path | None = None) -> WebUI:
        return WebUI(self)

    def check(self) -> Readiness:
        """Whether the server answers and has the checkpoint and the sampler."""
        return self.build().check()


class WebUI:
    """Generator that asks a web UI for one image at a time.

    Raises
    ------
    BackendError
        A setting cannot be, or, once it is asked, the server does not answer or lacks what is named.
    """

    def __init__(self, settings: WebUIConfig) -> None:
        self._settings = settings
        self._server = LocalServer(settings.base_url, auth_env=settings.auth_env, timeout=settings.timeout)
        self._ready = False
        taken = sorted(_OWN & set(settings.extra_body or {}))
        if taken:
            raise BackendError(f"generator.extra_body: {', '.join(taken)} cannot be set here: the backend sets it")

    def check(self) -> Readiness:
        """Whether a run can start. Never raises."""
        try:
            title = self._checkpoint["title"]
            self._check_samplers()
        except BackendError as error:
            return Readiness(False, str(error))
        return Readiness(True, f"{self._server.scrub(title, limit=120)} at {self._server.base_url}")

    @cached_property
    def _checkpoint(self) -> Mapping[str, Any]:
        """The listed checkpoint that images are made with. Raises BackendError."""
        listed = [m for m in _entries(self._ask("/sdapi/v1/sd-models")) if isinstance(m.get("title"), str)]
        wanted = self._settings.checkpoint
        if wanted is None:
            options = self._ask("/sdapi/v1/options")
            wanted = str((options.get("sd_model_checkpoint") if isinstance(options, dict) else None) or "")
        names = ("title", "model_name", "hash", "sha256")
        for model in listed:
            if wanted in [model.get(n) for n in names] or wanted == str(model["title"]).partition(" [")[0]:
                return model
        known = ", ".join(m["title"] for m in listed[:12]) or "none"
        problem = (
            f"generator.checkpoint: {wanted!r} is not among the checkpoints at"
            if wanted
            else "generator.checkpoint is not set, and the web UI has none loaded. There are these at"
        )
        raise BackendError(f"{problem} {self._server.base_url}: {self._server.scrub(known)}. Set it to one of them.")

    def _check_samplers(self) -> None:
        for key, path in (("sampler", "/sdapi/v1/samplers"), ("scheduler", "/sdapi/v1/schedulers")):
            wanted = getattr(self._settings, key)
            if wanted is None:
                continue
            listed = {str(e.get(n)) for e in _entries(self._ask(path)) for n in ("name", "label")} - {"None"}
            if wanted not in listed:
                has = self._server.scrub(", ".join(sorted(listed)))
                raise BackendError(f"generator.{key}: the server has no {wanted!r}. It has: {has}.")

    def _ask(self, path: str) -> Any:
        try:
            return self._server.get(path, timeout=min(_QUICK, self._settings.timeout))
        except ServerError as error:
            mend = {
                404: "The web UI is running without its API. Start it with --api.",
                401: "The web UI asks for a password. Set generator.auth_env to the name of a variable that holds USER:PASSWORD.",
            }.get(error.status, "Start the web UI with --api, and set generator.base_url to its address.")
            raise BackendError(f"web-ui: {self._server.base_url}{path}: {error}. {mend}") from None

    def identity(self) -> Mapping[str, Any]:
        """See `Generator.identity`. The address is not in it: the same checkpoint elsewhere makes the same images."""
        settings, checkpoint = self._settings, self._checkpoint
        return {
            "backend": "web-ui",
            "model": checkpoint.get("model_name") or checkpoint["title"],
            "weights_sha256": checkpoint.get("sha256") or checkpoint.get("hash"),
            **{
                name: getattr(settings, name)
                for name in (
                    "sampler",
                    "scheduler",
                    "steps",
                    "guidance_scale",
                    "negative_prompt",
                    "height",
                    "width",
                    "extra_body",
                )
            },
        }

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        """One outcome per request, one request at a time.

        Raises
        ------
        BackendError
            The server does not answer, lacks the checkpoint, or does not take a setting.
        """
        for request in requests:
            self._ready = self._ready or ensure_ready(self.check())
            yield attempt(request, lambda r=request: self._one(r), retries=self._settings.max_retries)  # type: ignore[misc]

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        settings = self._settings
        optional = {
            "negative_prompt": settings.negative_prompt,
            "steps": settings.steps,
            "cfg_scale": settings.guidance_scale,
            "width": settings.width,
            "height": settings.height,
            "sampler_name": settings.sampler,
            "scheduler": settings.scheduler,
        }
        return {
            **(settings.extra_body or {}),
            **{name: value for name, value in optional.items() if value is not None},
            "prompt": request.prompt,
            "seed": request.seed % _SEEDS,
            "batch_size": 1,
            "n_iter": 1,
            # Named every time, since somebody may choose another in the UI while this runs.
            "override_settings": {"sd_model_checkpoint": self._checkpoint["title"]},
            "override_settings_restore_afterwards": False,
        }

    def _one(self, request: GenerationRequest) -> Outcome:
        body = self._body(request)
        try:
            answer = self._server.post("/sdapi/v1/txt2img", body)
        except ServerError as error:
            if error.status in (401, 404, 422):  # it would meet every request alike
                raise BackendError(f"web-ui: the server rejects the request ({error}).") from None
            raise
        images = answer.get("images") if isinstance(answer, dict) else None
        told = _told(answer.get("info") if isinstance(answer, dict) else None)
        first = told.get("index_of_first_image")  # before it stands a sheet of all of them
        place = first if isinstance(first, int) and isinstance(images, list) and 0 < first < len(images) else 0
        if not isinstance(images, list) or not images or not isinstance(images[place], str):
            return Failed(request, "the server answered without an image")
        if (other := self._other(body, told)) is not None:
            return Failed(request, self._server.scrub(other))
        try:
            data = decode_base64(images[place])
        except NotAnImageError as error:
            return Failed(request, str(error))
        made = outcome_of(request, data, {"seed_sent": body["seed"], **self._kept(told)})
        prompt = told.get("prompt")
        if (
            isinstance(made, Generated)
            and isinstance(prompt, str)
            and prompt.strip() not in ("", request.prompt.strip())
        ):
            return replace(
                made, revised_prompt=self._server.scrub.without_key(prompt[:_MAX_PROMPT])
            )  # a style, or a script
        return made

    def _other(self, body: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
        """With what else than asked for the server says that it drew; None where it says nothing of the kind."""
        expected, drawn = self._checkpoint.get("hash"), told.get("sd_model_hash")
        if expected and drawn and expected != drawn:
            return f"the server used the checkpoint {drawn}, but {expected} was asked for"
        for name, words in _ASKED_FOR.items():
            asked, found = body.get(name), told.get(name)
            if asked is not None and _is_number(found) and found != asked:
                return f"the server used {words} {found}, but {asked} was asked for"
        return None

    def _kept(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What the server tells of an image that is worth keeping."""
        kept = ("seed", "sampler_name", "sd_model_hash", "sd_model_name", "version")
        found = {k: told[k] for k in kept if isinstance(told.get(k), str | int) and len(str(told[k])) <= 200}
        return {k: self._server.scrub(v, limit=200) if isinstance(v, str) else v for k, v in found.items()}


def _entries(answer: Any) -> list[dict[str, Any]]:
    """The mappings of a list; none where the server answered with something else."""
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []


def _told(text: object) -> dict[str, Any]:
    """What the server tells of an image."""
    try:
        parsed = read_json(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
