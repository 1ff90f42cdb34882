"""Which backends there are, allfour's own and those that other packages bring, and the settings of each.

allfour's own stand below, one line each. A package brings one as an entry point of the group `allfour.generators`,
`allfour.classifiers` or `allfour.detectors`: the name that a config gives it, and `module:Settings`. A backend that cannot be used,
because it does not import or because two have its name, is a mistake in the config that names it and harms no other.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, create_model, model_validator

from allfour.models.settings import BackendSettings
from allfour.process.ending import end_as_usual


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of backend."""

    noun: str
    tag: str
    """The key of a block that names the backend."""
    builtin: Mapping[str, str]
    """Name -> module and model of its settings, below `allfour.models`."""

    @property
    def group(self) -> str:
        """Of entry points."""
        return f"allfour.{self.noun}s"


GENERATORS = Kind(
    "generator",
    "backend",
    MappingProxyType(
        {
            "stable-diffusion": "generators.stable_diffusion_settings:StableDiffusionConfig",
            "openai-images": "generators.openai_images:OpenAIImagesConfig",
            "images-batch": "generators.images_batch:ImagesBatchConfig",
            "web-ui": "generators.web_ui:WebUIConfig",
            "comfyui": "generators.comfyui:ComfyUIConfig",
            "portrait-renderer": "generators.portrait_renderer:PortraitRendererConfig",
        }
    ),
)
CLASSIFIERS = Kind(
    "classifier",
    "backend",
    MappingProxyType(
        {
            "clip": "classifiers.clip_settings:ClipConfig",
            "face": "classifiers.face:FaceConfig",
            "judge": "classifiers.judge:JudgeConfig",
            "linear-probe": "classifiers.linear_probe_settings:LinearProbeConfig",
            "recorded": "classifiers.recorded:RecordedConfig",
        }
    ),
)
DETECTORS = Kind(
    "detector",
    "detector",
    MappingProxyType(
        {"centerface": "detectors.centerface:CenterFaceConfig", "face": "detectors.face:FaceDetectorConfig"}
    ),
)


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the settings of a backend are."""

    place: str
    """`module:Settings`."""
    package: str
    """What brings it."""


@functools.cache
def _brought() -> Mapping[str, Sequence[importlib.metadata.EntryPoint]]:
    """What packages bring, by group: a file of each installed package is read for it."""
    points = importlib.metadata.entry_points()
    return {kind.group: tuple(points.select(group=kind.group)) for kind in (GENERATORS, CLASSIFIERS, DETECTORS)}


def _found(kind: Kind) -> dict[str, list[_Found]]:
    """Every backend of a kind, by name, allfour's own first."""
    places = {name: [_Found(f"allfour.models.{place}", "allfour")] for name, place in kind.builtin.items()}
    for point in sorted(_brought()[kind.group], key=lambda p: (p.name, p.value)):
        found = _Found(point.value, point.dist.name if point.dist is not None else "an unknown package")
        if found not in places.setdefault(point.name, []):  # a package may be seen in two folders of the path
            places[point.name].append(found)
    return places


def settings_of(kind: Kind) -> dict[str, type[BackendSettings]]:
    """The settings of every backend of a kind, by name. One that cannot be used has settings that say why."""
    return {name: _load(kind, name, found) for name, found in _found(kind).items()}


def union_of(kind: Kind, *more: type[BackendSettings]) -> Any:
    """The type of a block that is the settings of one backend of a kind, told apart by its tag; `more` come first."""
    models = (*more, *settings_of(kind).values())
    return typing.Annotated[typing.Union[models], Field(discriminator=kind.tag)]  # noqa: UP007 (made when it is known)


def _load(kind: Kind, name: str, found: list[_Found]) -> type[BackendSettings]:
    if len(found) > 1:
        brought = " and ".join(f"{f.place} (package {f.package})" for f in found)
        return _refusing(
            kind, name, f"two packages provide a {kind.noun} called {name!r}: {brought}. Uninstall one of them"
        )
    module, _, attribute = found[0].place.partition(":")
    if found[0].package != "allfour":
        end_as_usual()
    try:
        settings = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # whatever another package does wrong must not end a run that does not use it
        why = f"{type(error).__name__}: {error}"
        return _refusing(
            kind,
            name,
            f"the {kind.noun} {name!r} from the package {found[0].package} cannot be imported ({why}). Install it with all that it needs: pip install '{found[0].package}'",
        )
    if not (isinstance(settings, type) and issubclass(settings, BackendSettings)):
        return _refusing(
            kind,
            name,
            f"{found[0].place} (package {found[0].package}) is not a subclass of allfour's settings of a {kind.noun}",
        )
    if _tag_of(settings, kind) != name:
        return _refusing(
            kind,
            name,
            f'the package {found[0].package} registers it as {name!r}, but its settings do not say so: {found[0].place} must have the field {kind.tag}: Literal["{name}"]',
        )
    return settings


def _tag_of(settings: type[BackendSettings], kind: Kind) -> str | None:
    field = settings.model_fields.get(kind.tag)
    words = typing.get_args(field.annotation) if field is not None else ()
    return words[0] if len(words) == 1 else None


def _refusing(kind: Kind, name: str, why: str) -> type[BackendSettings]:
    """Settings of a backend that cannot be used: whatever is set, the mistake is `why`."""

    def refuse(cls: type[Any], data: Any) -> Any:
        raise ValueError(why)

    fields: dict[str, Any] = {kind.tag: (Literal[name], ...)}
    method: Any = classmethod(refuse)
    validators: dict[str, Any] = {"refuse": model_validator(mode="before")(method)}
    model: type[BackendSettings] = create_model(
        "UnusableConfig", __base__=BackendSettings, __validators__=validators, **fields
    )
    return model
