"""Packages of which single parts are imported without all the others that their `__init__` lists or imports.

transformers reads the two thousand files of its models to know what they define, and diffusers imports some hundred networks where one of
their neighbours is asked for. In a command's own process such a package is bare: a part of it is imported from its own file, a name that
stands below from its home, and for anything else the package itself takes the place, in which all that is loaded by then stays.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from allfour.process.deferred import late, spec_of
from allfour.process.own_process import own_process

_OF_TRANSFORMERS = {
    "configuration_utils": ("PretrainedConfig",),
    "feature_extraction_utils": ("FeatureExtractionMixin",),
    "generation.beam_search": ("BeamSearchScorer",),
    "generation.configuration_utils": ("GenerationConfig",),
    "generation.logits_process": (
        "LogitsProcessorList", "MinLengthLogitsProcessor", "RepetitionPenaltyLogitsProcessor", "TopKLogitsWarper", "TopPLogitsWarper",
    ),
    "generation.stopping_criteria": ("EosTokenCriteria", "MaxLengthCriteria", "StopStringCriteria", "StoppingCriteriaList"),
    "image_processing_base": ("ImageProcessingMixin",),
    "modeling_utils": ("PreTrainedModel",),
    "models.auto.configuration_auto": ("AutoConfig", "CONFIG_MAPPING"),
    "models.auto.image_processing_auto": ("AutoImageProcessor",),
    "models.auto.modeling_auto": ("AutoModel",),
    "models.auto.tokenization_auto": ("AutoTokenizer",),
    "models.clip.configuration_clip": ("CLIPConfig",),
    "models.clip.image_processing_clip": ("CLIPImageProcessor",),
    "models.clip.modeling_clip": (
        "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel", "CLIPVisionModelWithProjection",
    ),
    "models.clip.tokenization_clip": ("CLIPTokenizer",),
    "models.dinov2_with_registers.configuration_dinov2_with_registers": ("Dinov2WithRegistersConfig",),
    "models.dinov2_with_registers.modeling_dinov2_with_registers": ("Dinov2WithRegistersModel",),
    "models.siglip.configuration_siglip": ("SiglipVisionConfig",),
    "models.siglip.image_processing_siglip": ("SiglipImageProcessor",),
    "models.siglip.modeling_siglip": ("SiglipVisionModel",),
    "models.vit_mae.configuration_vit_mae": ("ViTMAEConfig",),
    "models.vit_mae.modeling_vit_mae": ("ViTMAEModel",),
    "processing_utils": ("ProcessorMixin",),
    "tokenization_python": ("PreTrainedTokenizer",),
    "tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "tokenization_utils_tokenizers": ("PreTrainedTokenizerFast",),
}  # fmt: skip
BARE: Mapping[str, Mapping[str, str]] = {
    "transformers": {name: f"transformers.{home}" for home, names in _OF_TRANSFORMERS.items() for name in names},
    "transformers.models": {},
    "diffusers.models.autoencoders": {},
    "diffusers.models.transformers": {},
    "diffusers.models.unets": {},
}
"""Package -> names that others ask of it, each with the module that defines it."""
_BOUND = frozenset({
    "AutoImageProcessor", "AutoModel", "Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", "EosTokenCriteria", "LogitsProcessorList",
    "MaxLengthCriteria", "MinLengthLogitsProcessor", "RepetitionPenaltyLogitsProcessor", "SiglipImageProcessor", "SiglipVisionConfig",
    "SiglipVisionModel", "StopStringCriteria", "StoppingCriteriaList", "TopKLogitsWarper", "TopPLogitsWarper", "ViTMAEConfig", "ViTMAEModel",
})  # fmt: skip
"""Those that are only bound where they are asked for, and used by few."""
_NOT_THERE = frozenset(
    {
        "BaseGuidance",
        "BeamSearchScorer",
        "DiffusionPipeline",
        "ModelMixin",
        "OnnxRuntimeModel",
        "ORTModule",
        "SchedulerMixin",
    }
)
"""Names of diffusers' own kinds of parts, which it asks of every package that parts come from, and one of earlier versions."""


def lay_bare() -> None:
    """Lay bare what is installed and not loaded yet, in a command's own process."""
    if not own_process():
        return
    for name in BARE:
        if name not in sys.modules and (spec := spec_of(name)) is not None and spec.submodule_search_locations:
            sys.modules[name] = _Bare(name, spec)
            if name == "transformers":
                _import_once()


_DIRECTLY = "direct_transformers_import"


def _import_once() -> None:
    """transformers runs its own `__init__` a second time, to have the package at hand: the one that is there will do."""

    def there(path: str, file: str = "__init__.py") -> ModuleType:
        return sys.modules["transformers"]

    with contextlib.suppress(ImportError):  # which is then told where transformers is used
        for module in map(importlib.import_module, ("transformers.utils.import_utils", "transformers.utils")):
            if hasattr(module, _DIRECTLY):
                setattr(module, _DIRECTLY, there)


class _Bare(ModuleType):
    """Stands in `sys.modules` for a package whose own code has not run."""

    def __init__(self, name: str, spec: ModuleSpec) -> None:
        super().__init__(name)
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__package__ = name
        self.__path__ = list(spec.submodule_search_locations or ())

    def __getattr__(self, name: str) -> Any:
        own = f"{self.__name__}.{name}"
        if sys.modules.get(self.__name__) is self:
            home = BARE[self.__name__].get(name)
            if home is not None and spec_of(home) is not None:
                if name in _BOUND:
                    return late(home, name)
                with contextlib.suppress(
                    ImportError, AttributeError
                ):  # another version, or a package of its own is missing
                    return getattr(importlib.import_module(home), name)
            if name == "__version__":
                return importlib.metadata.version(self.__name__)
            if name.startswith("__") or name in _NOT_THERE:  # the former is asked of every module
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            if spec_of(own) is not None:
                return importlib.import_module(own)
        return getattr(_whole(self.__name__), name)


def _whole(name: str) -> ModuleType:
    """The package itself, in place of the bare one."""
    bare = sys.modules.get(name)
    if not isinstance(bare, _Bare):
        return importlib.import_module(name)
    del sys.modules[name]
    whole = importlib.import_module(name)
    for own, part in vars(bare).items():
        if isinstance(part, ModuleType) and part is sys.modules.get(f"{name}.{own}"):
            vars(whole).setdefault(own, part)
    return whole
