"""Finds, checks and loads a diffusers pipeline. What is not available is one `BackendError` within seconds."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from allfour import resources
from allfour.errors import BackendError, with_choices
from allfour.files import sha256_of
from allfour.models.devices import choose_device
from allfour.models.files import FileStamp
from allfour.models.generators._diffusion import foreign, pipelines
from allfour.models.generators._diffusion.load_report import missing_tensors
from allfour.models.generators._diffusion.memory import first_line
from allfour.models.generators._diffusion.unfilled import nothing_drawn
from allfour.process.bare_packages import lay_bare
from allfour.process.deferred import defer

_LOG = logging.getLogger(__name__)
_PROBE_SECONDS = 5.0
OFFLINE_ALTERNATIVE = (
    "draw with the sandbox's own model, which needs no download:  --set generator.model=models/sandbox/diffusion"
)
SCHEDULERS = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "pndm": "PNDMScheduler", "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler", "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}  # fmt: skip
"""Short names of schedulers; a diffusers class name does as well."""
TRAILING = "-trailing"
"""Behind a scheduler's name: its steps are counted from the end, as distilled models want them."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter: one .safetensors file."""

    file: Path
    weight: float


def import_packages() -> tuple[Any, Any]:
    """torch and diffusers. Raises BackendError."""
    try:
        import torch

        defer()
        lay_bare()
        import diffusers
    except ModuleNotFoundError as error:
        raise BackendError(
            f"stable-diffusion needs the package {error.name!r}: pip install torch diffusers transformers"
        ) from error
    except (
        ImportError
    ) as error:  # it is there, and too little memory, or a file of it that is damaged, stands in its way
        raise BackendError(
            f"stable-diffusion: {error.name or 'a package'} is installed but cannot be loaded: {' '.join(str(error).split())[:400]}. Check that there is enough memory. If there is, install it again: pip install --force-reinstall torch diffusers transformers"
        ) from error
    return torch, diffusers


def pick_device(name: str) -> str:
    """The device to use. Raises BackendError where it is not there."""
    try:
        return choose_device(name)
    except ValueError as error:
        raise BackendError(f"generator.device: {error}") from None


def pick_dtype(torch: Any, name: str, device: str) -> str:
    """The number format of the weights. Raises BackendError where it is none."""
    if name == "auto":
        if device.startswith("cuda"):
            # Cards before Ampere say that they take bfloat16 and emulate it.
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return "float32"
    if name not in {"float32", "float16", "bfloat16"}:
        raise BackendError(f"generator.dtype: {name!r} is not one of auto, float32, float16, bfloat16")
    return name


def find_lora(settings: Mapping[str, Any]) -> Lora:
    """The adapter of a config. Raises BackendError where it is not one .safetensors file, or PEFT is missing."""
    path = Path(str(settings["path"])).expanduser()
    path = resources.locate_recorded(path) or path
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise BackendError(
            f"stable-diffusion: lora.path {settings['path']!r} must be one .safetensors file, or a folder with exactly one"
        )
    if importlib.util.find_spec("peft") is None:
        raise BackendError("generator.lora needs the package 'peft': pip install 'allfour[lora]'")
    return Lora(files[0], float(settings.get("weight", 1.0)))


def load_pipeline(
    diffusers: Any,
    folder: Path,
    *,
    model: str,
    variant: str | None,
    dtype: str,
    placement: pipelines.Placement,
    lora: Lora | None,
    checkpoint: Path | None = None,
) -> Any:
    """The pipeline of a folder, on its device; with the weights of `checkpoint`, one file, where it is given. Raises BackendError."""
    import torch

    foreign.check_folder(folder, diffusers)
    cls = pipelines.pipeline_class(diffusers, folder)
    pipelines.check_parts(cls, folder)
    arguments = {"dtype": getattr(torch, dtype), **placement.arguments(diffusers)}

    quiet(diffusers)
    level = diffusers.utils.logging.get_verbosity()
    # A small autoencoder in a pipeline that was typed for a large one is worth no warning; what matters raises.
    diffusers.utils.logging.set_verbosity_error()
    try:
        with missing_tensors() as lacking, nothing_drawn():
            if checkpoint is not None:
                pipe = pipelines.load_single_file(cls, checkpoint, config=str(folder), arguments=arguments)
            else:
                pipe = cls.from_pretrained(
                    str(folder),
                    use_safetensors=True,
                    variant=variant,
                    local_files_only=True,
                    trust_remote_code=False,
                    **arguments,
                )
    except Exception as error:  # whatever diffusers raises on a damaged folder, the mend is the same
        raise BackendError(
            with_choices(
                f"stable-diffusion: cannot load {model!r}: {first_line(error)}",
                "use a whole text-to-image model in diffusers format, with safetensors weights",
                OFFLINE_ALTERNATIVE,
            )
        ) from error
    finally:
        diffusers.utils.logging.set_verbosity(level)
    _check_whole(pipe, model, lacking)
    if lora is not None:
        _load_lora(pipe, lora)
    pipe.set_progress_bar_config(disable=True)
    placement.put(pipe)
    return pipe


