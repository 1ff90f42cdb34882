"""docs/configuration.md names every key that a config and its files may have, with its default, and no other."""

from __future__ import annotations

import json
import re
import typing
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from allfour.models import registry
from allfour.models.attributes import AttributeSet, AttributeSpec, PresenceSpec
from allfour.models.detectors.people import ByPromptsConfig, NoDetectorConfig
from allfour.models.generators._openai.settings import SHUTDOWN_BY_PROVIDER
from allfour.models.generators.stable_diffusion import LoraConfig, QuantizationConfig
from allfour.pipeline.analyses.sensitivity_grid import Grid, PhraseVariants, TemplateVariants
from allfour.pipeline.config import blocks as config
from allfour.pipeline.config import prompt_sets
from allfour.pipeline.config.study import StudyClassifier, StudyConfig, StudyGenerator
from tests.places import REPOSITORY

SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.RunConfig,
    "`prompts`": config.PromptsConfig,
    "`generator.lora`": LoraConfig,
    "`generator.quantization`": QuantizationConfig,
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
SECTIONS |= {
    f"`{block}`, `{kind.tag}: {name}`": settings
    for block, kind in (
        ("generator", registry.GENERATORS),
        ("classifier", registry.CLASSIFIERS),
        ("classifier.people", registry.DETECTORS),
    )
    for name, settings in registry.settings_of(kind).items()
}
ROOTS = (
    config.RunConfig, config.WordLists, prompt_sets.PromptSet, prompt_sets.Template, prompt_sets.WordFile, prompt_sets.WordList,
    StudyConfig, AttributeSet, config.Reference, Grid,
)  # fmt: skip


def models_under(annotation: Any) -> set[type[BaseModel]]:
    """Every model that a type leads to, itself included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models_under(f.annotation) for f in annotation.model_fields.values()))
    return set().union(*(models_under(argument) for argument in typing.get_args(annotation)))


def documented() -> dict[str, dict[str, str]]:
    """Heading -> key -> default, from the tables of docs/configuration.md."""
    text = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    rows = re.compile(r"^\| `(\w+)` \| (.+?) \| .+ \|$", re.MULTILINE)
    return {heading: dict(rows.findall(body)) for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def default_of(model: type[BaseModel], name: str) -> str:
    """As the table writes it."""
    field = model.model_fields[name]
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "block"
    if value is None or value == "":
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def test_every_model_has_its_section() -> None:
    assert set(SECTIONS.values()) == set().union(*(models_under(root) for root in ROOTS))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_stands_with_its_default(heading: str) -> None:
    model = SECTIONS[heading]
    assert documented()[heading] == {name: default_of(model, name) for name in model.model_fields}


def test_every_model_that_a_provider_withdraws_is_named_with_its_day() -> None:
    text = (REPOSITORY / "docs" / "hosted-apis.md").read_text(encoding="utf-8")
    for name, day in SHUTDOWN_BY_PROVIDER.items():
        assert f"`{name}`" in text
        assert str(day) in text
