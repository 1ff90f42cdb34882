"""What a user writes."""

from allfour.checked_yaml import read_yaml
from allfour.errors import ConfigError
from allfour.pipeline.config.blocks import (
    ArchiveConfig,
    AttributesConfig,
    ClassifierConfig,
    GeneratorConfig,
    PromptsConfig,
    Reference,
    ReferencePrompt,
    RunConfig,
    ScoringConfig,
    StatisticsConfig,
    WordLists,
)
from allfour.pipeline.config.loading import (
    apply_overrides,
    context_of,
    load_attributes,
    load_config,
    load_prompts,
    load_reference,
    load_word_lists,
    recorded_config,
)
from allfour.pipeline.config.paths import resolve_path, typed_path
from allfour.pipeline.config.prompt_sets import Prompt, PromptSet
from allfour.pipeline.config.validation import validate

__all__ = [
    "ArchiveConfig",
    "AttributesConfig",
    "ClassifierConfig",
    "ConfigError",
    "GeneratorConfig",
    "Prompt",
    "PromptSet",
    "PromptsConfig",
    "Reference",
    "ReferencePrompt",
    "RunConfig",
    "ScoringConfig",
    "StatisticsConfig",
    "WordLists",
    "apply_overrides",
    "context_of",
    "load_attributes",
    "load_config",
    "load_prompts",
    "load_reference",
    "load_word_lists",
    "read_yaml",
    "recorded_config",
    "resolve_path",
    "typed_path",
    "validate",
]
