"""Backend `stable-diffusion`: any diffusers text-to-image model, on this machine.

Each image has a noise of its own, drawn on the CPU from the request's seed, so it does not depend on the batch it is made in (up to
the float noise of batched kernels), on the order, or on the device. Requests of different prompts share a batch.

Only safetensors are loaded and no code from a model folder runs. What is not available is one `BackendError` within seconds.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from typing import Any, Literal

from allfour.errors import BackendError
from allfour.models.generators._diffusion import compiling, lanes, loading, pipelines
from allfour.models.generators._diffusion.images import ImageBatch, SafetyChecker
from allfour.models.generators._diffusion.memory import (
    CPU_BATCH,
    FIRST_BATCH,
    UNMETERED_BATCH,
    MemoryMeter,
    batch_that_fits,
    device_lost,
    first_line,
    free_memory,
    meter_of,
    out_of_memory,
)
from allfour.models.generators._diffusion.prompts import PromptEncoder
from allfour.models.generators.base import Failed, Finish, GenerationRequest, Outcome

_LOG = logging.getLogger(__name__)
_PACKAGES = ("torch", "diffusers", "transformers", "pillow")
_TRIAL = "a photo"
"""The prompt of a batch that nobody sees."""

Batch = list[tuple[GenerationRequest, Finish]]


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

    def all_given(self) -> dict[str, Any]:
        """All of them that are set, the negative prompt too."""
        return self.given() | ({"negative_prompt": self.negative_prompt} if self.negative_prompt is not None else {})


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
        A key of `SCHEDULERS` or a diffusers class name, with `-trailing` behind it for distilled models; None keeps the model's own.
    steps, guidance_scale, height, width
        None keeps the pipeline's default.
    negative_prompt
        Has an effect only with a guidance scale above 1.
    batch_size
        Images at a time; halved and tried again where memory runs out. `auto` takes it from the device's free memory.
    compile
        Whether the denoising network is compiled. `auto` decides by the size of the plan: see `plan_for`.
    lora
        `{"path": FILE_OR_FOLDER, "weight": 1.0}`, safetensors.
    base
        Folder or hub id of a model of the same kind, where `model` is one .safetensors file.
    pipeline_args
        Further arguments of the pipeline's call.
    offload
        `model` or `sequential`: weights come to the device in their turn, by accelerate.
    quantization
        `{"backend": ..., "parts": [...], "args": {...}}`, as `Quantization`.

    Raises
    ------
    BackendError
        The packages, the model, the scheduler or the device is not available. The message says how to mend it.
    """

    def __init__(
        self, *, model: str, revision: str | None = None, variant: str | None = None, dtype: str = "auto",
        device: str = "auto", scheduler: str | None = None, steps: int | None = None, guidance_scale: float | None = None,
        negative_prompt: str | None = None, height: int | None = None, width: int | None = None,
        batch_size: int | Literal["auto"] = "auto", compile: compiling.Choice = "auto",
        lora: Mapping[str, Any] | None = None, base: str | None = None, pipeline_args: Mapping[str, Any] | None = None,
        offload: pipelines.Offload = "none", quantization: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        torch, diffusers = loading.import_packages()
        self._model, self._revision, self._variant = model, revision, variant
        self._settings = _Settings(steps, guidance_scale, negative_prompt, height, width)
        self._device = loading.pick_device(device)
        self._dtype = loading.pick_dtype(torch, dtype, self._device)
        self._lora = loading.find_lora(lora) if lora else None
        self._placement = placement_of(self._device, offload, quantization)
        self._extra = dict(pipeline_args or {})
        self._checkpoint = loading.checkpoint_file(model, base)
        self._folder = loading.find_folder(diffusers, base or model, revision=revision, variant=variant)
        pipelines.check_arguments(
            pipelines.pipeline_class(diffusers, self._folder), self._settings.all_given(), self._extra
        )
        self._loaded = loading.file_stamps(self._folder, self._lora, self._checkpoint)
        self._pipe = loading.load_pipeline(
            diffusers,
            self._folder,
            model=model,
            variant=variant,
            dtype=self._dtype,
            placement=self._placement,
            lora=self._lora,
            checkpoint=self._checkpoint,
        )
        if scheduler is not None:
            self._pipe.scheduler = loading.scheduler_like(diffusers, scheduler, self._pipe.scheduler.config)
        self._trailing = scheduler is not None and scheduler.endswith(loading.TRAILING)
        self._prompts = PromptEncoder(
            self._pipe,
            device=self._device,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            extra=self._extra,
        )
        # With offloading the checker's weights come and go with the pipeline's others: it stays inside.
        self._checker = SafetyChecker.of(self._pipe) if offload == "none" else None
        self._meter: MemoryMeter | None = meter_of(self._device)
        self._batch_size = self._first_size(batch_size)
        if offload != "none" and compile is True:
            raise BackendError(
                "generator.compile: a network that is offloaded cannot be compiled. Set generator.compile=false"
            )
        self._compile: compiling.Choice = False if offload != "none" else compile
        self._compiled: compiling.CompiledNetwork | None = None
        self._cores = self._cores_apart(torch)
        self._side_by_side = 1

    def _first_size(self, given: int | Literal["auto"]) -> int | None:
        """Images at a time; None where that is still to be found out from memory."""
        if given != "auto":
            return given
        if self._device == "cpu":
            return CPU_BATCH
        return None if self._meter is not None else UNMETERED_BATCH

    def _cores_apart(self, torch: Any) -> int:
        """Cores that draw a batch each; 0 where they draw one together."""
        plain = self._device == "cpu" and self._dtype == "float32" and self._compile is not True
        if not plain or self._lora or self._extra or self._placement.quantization is not None:
            return 0
        if not self._prompts.once or not lanes.fits(self._pipe, images=self._batch_size or 1, pixels=self._cost()[1]):
            return 0
        cores = min(int(torch.get_num_threads()), lanes.MOST)
        if cores > 1 and not self._products_agree():
            return 0
        lanes.as_by_several_cores(self._pipe)
        return cores

    def _products_agree(self) -> bool:
        """Whether a batch's products are the same on one core: see `lanes.products_agree`."""
        batch = [GenerationRequest("trial", k, _TRIAL, seed=k) for k in range(self._batch_size or 1)]
        try:
            self._prompts.arguments([_TRIAL])  # before, since a prompt is encoded by itself, however many draw
            return lanes.products_agree(self._pipe, partial(self._run, batch, self._pipe, num_inference_steps=1))
        except Exception as error:  # whatever it is, the images will say so
            _LOG.debug("no batches side by side: %s: %s", type(error).__name__, first_line(error))
            return False
        finally:
            self._prompts.forget()

    # --- identity --------------------------------------------------------------------------------------------------

    @cached_property
    def _weights_sha256(self) -> str:
        return loading.weights_sha256(self._folder, self._lora, checkpoint=self._checkpoint, loaded=self._loaded)

    def identity(self) -> Mapping[str, Any]:
        """See `Generator.identity`. A compiled network rounds in other places, so it is named; an eager one adds no key."""
        settings = self._settings
        identity = {
            "backend": "stable-diffusion",
            "model": loading.public_name(self._model),
            "revision": self._revision,
            "variant": self._variant,
            "weights_sha256": self._weights_sha256,
            "pipeline": type(self._pipe).__name__,
            "scheduler": type(self._pipe.scheduler).__name__,
            "steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt,
            "height": settings.height,
            "width": settings.width,
            "lora_weight": self._lora.weight if self._lora else None,
            "dtype": self._dtype,
            "device": self._device.partition(":")[0],
            "versions": {name: metadata.version(name) for name in _PACKAGES},
        }
        # Named where they are set alone, so that runs from before they existed go on.
        if self._extra:
            identity["pipeline_args"] = dict(self._extra)
        if self._trailing:
            identity["timestep_spacing"] = "trailing"
        if self._placement.quantization is not None:
            identity["quantization"] = self._placement.quantization.identity()
        return identity | ({"compiled": "inductor"} if self._compile is True else {})

    def plan_for(self, images: int, earlier: Mapping[str, Any] | None) -> None:
        """Settle `compile: auto`: as the images were made that this run has already, else by the work in the whole plan."""
        if self._compile != "auto":
            return
        own = dict(self.identity())
        if earlier is not None and {k: v for k, v in earlier.items() if k != "compiled"} == own:
            self._compile = "compiled" in earlier
            return
        steps, pixels = self._cost()
        self._compile = compiling.pays("auto", device=self._device, images=images, steps=steps, pixels=pixels)

    def _cost(self) -> tuple[int, int]:
        """Steps and pixels of an image."""
        steps_of = inspect.signature(self._pipe.__call__).parameters.get("num_inference_steps")
        steps = self._settings.steps or (steps_of.default if steps_of is not None else None) or 1
        sample = getattr(self._pipe, "default_sample_size", None) or getattr(
            getattr(getattr(self._pipe, "unet", None), "config", None), "sample_size", None
        )
        side = (sample if isinstance(sample, int) else 64) * int(getattr(self._pipe, "vae_scale_factor", 8))
        return steps, (self._settings.height or side) * (self._settings.width or side)

    def facts(self) -> Mapping[str, Any]:
        """Batch size, how many batches were drawn at a time where it was more than one, and the seconds that compiling took, so far."""
        compiled = self._compiled
        placed = {"offload": self._placement.offload} if self._placement.offload != "none" else {}
        return (
            placed
            | {
                "batch_size": self._batch_size,
                "compiled": compiled is not None,
                "compile_seconds": round(sum(compiled.seconds.values()), 3) if compiled else 0.0,
            }
            | ({"side_by_side": self._side_by_side} if self._side_by_side > 1 else {})
        )

    # --- generation ------------------------------------------------------------------------------------------------

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Outcome]:
        for batch in self.generate_ahead(requests):
            yield from (finish() for _, finish in batch)

    def generate_ahead(self, requests: Iterable[GenerationRequest]) -> Iterator[Batch]:
        """Batches as the device makes them; see `AheadGenerator`.

        Raises
        ------
        BackendError
            The network cannot be compiled.
        """
        waiting = deque(requests)
        if not waiting:
            return
        if self._compile is True and self._compiled is None:
            self._compiled = compiling.CompiledNetwork(compiling.network_of(self._pipe), self._device)
        if self._batch_size is None:
            yield from self._sized_by_memory(waiting)
        count = min(self._cores, len(waiting) // (self._batch_size or 1))
        if count > 1:
            self._side_by_side = count
            for made in lanes.Lanes(self._pipe, count).each(self._batches(waiting, whole=True), self._made_by):
                yield from made
        for batch in self._batches(waiting):
            yield from self._attempt(batch, self._pipe)

    def _batches(self, waiting: deque[GenerationRequest], *, whole: bool = False) -> Iterator[list[GenerationRequest]]:
        """Requests in batches, as large as they are to be by then; without the rest that fills none, where `whole`."""
        while waiting:
            assert self._batch_size is not None
            if whole and len(waiting) < self._batch_size:
                return
            yield [waiting.popleft() for _ in range(min(self._batch_size, len(waiting)))]

    def _made_by(self, pipe: Any, batch: Sequence[GenerationRequest]) -> list[Batch]:
        return list(self._attempt(batch, pipe))

    def _sized_by_memory(self, waiting: deque[GenerationRequest]) -> Iterator[Batch]:
        """Make the first images, meter what they need, and size the batches by it.

        With a compiled network these first images are made for the meter alone: an image is made by one kind of network, and
        compiling for this one batch would not pay.
        """
        assert self._meter is not None
        first = [waiting[k] for k in range(min(FIRST_BATCH, len(waiting)))]
        self._batch_size = len(first)
        with self._meter.peak() as peak:
            if self._compiled is None:
                made = list(self._attempt([waiting.popleft() for _ in first], self._pipe))
            else:
                made = []
                self._compiled.paused = True
                try:
                    self._run(first, self._pipe)
                except Exception as error:
                    if not out_of_memory(error):
                        raise BackendError(f"stable-diffusion: {type(error).__name__}: {first_line(error)}") from error
                    self._batch_size = 1
                finally:
                    self._compiled.paused = False
        if self._batch_size == len(first):  # memory did not run out even so
            free_memory()
            fits = batch_that_fits(need=peak.bytes, images=len(first), free=self._meter.free())
            self._batch_size = max(1, min(fits, len(waiting)))
            _LOG.info(
                "%d images at a time: one needs %.0f MiB at most", self._batch_size, peak.bytes / len(first) / 2**20
            )
        yield from made

    def _attempt(self, batch: Sequence[GenerationRequest], pipe: Any) -> Iterator[Batch]:
        """One batch; smaller ones where it fails, so that nothing is lost with its neighbours."""
        try:
            made = self._run(batch, pipe)
        except Exception as error:
            if not out_of_memory(error) and self._compiled is not None and compiling.compiler_failed(error):
                raise BackendError(
                    f"generator.compile: the network cannot be compiled here: {first_line(error)}. Set generator.compile=false"
                ) from error
            if device_lost(error):
                raise BackendError(
                    f"stable-diffusion: the device failed: {first_line(error)}. The images made so far are kept; repeat the command. If it happens again, the driver or this build of PyTorch does not suit the card"
                ) from error
            if len(batch) == 1:
                failed = Failed(batch[0], error=f"{type(error).__name__}: {first_line(error)}")
                yield [(batch[0], partial(_give, failed))]
                return
            half = len(batch) // 2
            if out_of_memory(error):
                self._batch_size = max(1, min(self._batch_size or half, half))
                _LOG.warning("out of memory with %d images at a time; continuing with %d", len(batch), self._batch_size)
            # Outside the handler the traceback, and with it the failed batch's tensors, would still be alive.
            error.__traceback__ = None
            parts = (batch[:half], batch[half:])
        else:
            yield made.finishes()
            return
        free_memory()
        for part in parts:
            yield from self._attempt(part, pipe)

    def _run(self, batch: Sequence[GenerationRequest], pipe: Any, **changes: Any) -> ImageBatch:
        """Start a batch on the device, under settings with `changes`; returns when its work is queued (on a CPU, when it is done)."""
        import torch

        padded = list(batch)
        if self._compiled is not None and not self._compiled.paused and self._batch_size is not None:
            padded += [batch[-1]] * (self._batch_size - len(batch))  # one shape, so that nothing is compiled twice
        generators = [torch.Generator(device="cpu").manual_seed(request.seed) for request in padded]
        texts = self._prompts.arguments([request.prompt for request in padded])
        drawn = generators if len(generators) > 1 else generators[0]  # some pipelines take no list, and some schedulers
        settings = self._settings.given() | changes
        result = pipe(**texts, **settings, **self._extra, generator=drawn, output_type="pt")
        flagged = getattr(result, "nsfw_content_detected", None)
        return ImageBatch(batch, pipelines.images_of(result), flagged, self._checker)


def placement_of(
    device: str, offload: pipelines.Offload, quantization: Mapping[str, Any] | None
) -> pipelines.Placement:
    """How a pipeline gets onto its device. Raises BackendError where this machine cannot do so."""
    quantized = None
    if quantization is not None:
        quantized = pipelines.Quantization(
            quantization["backend"], pipelines.parts(quantization.get("parts")), dict(quantization.get("args") or {})
        )
    placement = pipelines.Placement(device, offload, quantized)
    placement.check()
    return placement


def _give(outcome: Outcome) -> Outcome:
    return outcome