def _check_whole(pipe: Any, model: str, reported: Sequence[str]) -> None:
    """Raise BackendError where a tensor of a network was in no file.

    diffusers leaves it without data, to fail when it is first used; transformers makes it up at random, and only reports it.
    """
    lacking = list(reported) + [
        f"{name}.{key}"
        for name, part in pipe.components.items()
        if hasattr(part, "named_parameters")
        for key, tensor in (*part.named_parameters(), *part.named_buffers())
        if tensor.is_meta
    ]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise BackendError(
            f"stable-diffusion: {model!r} lacks the tensor {lacking[0]}{more}, so its weights are damaged or belong to another model. Get the model again"
        )


def _load_lora(pipe: Any, lora: Lora) -> None:
    foreign.check_adapter(lora.file)
    try:
        pipe.load_lora_weights(
            str(lora.file.parent),
            weight_name=lora.file.name,
            adapter_name="lora",
            local_files_only=True,
            use_safetensors=True,
        )
        pipe.set_adapters(["lora"], [lora.weight])
    except Exception as error:
        raise BackendError(
            f"stable-diffusion: the adapter {lora.file.name} does not fit this model: {first_line(error)}"
        ) from error


def scheduler_like(diffusers: Any, name: str, config: Any) -> Any:
    """The scheduler of a name, with the settings of the one that it takes the place of. Raises BackendError."""
    changes = {"timestep_spacing": "trailing"} if name.endswith(TRAILING) else {}
    return scheduler_class(diffusers, name).from_config(config, **changes)


