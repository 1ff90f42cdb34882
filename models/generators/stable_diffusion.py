"""Backend `stable-diffusion`: any diffusers text-to-image model, on this machine.

Each image has a noise of its own, drawn on the CPU from the request's seed, so it does not depend on the batch it is made in (up to
the float noise of batched kernels), on the order, or on the device. Requests of different prompts share a batch.

Only safetensors are loaded and no code from a model folder runs. What cannot be had is one `BackendError` within seconds.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import io
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.generators.base import BackendError, Failed, Generated, GenerationRequest, Outcome, Refused

_LOG = logging.getLogger(__name__)
_REPOSITORY = Path(__file__).resolve().parents[2]
_PROBE_SECONDS = 5.0
_PACKAGES = ("torch", "diffusers", "transformers", "pillow")
_OFFLINE_ALTERNATIVE = (
    "Without any download: --set generator.model=models/sandbox/diffusion draws with the sandbox's own model"
)
SCHEDULERS = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "pndm": "PNDMScheduler", "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler", "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}  # fmt: skip
"""Short names of schedulers; a diffusers class name does as well."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What shapes an image, apart from weights, prompt and seed."""

    steps: int | None
    guidance_scale: float | None
    negative_prompt: str | None
    height: int | None
    width: int | None

    def given(self) -> dict[str, Any]:
        """The pipeline's arguments; what is None is left to the pipeline's own default."""
        named = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }
        return {name: value for name, value in named.items() if value is not None}


