"""Which class of diffusers a model folder is run with, what that class can be told, and how it is put onto a device."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.files import read_regular
from allfour.models.generators._diffusion.memory import first_line

Offload = Literal["none", "model", "sequential"]

_OTHER_TASKS = (
    "ControlNet", "ControlPipeline", "Img2Img", "Inpaint", "Upscale", "Edit", "Video", "Audio", "Depth2Img", "Prior", "Decoder",
    "Kontext", "Redux", "Adapter", "Fill", "SuperResolution", "Refiner", "Layered", "Pix2Pix", "GLIGEN", "LDM3D", "ShapE", "Onnx", "Latte",
    "AceStep", "LLaDA", "DiffusionGemma",
)  # fmt: skip
"""In the names of classes that want more than a text, or give no image."""
_OWN_ARGUMENTS = frozenset(
    {"prompt", "negative_prompt", "generator", "output_type", "return_dict", "num_images_per_prompt", "num_inference_steps",
     "guidance_scale", "height", "width", "latents", "prompt_embeds", "negative_prompt_embeds"}
)  # fmt: skip
TRIED = frozenset({
    "AmusedPipeline", "AuraFlowPipeline", "BriaPipeline", "ChromaPipeline", "CogView3PlusPipeline", "CogView4Pipeline",
    "Flux2KleinKVPipeline", "Flux2KleinPipeline", "Flux2Pipeline", "FluxPipeline", "HiDreamImagePipeline",
    "HunyuanDiTPAGPipeline", "HunyuanDiTPipeline", "HunyuanImagePipeline", "IFPipeline", "Kandinsky3Pipeline",
    "Kandinsky5T2IPipeline", "Krea2Pipeline", "LDMTextToImagePipeline", "LatentConsistencyModelPipeline",
    "LongCatImagePipeline", "Lumina2Pipeline", "LuminaPipeline", "OvisImagePipeline", "PixArtAlphaPipeline",
    "PixArtSigmaPAGPipeline", "PixArtSigmaPipeline", "QwenImagePipeline", "SanaPAGPipeline", "SanaPipeline",
    "SanaSprintPipeline", "SemanticStableDiffusionPipeline", "StableDiffusion3PAGPipeline", "StableDiffusion3Pipeline",
    "StableDiffusionPAGPipeline", "StableDiffusionPanoramaPipeline", "StableDiffusionParadigmsPipeline",
    "StableDiffusionPipeline", "StableDiffusionSAGPipeline", "StableDiffusionXLPAGPipeline", "StableDiffusionXLPipeline",
    "ZImagePipeline",
})  # fmt: skip
"""Classes of which a small untrained pipeline has made images: tests/models/generators/test_diffusion_classes.py holds the list to it."""
QUANTIZERS: Mapping[str, str] = {
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "torchao": "torchao",
    "quanto": "optimum-quanto",
}
"""Names that diffusers gives to ways of quantizing, and the package that each needs."""
MAX_CONFIG_BYTES = 1_000_000
"""Of a model_index.json: real ones have a few thousand."""
_MODULES = {"optimum-quanto": "optimum.quanto"}


@dataclass(frozen=True, slots=True)
class Quantization:
    """How weights are held in fewer bits."""

    backend: str
    parts: tuple[str, ...] = ("transformer",)
    args: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        return {"backend": self.backend, "parts": list(self.parts), "args": dict(self.args)}


@dataclass(frozen=True, slots=True)
class Placement:
    """How a pipeline gets onto its device."""

    device: str
    offload: Offload = "none"
    quantization: Quantization | None = None

    def check(self) -> None:
        """Raise BackendError where this machine cannot do so."""
        if self.offload not in ("none", "model", "sequential"):
            raise BackendError(f"generator.offload: {self.offload!r} is not one of none, model, sequential")
        if self.offload != "none":
            if self.device == "cpu":
                raise BackendError(
                    f"generator.offload={self.offload} moves weights between memory and an accelerator, but the device is cpu. Remove it"
                )
            _need("accelerate", "generator.offload")
        if self.quantization is not None:
            if self.quantization.backend not in QUANTIZERS:
                raise BackendError(
                    f"generator.quantization.backend: {self.quantization.backend!r} is not one of {', '.join(QUANTIZERS)}"
                )
            _need(QUANTIZERS[self.quantization.backend], "generator.quantization")

    def arguments(self, diffusers: Any) -> dict[str, Any]:
        """What loading is told besides."""
        if self.quantization is None:
            return {}
        settings = dict(self.quantization.args)
        if self.quantization.backend == "bitsandbytes_4bit":
            settings.setdefault("load_in_4bit", True)
        elif self.quantization.backend == "bitsandbytes_8bit":
            settings.setdefault("load_in_8bit", True)
        try:
            config = diffusers.PipelineQuantizationConfig(
                quant_backend=self.quantization.backend,
                quant_kwargs=settings,
                components_to_quantize=list(self.quantization.parts),
            )
        except Exception as error:
            raise BackendError(f"generator.quantization: {type(error).__name__}: {error}") from error
        return {"quantization_config": config}

    def put(self, pipe: Any) -> None:
        """Bring a loaded pipeline to its device, or arrange that its parts go there in turn."""
        import torch

        if self.offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        elif self.offload == "sequential":
            pipe.enable_sequential_cpu_offload(device=self.device)
        else:
            pipe.to(self.device)
        plain = self.offload == "none" and self.quantization is None
        if self.device.startswith("cuda") and plain:
            for name in ("unet", "vae"):
                part = getattr(pipe, name, None)
                # A layout of four dimensions; networks of video models have five.
                if part is not None and all(p.ndim != 5 for p in part.parameters()):
                    part.to(memory_format=torch.channels_last)


def _need(package: str, key: str) -> None:
    module = _MODULES.get(package, package)
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise BackendError(f"{key} needs the package {package!r}: pip install {package}")


def class_name(folder: Path) -> str:
    """The class that a folder names.

    Raises
    ------
    BackendError
        It names none, or brings code of its own, which is not run.
    """
    try:
        index = read_json(read_regular(folder / "model_index.json", limit=MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"stable-diffusion: {folder.name}/model_index.json cannot be read: {error}") from None
    name = index.get("_class_name") if isinstance(index, dict) else None
    if isinstance(name, list):
        raise BackendError(
            f"stable-diffusion: {folder.name} brings its own pipeline as code ({name[-1]}), and allfour runs no code from a model folder. Use a model whose pipeline is part of diffusers"
        )
    if not isinstance(name, str):
        raise BackendError(f"stable-diffusion: {folder.name}/model_index.json names no pipeline (_class_name)")
    return name


def pipeline_class(diffusers: Any, folder: Path) -> Any:
    """The class that makes images from text for a folder: that of diffusers' map of tasks, or the folder's own.

    Raises
    ------
    BackendError
        The installed diffusers does not know it or cannot import it, or it makes no image from a text alone.
    """
    name = class_name(folder)
    try:
        found = (None if name in OF_THEMSELVES else _mapped(name)) or getattr(diffusers, name, None)
    except RuntimeError as error:  # a class is imported when it is asked for, and what it needs may be broken here
        reason = first_line(error.__cause__ or error)
        raise BackendError(
            f"stable-diffusion: {name} cannot be imported here: {reason}. Mend that, or use another model"
        ) from error
    if lacking := [package for package in getattr(found, "_backends", ()) if importlib.util.find_spec(package) is None]:
        raise BackendError(
            f"stable-diffusion: {name} needs {', '.join(lacking)}, which is not installed: pip install {' '.join(lacking)}"
        )
    if found is None or not name.endswith("Pipeline"):
        raise BackendError(
            f"stable-diffusion: the installed diffusers {diffusers.__version__} has no pipeline {name!r}. A newer one may: pip "
            "install -U diffusers"
        )
    if (why := unfit(found)) is not None:
        raise BackendError(f"stable-diffusion: {name} {why}. Use a text-to-image model")
    return found


OF_THEMSELVES = frozenset({"StableDiffusionPipeline", "StableDiffusionXLPipeline"})
"""Classes that diffusers' map gives for their own folders: the map imports every family of models, which takes half a second."""


