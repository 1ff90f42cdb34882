"""docs/configuration.md names every key that a config and its files may have, with its default, and no other."""

from __future__ import annotations

import re
import typing
from typing import Any

import pytest
from pydantic import BaseModel

from allfour.models.attributes import AttributeSet
from allfour.models.generators._openai.settings import SHUTDOWN_BY_PROVIDER
from allfour.pipeline.analyses.sensitivity_grid import Grid
from allfour.pipeline.config import blocks as config
from allfour.pipeline.config import prompt_sets
from allfour.pipeline.config.study import StudyConfig
from scripts.write_settings_reference import SECTIONS, TARGET, default_of, reference
from tests.places import REPOSITORY

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


def test_every_model_has_its_section() -> None:
    assert set(SECTIONS.values()) == set().union(*(models_under(root) for root in ROOTS))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_stands_with_its_default(heading: str) -> None:
    model = SECTIONS[heading]
    assert documented()[heading] == {name: default_of(model, name) for name in model.model_fields}


def test_the_reference_is_that_of_the_models() -> None:
    assert TARGET.read_text(encoding="utf-8") == reference(), "run: python scripts/write_settings_reference.py"


def test_every_model_that_a_provider_withdraws_is_named_with_its_day() -> None:
    text = (REPOSITORY / "docs" / "hosted-apis.md").read_text(encoding="utf-8")
    for name, day in SHUTDOWN_BY_PROVIDER.items():
        assert f"`{name}`" in text
        assert str(day) in text