class StableDiffusion:
    """Generates with a diffusers pipeline.

    Parameters
    ----------
    model
        Folder in diffusers format, or a hub id.
    revision, variant
        Of a hub id: branch, tag or commit; file variant such as `fp16`.
    dtype
        `float32`, `float16`, `bfloat16`, or `auto`: bfloat16 (else float16) on CUDA, float32 elsewhere.
    device
        A torch device, or `auto`: the first of cuda, mps, cpu that is there.
    scheduler
        A key of `SCHEDULERS` or a diffusers class name; None keeps the model's own.
    steps, guidance_scale, height, width
        None keeps the pipeline's default.
    negative_prompt
        Has an effect only with a guidance scale above 1.
    batch_size
        Images at a time; halved and tried again where memory runs out.
    lora
        `{"path": FILE_OR_FOLDER, "weight": 1.0}`, safetensors.

    Raises
    ------
    BackendError
        The packages, the model, the scheduler or the device cannot be had. The message names the mend.
    """

    def __init__(
        self, *, model: str, revision: str | None = None, variant: str | None = None, dtype: str = "auto",
        device: str = "auto", scheduler: str | None = None, steps: int | None = None, guidance_scale: float | None = None,
        negative_prompt: str | None = None, height: int | None = None, width: int | None = None,
        batch_size: int | None = None, lora: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        try:
            import diffusers
            import torch
        except ImportError as error:
            raise BackendError(
                f"stable-diffusion needs the package {error.name!r}: pip install torch diffusers transformers"
            ) from error
        self._model, self._revision, self._variant = model, revision, variant
        self._settings = _Settings(steps, guidance_scale, negative_prompt, height, width)
        self._device = _device(torch, device)
        self._dtype = _dtype(torch, dtype, self._device)
        self._lora = dict(lora) if lora else None
        self._folder = _folder(diffusers, model, revision=revision, variant=variant)
        self._pipe = self._load(diffusers)
        self._scheduler_class = self._schedule(diffusers, scheduler)
        self._batch_size = batch_size or (8 if self._device == "cuda" else 4)
        self._embeddings: dict[str, dict[str, Any]] = {}

    # --- loading ---------------------------------------------------------------------------------------------------

    def _load(self, diffusers: Any) -> Any:
        import torch

        _quiet(diffusers)
        logging_level = diffusers.utils.logging.get_verbosity()
        # A small autoencoder in a pipeline that was typed for a large one is worth no warning; what matters raises.
        diffusers.utils.logging.set_verbosity_error()
        try:
            pipe = diffusers.AutoPipelineForText2Image.from_pretrained(
                str(self._folder), dtype=getattr(torch, self._dtype), use_safetensors=True, variant=self._variant,
                local_files_only=True,
            )  # fmt: skip
        except Exception as error:  # whatever diffusers raises on a damaged folder, the mend is the same
            raise BackendError(
                f"stable-diffusion: cannot load {self._model!r}: {_first_line(error)}. It must be a whole text-to-image model in "
                f"diffusers format with safetensors weights. {_OFFLINE_ALTERNATIVE}"
            ) from error
        finally:
            diffusers.utils.logging.set_verbosity(logging_level)
        if self._lora:
            self._load_lora(pipe)
        pipe.set_progress_bar_config(disable=True)
        pipe.to(self._device)
        if self._device == "cuda":
            for part in ("unet", "vae"):
                if getattr(pipe, part, None) is not None:
                    getattr(pipe, part).to(memory_format=torch.channels_last)
        return pipe

    def _load_lora(self, pipe: Any) -> None:
        assert self._lora is not None
        path = Path(str(self._lora["path"])).expanduser()
        path = path if path.is_absolute() else _REPOSITORY / path
        files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
        if len(files) != 1 or files[0].suffix != ".safetensors":
            raise BackendError(
                f"stable-diffusion: lora.path {self._lora['path']!r} must be one .safetensors file or a folder of one"
            )
        self._lora["file"] = files[0]
        try:
            pipe.load_lora_weights(
                str(files[0].parent), weight_name=files[0].name, adapter_name="lora", local_files_only=True
            )
            pipe.set_adapters(["lora"], [float(self._lora.get("weight", 1.0))])
        except Exception as error:
            raise BackendError(
                f"stable-diffusion: the adapter {files[0].name} does not fit this model: {_first_line(error)}"
            ) from error

    def _schedule(self, diffusers: Any, name: str | None) -> str:
        if name is not None:
            wanted = SCHEDULERS.get(name, name)
            found = getattr(diffusers, wanted, None)
            if found is None or not wanted.endswith("Scheduler"):
                close = difflib.get_close_matches(name, SCHEDULERS, n=1, cutoff=0.4)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise BackendError(
                    f"generator.scheduler: unknown scheduler {name!r}.{hint} Available: {', '.join(SCHEDULERS)}"
                )
            self._pipe.scheduler = found.from_config(self._pipe.scheduler.config)
        return type(self._pipe.scheduler).__name__

    # --- identity --------------------------------------------------------------------------------------------------

    @cached_property
    def _weights_sha256(self) -> str:
        """Over names and contents of weights and configs, so that a copy elsewhere is the same model."""
        files = sorted(
            p for p in self._folder.rglob("*") if p.suffix in {".safetensors", ".json", ".txt"} and p.is_file()
        )
        if self._lora:
            files.append(self._lora["file"])
        digest = hashlib.sha256()
        for path in files:
            name = path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else "lora"
            digest.update(f"{name}\0{_sha256(path)}\n".encode())
        return digest.hexdigest()

    def identity(self) -> Mapping[str, Any]:
        settings = self._settings
        return {
            "backend": "stable-diffusion",
            "model": _public_name(self._model),
            "revision": self._revision,
            "variant": self._variant,
            "weights_sha256": self._weights_sha256,
            "pipeline": type(self._pipe).__name__,
            "scheduler": self._scheduler_class,
            "steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt,
            "height": settings.height,
            "width": settings.width,
            "lora_weight": float(self._lora.get("weight", 1.0)) if self._lora else None,
            "dtype": self._dtype,
            "device": self._device,
            "versions": {name: metadata.version(name) for name in _PACKAGES},
        }

    # --- generation ------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        waiting = iter(requests)
        while batch := list(islice(waiting, self._batch_size)):
            yield from self._attempt(batch)

    def _attempt(self, batch: Sequence[GenerationRequest]) -> Iterator[Outcome]:
        """One batch; smaller ones where it fails, so that nothing is lost with its neighbours."""
        try:
            outcomes = self._run(batch)
        except Exception as error:
            if len(batch) == 1:
                yield Failed(batch[0], error=f"{type(error).__name__}: {_first_line(error)}")
                return
            half = len(batch) // 2
            if _out_of_memory(error):
                self._batch_size = max(1, min(self._batch_size, half))
                _free_memory(self._device)
                _LOG.warning("out of memory with %d images at a time; going on with %d", len(batch), self._batch_size)
            # Outside the handler the traceback, and with it the failed batch's tensors, would still be alive.
            error.__traceback__ = None
            parts = (batch[:half], batch[half:])
        else:
            yield from outcomes
            return
        for part in parts:
            yield from self._attempt(part)

    def _run(self, batch: Sequence[GenerationRequest]) -> list[Outcome]:
        import torch

        generators = [torch.Generator(device="cpu").manual_seed(request.seed) for request in batch]
        told = self._told([request.prompt for request in batch])
        result = self._pipe(**told, **self._settings.given(), generator=generators, output_type="pil")
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(batch)
        return [_outcome(*row) for row in zip(batch, result.images, flagged, strict=True)]

    def _told(self, prompts: list[str]) -> dict[str, Any]:
        """The pipeline's arguments for prompts: embeddings, computed once per prompt, where the pipeline takes them."""
        accepted = inspect.signature(self._pipe.__call__).parameters
        negative = self._settings.negative_prompt
        names = ["prompt_embeds", "negative_prompt_embeds"]
        if "pooled_prompt_embeds" in accepted:
            names += ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
        encode = getattr(self._pipe, "encode_prompt", None)
        needed = {"device", "num_images_per_prompt", "do_classifier_free_guidance", "negative_prompt"}
        if encode is None or not set(names) <= set(accepted) or not needed <= set(inspect.signature(encode).parameters):
            plain: dict[str, Any] = {"prompt": prompts}
            if negative is not None and "negative_prompt" in accepted:
                plain["negative_prompt"] = [negative] * len(prompts)
            return plain
        for prompt in prompts:
            if prompt not in self._embeddings:
                self._embeddings[prompt] = self._encode(encode, prompt, names, accepted)
        import torch

        rows = [self._embeddings[prompt] for prompt in prompts]
        return {
            name: torch.cat([row[name] for row in rows]).to(self._device) for name in names if rows[0][name] is not None
        }

    def _encode(self, encode: Any, prompt: str, names: list[str], accepted: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        scale = self._settings.guidance_scale
        if scale is None:
            scale = accepted["guidance_scale"].default
        with torch.inference_mode():
            values = encode(
                prompt=prompt, device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=scale > 1,
                negative_prompt=self._settings.negative_prompt,
            )  # fmt: skip
        # On the CPU: a large prompt set must not fill the accelerator.
        return {n: None if v is None else v.clone().cpu() for n, v in zip(names, values[: len(names)], strict=True)}


def _outcome(request: GenerationRequest, image: Any, flagged: bool) -> Outcome:
    if flagged:
        return Refused(request, reason="the model's safety checker withheld the image", code="safety_checker")
    if not any(high for _, high in image.convert("RGB").getextrema()):
        return Failed(
            request, error="the image is all black: the decoder overflowed. Try --set generator.dtype=float32"
        )
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Generated(request, data=buffer.getvalue(), extension="png")


def _device(torch: Any, name: str) -> str:
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, False):
        raise BackendError(
            f"generator.device: {name!r} is not there. Available: {', '.join(k for k, v in there.items() if v)}"
        )
    return name


def _dtype(torch: Any, name: str, device: str) -> str:
    if name == "auto":
        if device.startswith("cuda"):
            return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return "float32"
    if name not in {"float32", "float16", "bfloat16"}:
        raise BackendError(f"generator.dtype: {name!r} is none of auto, float32, float16, bfloat16")
    return name


def _folder(diffusers: Any, model: str, *, revision: str | None, variant: str | None) -> Path:
    """The folder of a model: the given one, a cached one, or one that is downloaded now."""
    path = Path(model).expanduser()
    local = path if path.is_absolute() or path.is_dir() else _REPOSITORY / path
    if local.is_dir():
        if not (local / "model_index.json").is_file():
            raise BackendError(
                f"stable-diffusion: {model} holds no model_index.json: it is no folder in diffusers format"
            )
        return local
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1 or "\\" in model:
        raise BackendError(f"stable-diffusion: no such model folder: {model}. Give a folder in diffusers format or a hub id NAME/MODEL. "
                           f"{_OFFLINE_ALTERNATIVE}")  # fmt: skip
    wanted: dict[str, Any] = {"revision": revision, "variant": variant, "use_safetensors": True}
    try:
        return Path(diffusers.DiffusionPipeline.download(model, local_files_only=True, **wanted))
    except Exception as error:
        _LOG.debug("not in the cache: %s", error)
    if not _hub_answers():
        raise BackendError(
            f"stable-diffusion: {model!r} is not in the local cache and the model hub does not answer. Where there is network: "
            f"hf download {model}. {_OFFLINE_ALTERNATIVE}"
        )
    try:
        return Path(diffusers.DiffusionPipeline.download(model, **wanted))
    except Exception as error:
        raise BackendError(
            f"stable-diffusion: cannot get {model!r} from the hub: {_first_line(error)}. Check the name, the revision and whether it has "
            f"safetensors weights and needs a token (HF_TOKEN). {_OFFLINE_ALTERNATIVE}"
        ) from error


def _hub_answers() -> bool:
    """One short connection attempt, so that a machine without network hears so in seconds and not after retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    where = urlsplit(proxy or os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = where.port or (80 if where.scheme == "http" else 443)
        with socket.create_connection((where.hostname or "", port), timeout=_PROBE_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _quiet(diffusers: Any) -> None:
    diffusers.utils.logging.disable_progress_bar()
    try:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    except ImportError:  # pipelines without a transformers text encoder do without
        pass


def _public_name(model: str) -> str:
    """The model without this machine's folders: relative to the repository, or the last part alone."""
    path = Path(model)
    if not path.is_absolute():
        return model
    return path.relative_to(_REPOSITORY).as_posix() if path.is_relative_to(_REPOSITORY) else path.name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "can't allocate memory" in text


def _free_memory(device: str) -> None:
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