def _mapped(name: str) -> Any:
    """The class that diffusers' map of tasks gives for a folder's class; None where it gives none."""
    try:
        from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING, _get_task_class

        return _get_task_class(AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name, throw_error_if_not_exist=False)
    except Exception:  # the map is the library's own affair, and the folder's class needs none
        return None


def unfit(pipeline: Any) -> str | None:
    """Why a class makes no image from a text alone; None where it may."""
    takes = inspect.signature(pipeline.__call__).parameters
    if "prompt" not in takes:
        return "takes no prompt"
    word = next((w for w in _OTHER_TASKS if w in pipeline.__name__), None)
    if word is not None:
        return f"needs more than a text, or makes no image (its kind is {word})"
    if "num_frames" in takes or "audio_length_in_s" in takes:
        return "makes video or sound, not a single image"
    wanted = [
        n
        for n, p in takes.items()
        if p.default is inspect.Parameter.empty
        and n not in ("self", "prompt")
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return f"cannot be called with a prompt alone: it also needs {', '.join(wanted)}" if wanted else None


def check_parts(pipeline: Any, folder: Path) -> None:
    """Raise BackendError where a folder lacks a part that its pipeline cannot do without, such as the other half of a model in two."""
    index = read_json(read_regular(folder / "model_index.json", limit=MAX_CONFIG_BYTES))
    named = {part for part, kind in index.items() if isinstance(kind, list) and kind and kind[0] is not None}
    takes = inspect.signature(pipeline.__init__).parameters.values()
    needed = {p.name for p in takes if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"}
    lacking = needed - named - set(pipeline._optional_components)
    if lacking:
        raise BackendError(
            f"stable-diffusion: {folder.name}/model_index.json: {pipeline.__name__} lacks {', '.join(sorted(lacking))}. If the model comes in two halves (prior and decoder), put the parts of both into one folder"
        )


def check_arguments(pipeline: Any, given: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    """Raise BackendError where a pipeline would not take a setting, which would fail every image alike.

    Parameters
    ----------
    pipeline
        Its class, or the pipeline.
    given
        The settings that have keys of their own, by the pipeline's name of them.
    extra
        `pipeline_args`.
    """
    name = pipeline.__name__ if inspect.isclass(pipeline) else type(pipeline).__name__
    takes = inspect.signature(pipeline.__call__).parameters
    keys = {"num_inference_steps": "steps"}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for argument in given:
        if argument not in takes and not open_ended:
            raise BackendError(
                f"generator.{keys.get(argument, argument)}: {name} does not take it. Remove it; generator.pipeline_args takes: {_listed(takes)}"
            )
    for argument in extra:
        if argument in _OWN_ARGUMENTS:
            raise BackendError(
                f"generator.pipeline_args: {argument} cannot be set here. Either it has a key of its own, or allfour sets it"
            )
        if argument not in takes:
            raise BackendError(
                f"generator.pipeline_args: {name} does not take {argument!r}. It takes: {_listed(takes)}"
            )


def _listed(takes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(set(takes) - _OWN_ARGUMENTS - {"self"}))


def images_of(result: Any) -> Any:
    """The images of a pipeline's result. Raises TypeError where it gave something else."""
    for name in ("images", "image"):
        found = getattr(result, name, None)
        if found is not None:
            return found
    raise TypeError(f"the pipeline returned {type(result).__name__}, which holds no images")


def load_single_file(cls: Any, file: Path, *, config: str, arguments: Mapping[str, Any]) -> Any:
    """A pipeline from one checkpoint file, laid out as the model `config` (a folder or a cached hub id) says."""
    return cls.from_single_file(str(file), config=config, local_files_only=True, **arguments)


def parts(names: Sequence[str] | None) -> tuple[str, ...]:
    """Parts to quantize; the denoising transformer where none are named."""
    return tuple(names) if names else ("transformer",)
