"""Which backend names exist and where they are: `module:Class`, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

GENERATORS: Mapping[str, str] = MappingProxyType(
    {
        "stable-diffusion": "allfour.models.generators.stable_diffusion:StableDiffusion",
        "openai-images": "allfour.models.generators.openai_images:OpenAIImages",
        "portrait-renderer": "allfour.models.generators.portrait_renderer:PortraitRenderer",
    }
)
CLASSIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "clip": "allfour.models.classifiers.clip:ClipClassifier",
        "linear-probe": "allfour.models.classifiers.linear_probe:LinearProbeClassifier",
        "face": "allfour.models.classifiers.face:FaceClassifier",
    }
)
DETECTORS: Mapping[str, str] = MappingProxyType({"face": "allfour.models.classifiers.detectors:FaceDetector"})


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
