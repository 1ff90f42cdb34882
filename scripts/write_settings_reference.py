"""Write docs/settings.md from the settings models: every key of a config and its files, what it takes, and its default.

python scripts/write_settings_reference.py

What a key means, and when to change it, is in docs/configuration.md, which is held to the same models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from allfour.models import registry
from allfour.models.attributes import AttributeSet, AttributeSpec, PresenceSpec
from allfour.models.detectors.people import ByPromptsConfig, NoDetectorConfig
from allfour.models.generators.stable_diffusion_settings import LoraConfig, QuantizationConfig
from allfour.pipeline.analyses.sensitivity_grid import Grid, PhraseVariants, TemplateVariants
from allfour.pipeline.config import blocks as config
from allfour.pipeline.config import prompt_sets
from allfour.pipeline.config.study import StudyClassifier, StudyConfig, StudyGenerator

TARGET = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.RunConfig,
    "`prompts`": config.PromptsConfig,
    **{f"`generator`, `backend: {name}`": kind for name, kind in registry.settings_of(registry.GENERATORS).items()},
    "`generator.lora`": LoraConfig,
    "`generator.quantization`": QuantizationConfig,
    **{f"`classifier`, `backend: {name}`": kind for name, kind in registry.settings_of(registry.CLASSIFIERS).items()},
    **{
        f"`classifier.people`, `{registry.DETECTORS.tag}: {name}`": kind
        for name, kind in registry.settings_of(registry.DETECTORS).items()
    },
    "`classifier.people`, `detector: auto`": ByPromptsConfig,
    "`classifier.people`, `detector: none`": NoDetectorConfig,
    "`attributes`": config.AttributesConfig,
    "`archive`": config.ArchiveConfig,
    "`scoring`": config.ScoringConfig,
    "`statistics`": config.StatisticsConfig,
    "`rewriting`": config.RewritingConfig,
    "Word lists": config.WordLists,
    "`reference`": config.ReferenceConfig,
    "Prompt set": prompt_sets.PromptSet,
    "A prompt": prompt_sets.Prompt,
    "A word list": prompt_sets.WordList,
    "`templates` of a prompt set": prompt_sets.Template,
    "`variables` of a prompt set": prompt_sets.WordFile,
    "Study": StudyConfig,
    "`generators` of a study": StudyGenerator,
    "`classifiers` of a study": StudyClassifier,
    "Attributes file": AttributeSet,
    "An attribute": AttributeSpec,
    "`presence`": PresenceSpec,
    "Reference file": config.Reference,
    "A prompt of a reference": config.ReferencePrompt,
    "Sensitivity grid": Grid,
    "`templates` of a grid": TemplateVariants,
    "`phrases` of a grid": PhraseVariants,
}
"""Heading, here and in docs/configuration.md -> model."""
_HEAD = """# Settings

Which values every key of a config and its files takes, and its default; written by `python scripts/write_settings_reference.py`
from the models that check a config. What each key means is in [configuration.md](configuration.md), under the same headings.
"""
_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {}"),
    ("maxItems", "at most {}"),
    ("minProperties", "at least {}"),
    ("maxProperties", "at most {}"),
)
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "none",
}


def reference() -> str:
    """The page."""
    return "\n".join([_HEAD, *(line for heading, model in SECTIONS.items() for line in _section(heading, model))])


def default_of(model: type[BaseModel], name: str) -> str:
    """A key's default as tables write it."""
    value = model.model_fields[name].get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "block"
    if value is None or value == "":
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _section(heading: str, model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    rows = [
        f"| `{name}` | {_takes(schema['properties'][name], schema.get('$defs', {}))} | {default_of(model, name)} |"
        for name in model.model_fields
    ]
    return [f"## {heading}", "", "| key | takes | default |", "|---|---|---|", *rows, ""]


def _takes(schema: Mapping[str, Any], blocks: Mapping[str, Any]) -> str:
    """What a JSON Schema allows, in words; a block is told by name alone, as it has a section of its own."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return "a block" if blocks[name].get("type") == "object" else _takes(blocks[name], blocks)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return ", or ".join(dict.fromkeys(_takes(part, blocks) for part in schema[either]))
    kind = schema.get("type")
    if kind == "array":
        word = f"a list of: {_takes(schema.get('items', {}), blocks)}"
    elif kind == "object":
        word = (
            f"a map to: {_takes(values, blocks)}"
            if isinstance(values := schema.get("additionalProperties"), dict)
            else "a map"
        )
    else:
        word = _TYPES.get(str(kind), "any value")
    bounds = [text.format(_number(schema[key])) for key, text in _BOUNDS if key in schema]
    if pattern := schema.get("pattern"):
        bounds.append(f"as `{pattern}`".replace("|", "\\|"))
    return ", ".join([word, *bounds])


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,}".removesuffix(".0")


def main() -> None:
    TARGET.write_text(reference(), encoding="utf-8")
    print(TARGET.name)


if __name__ == "__main__":
    main()