def scheduler_class(diffusers: Any, name: str) -> Any:
    """The class of a scheduler's name. Raises BackendError."""
    name = name.removesuffix(TRAILING)
    wanted = SCHEDULERS.get(name, name)
    found = getattr(diffusers, wanted, None)
    if found is None or not wanted.endswith("Scheduler"):
        close = difflib.get_close_matches(name, SCHEDULERS, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise BackendError(f"generator.scheduler: unknown scheduler {name!r}.{hint} Available: {', '.join(SCHEDULERS)}")
    return found


def checkpoint_file(model: str, base: str | None) -> Path | None:
    """The one file of weights that a model's name says; None for a folder or a hub id.

    Raises
    ------
    BackendError
        It is not there, is no .safetensors file, or `base` is missing or one too many.
    """
    path = Path(model).expanduser()
    if path.suffix in {".ckpt", ".pt", ".pth", ".bin"}:
        raise BackendError(
            f"stable-diffusion: {path.name} is a pickle, which can run code when it is read. Convert it to .safetensors"
        )
    if path.suffix != ".safetensors":
        if base is not None:
            raise BackendError("generator.base is only for a single .safetensors file as generator.model. Remove it")
        return None
    found = resources.locate_recorded(path) or path
    if not found.is_file():
        raise BackendError(f"stable-diffusion: no such file: {model}")
    if base is None:
        raise BackendError(
            "stable-diffusion: a single file of weights does not say how its model is built. Set generator.base to a model of the same kind, as a folder in diffusers format or a hub id (for SDXL: stabilityai/stable-diffusion-xl-base-1.0)"
        )
    return found


def local_folder(model: str) -> Path | None:
    """The folder that a model's name says; None for a hub id.

    Raises
    ------
    BackendError
        It is a folder and no model, or neither a folder nor a hub id.
    """
    path = Path(model).expanduser()
    local = resources.locate_recorded(path) or path
    if local.is_dir():
        if not (local / "model_index.json").is_file():
            raise BackendError(
                f"stable-diffusion: {model} has no model_index.json, so it is not a folder in diffusers format"
            )
        return local
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1 or "\\" in model:
        raise BackendError(
            with_choices(
                f"stable-diffusion: no such model folder: {model}",
                "give a folder in diffusers format, or a hub id NAME/MODEL",
                OFFLINE_ALTERNATIVE,
            )
        )
    return None


def cached_folder(diffusers: Any, model: str, *, revision: str | None, variant: str | None) -> Path | None:
    """A hub id's folder in the local cache; None where it is not there, or not whole."""
    try:
        return Path(
            diffusers.DiffusionPipeline.download(
                model, local_files_only=True, revision=revision, variant=variant, use_safetensors=True
            )
        )
    except Exception as error:
        _LOG.debug("not in the cache: %s", error)
        return None


def find_folder(diffusers: Any, model: str, *, revision: str | None, variant: str | None) -> Path:
    """The folder of a model: the given one, a cached one, or one that is downloaded now. Raises BackendError."""
    folder = local_folder(model) or cached_folder(diffusers, model, revision=revision, variant=variant)
    if folder is not None:
        return folder
    if not hub_answers():
        raise BackendError(not_to_be_had(model))
    try:
        return Path(
            diffusers.DiffusionPipeline.download(model, revision=revision, variant=variant, use_safetensors=True)
        )
    except Exception as error:
        raise BackendError(
            with_choices(
                f"stable-diffusion: cannot get {model!r} from the hub: {first_line(error)}",
                "check its name and revision, that it has safetensors weights, and whether it needs a token (HF_TOKEN)",
                OFFLINE_ALTERNATIVE,
            )
        ) from error


def not_to_be_had(model: str) -> str:
    return with_choices(
        f"stable-diffusion: {model!r} is not in the local cache, and the model hub does not answer",
        f"on a machine that reaches the hub, run  hf download {model}  and copy its cache (~/.cache/huggingface, or HF_HOME) here",
        OFFLINE_ALTERNATIVE,
    )


def hub_answers() -> bool:
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


def quiet(diffusers: Any) -> None:
    """No bars of the libraries between ours."""
    diffusers.utils.logging.disable_progress_bar()
    try:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    except ImportError:  # pipelines without a transformers text encoder do without
        pass


def file_stamps(folder: Path, lora: Lora | None, checkpoint: Path | None = None) -> dict[str, FileStamp]:
    """The files of a model as they are now, to be set beside those that are hashed later. Raises BackendError."""
    return foreign.stamps(_files(folder, lora, checkpoint))


def _files(folder: Path, lora: Lora | None, checkpoint: Path | None) -> list[tuple[str, Path]]:
    files = foreign.read_files(folder, lora.file if lora else None)
    return files + ([("checkpoint", checkpoint)] if checkpoint is not None else [])


def weights_sha256(
    folder: Path,
    lora: Lora | None,
    *,
    checkpoint: Path | None = None,
    loaded: Mapping[str, FileStamp] | None = None,
) -> str:
    """Over names and contents of weights and configs, so that a copy elsewhere is the same model.

    Parameters
    ----------
    checkpoint
        The file whose weights take the place of the folder's.
    loaded
        The files as they were when the model was loaded.

    Raises
    ------
    BackendError
        A file is another one than that which was loaded.
    """
    digest = hashlib.sha256()
    for name, path in foreign.read_files(folder, lora.file if lora else None):
        digest.update(f"{name}\0{sha256_of(path)}\n".encode())
    found = digest.hexdigest() if checkpoint is None else with_checkpoint(digest.hexdigest(), checkpoint)
    if loaded is not None and file_stamps(folder, lora, checkpoint) != dict(loaded):
        raise BackendError(
            f"stable-diffusion: files of {folder} were changed while they were in use. Repeat the command"
        )
    return found


def public_name(model: str) -> str:
    """The model without this machine's folders: relative to the repository, or the last part alone."""
    path = Path(model)
    if not path.is_absolute():
        return model
    return resources.packaged_name(path) or path.name


def with_checkpoint(folder_sha256: str, checkpoint: Path) -> str:
    """sha256 over a folder's own and that of the file whose weights take their place."""
    return hashlib.sha256(f"{folder_sha256}\n{sha256_of(checkpoint)}".encode()).hexdigest()
