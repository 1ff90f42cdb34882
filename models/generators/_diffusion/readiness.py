"""Can this model run here? Looks at files and headers; loads no weights and downloads nothing."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allfour.border import read_json
from allfour.errors import BackendError
from allfour.files import open_regular, read_regular
from allfour.models.generators._diffusion import foreign, loading, pipelines
from allfour.models.generators._diffusion.memory import meter_of
from allfour.models.settings import Readiness

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_SPARE = 1.3
"""Weights need so much of the free memory at least, since images need some too."""


def check(
    *,
    model: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    scheduler: str | None = None,
    lora: Mapping[str, Any] | None = None,
    base: str | None = None,
    offload: pipelines.Offload = "none",
    quantization: Mapping[str, Any] | None = None,
    pipeline_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Readiness:
    """Whether a run with these settings of `StableDiffusion` can start. Takes seconds; never raises."""
    try:
        torch, diffusers = loading.import_packages()
        where = loading.pick_device(device)
        number_format = loading.pick_dtype(torch, dtype, where)
        if scheduler is not None:
            loading.scheduler_class(diffusers, scheduler)
        if lora:
            foreign.check_adapter(loading.find_lora(lora).file)
        pipelines.Placement(where, offload, _quantization(quantization)).check()
        checkpoint = loading.checkpoint_file(model, base)
        folder = loading.local_folder(base or model) or loading.cached_folder(
            diffusers, base or model, revision=revision, variant=variant
        )
        if folder is not None:
            cls = pipelines.pipeline_class(diffusers, folder)
            named = {"num_inference_steps": "steps"}
            names = ("num_inference_steps", "guidance_scale", "height", "width", "negative_prompt")
            given = {n: v for n in names if (v := settings.get(named.get(n, n))) is not None}
            pipelines.check_arguments(cls, given, pipeline_args or {})
            foreign.check_folder(folder, diffusers)
            pipelines.check_parts(cls, folder)
    except BackendError as error:
        return Readiness(False, str(error))
    on = f"{where}, {number_format}"
    if folder is None:
        if not loading.hub_answers():
            return Readiness(False, loading.not_to_be_had(model))
        return Readiness(
            True,
            f"{model} ({on})",
            warnings=(
                f"it is not in the local cache, and will be downloaded when the run starts. To download it now: hf download {model}",
            ),
        )
    try:
        name, weights = (cls.__name__, _count(checkpoint)) if checkpoint else _contents(folder, variant)
    except (OSError, ValueError, RecursionError) as error:
        return Readiness(False, f"{model}: {error}", loading.OFFLINE_ALTERNATIVE)
    needed = weights * _BYTES[number_format]
    warnings = []
    if cls.__name__ not in pipelines.TRIED:
        warnings.append(f"the class {cls.__name__} was never tried with allfour. Look at a few images first: --limit 4")
    whole = offload == "none" and quantization is None
    if whole and (meter := meter_of(where)) is not None and needed * _SPARE > (free := meter.free()):
        warnings.append(
            f"the weights take {needed / 2**30:.1f} GiB, and the device has only {free / 2**30:.1f} GiB free. Set generator.offload=model, or generator.quantization"
        )
    return Readiness(
        True,
        f"{name}, weights of {needed / 2**30:.2f} GiB, {on}, {model} at {folder}; files and settings are checked, but no weight was loaded",
        warnings=tuple(warnings),
    )


def _quantization(settings: Mapping[str, Any] | None) -> pipelines.Quantization | None:
    return (
        None
        if settings is None
        else pipelines.Quantization(settings["backend"], pipelines.parts(settings.get("parts")))
    )


def _contents(folder: Path, variant: str | None) -> tuple[str, int]:
    """The pipeline's class and the number of its weights, from the headers of the files.

    Raises
    ------
    OSError, ValueError
        A part is not there or not readable.
    """
    index = read_json(read_regular(folder / "model_index.json", limit=pipelines.MAX_CONFIG_BYTES))
    if not isinstance(index, dict):
        raise ValueError("model_index.json is not a mapping")
    total = 0
    for part, kind in index.items():
        if part.startswith("_") or not isinstance(kind, list) or not isinstance(kind[0], str):
            continue  # a setting, or a part that is left out
        if not _has_weights(str(kind[-1])):
            continue
        files = sorted((folder / part).glob("*.safetensors"))
        chosen = [f for f in files if variant and f".{variant}" in f.name] or [
            f for f in files if f.name.count(".") == 1
        ]
        if not chosen:
            raise ValueError(
                f"the part {part!r} has no .safetensors weights" + (f" (variant {variant})" * bool(variant))
            )
        total += sum(map(_count, chosen))
    return str(index.get("_class_name", "a pipeline")), total


def _has_weights(kind: str) -> bool:
    return not kind.endswith(("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "Extractor", "FeatureExtractor"))


def _count(path: Path) -> int:
    """Numbers in a .safetensors file. Raises OSError, ValueError."""
    wrong = ValueError(f"{path.name} is not a safetensors file")
    with open_regular(path) as file:
        size = file.read(8)
        if len(size) < 8 or (length := struct.unpack("<Q", size)[0]) > 100_000_000:
            raise wrong
        header = read_json(file.read(length))
    if not isinstance(header, dict):
        raise wrong
    count = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(isinstance(extent, int) and 0 <= extent < 2**40 for extent in shape):
            raise wrong
        count += math.prod(shape)
    return count
