"""Settings of the generator `stable-diffusion`, apart from it: a config is read without the rest of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from allfour.models.generators.base import GeneratorSettings
from allfour.models.settings import Block, FolderOrName, LocalPath, Readiness, named_files, on_disk

if TYPE_CHECKING:
    from allfour.models.generators.stable_diffusion import StableDiffusion


class LoraConfig(Block):
    """A low-rank adapter on top of a local model."""

    path: LocalPath
    weight: float = 1.0


class QuantizationConfig(Block):
    """Weights in fewer bits, by diffusers' PipelineQuantizationConfig."""

    backend: Literal["bitsandbytes_4bit", "bitsandbytes_8bit", "torchao", "quanto"]
    parts: tuple[str, ...] = ("transformer",)
    """Components of the pipeline, as its model_index.json names them."""
    args: dict[str, Any] | None = None
    """Of the quantizer, such as {quant_type: int8wo} for torchao."""


def _count_or_auto(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("must be 'auto' or a whole number from 1")
    return value


def _switch_or_auto(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError("must be auto, true or false")
    return value


class StableDiffusionConfig(GeneratorSettings):
    """Any diffusers text-to-image model, on this machine."""

    backend: Literal["stable-diffusion"]
    model: FolderOrName
    """Folder in diffusers format, or a hub id."""
    revision: str | None = None
    variant: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: str = "auto"
    scheduler: str | None = None
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)] = "auto"
    """Images at a time; `auto`: as many as fit into the GPU's free memory."""
    compile: Annotated[bool | Literal["auto"], BeforeValidator(_switch_or_auto)] = "auto"
    """Whether the denoising network is compiled; `auto`: on CUDA, where the run is long enough for it to pay."""
    lora: LoraConfig | None = None
    base: FolderOrName | None = None
    """Where `model` is one .safetensors file: a folder or hub id of a model of the same kind."""
    pipeline_args: dict[str, Any] | None = None
    """Further arguments of the pipeline, such as true_cfg_scale or max_sequence_length."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep weights in main memory, and bring a model, or a layer, to the GPU in its turn."""
    quantization: QuantizationConfig | None = None

    def _options(self) -> dict[str, Any]:
        base = on_disk(self.base) if self.base is not None else None
        return self.model_dump(exclude={"backend"}) | {"model": on_disk(self.model), "base": base}

    def files(self) -> list[Path] | None:
        more = [name for name in (self.base, self.lora and self.lora.path) if name]
        return named_files(self.model, *more)

    def build(self, *, ledger: Path | None = None) -> StableDiffusion:
        from allfour.models.generators.stable_diffusion import StableDiffusion

        return StableDiffusion(**self._options())

    def check(self) -> Readiness:
        """Whether the model is here and fits; nothing is loaded or downloaded."""
        from allfour.models.generators._diffusion.readiness import check

        return check(**self._options())
