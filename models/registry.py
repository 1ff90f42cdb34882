"""Which backend names exist and where they are: `module:Class`, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

GENERATORS: Mapping[str, str] = MappingProxyType(
    {
        "stable-diffusion": "models.generators.stable_diffusion:StableDiffusion",
        "openai-images": "models.generators.openai_images:OpenAIImages",
        "portrait-renderer": "models.generators.portrait_renderer:PortraitRenderer",
    }
)
CLASSIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "clip": "models.classifiers.clip:ClipClassifier",
        "linear-probe": "models.classifiers.linear_probe:LinearProbeClassifier",
        "face": "models.classifiers.face:FaceClassifier",
    }
)
DETECTORS: Mapping[str, str] = MappingProxyType({"face": "models.classifiers.detectors:FaceDetector"})


def load(registry: Mapping[str, str], name: str) -> type[Any]:
    """The class behind a backend name.

    Raises
    ------
    KeyError
        Unknown name; the message gives the closest and all of them.
    """
    if name not in registry:
        close = difflib.get_close_matches(name, registry, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise KeyError(f"unknown backend {name!r}.{hint} Available: {', '.join(registry)}")
    module, _, attribute = registry[name].partition(":")
    loaded: type[Any] = getattr(importlib.import_module(module), attribute)
    return loaded
