"""The YAML of a study: generators x prompt sets x classifiers, each cell an ordinary run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from allfour import resources
from allfour.checked_yaml import read_yaml
from allfour.errors import ConfigError
from allfour.models.settings import WRITTEN, Block, LocalPath, on_disk, texts_in
from allfour.pipeline.config.blocks import RunConfig
from allfour.pipeline.config.loading import apply_overrides, context_of, find_config, load_config
from allfour.pipeline.config.validation import validate

MAX_CELLS = 10_000
_BLOCK = dict[str, Any]

Level = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]*(?:-[A-Za-z0-9._]+)*$", max_length=48)]
"""A name in a study: part of a folder's name, in which `--` stands between two of them."""


class StudyGenerator(Block):
    """One generator of a study."""

    config: str | None = None
    """A config whose `generator` block, and `reference` where it has one, is taken."""
    generator: _BLOCK = Field(default_factory=dict)
    """A whole block, or keys that replace those of `config`."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    reference: _BLOCK | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.config is None and not self.generator and self.seed is None:
            raise ValueError("it says nothing: give `config`, a `generator` block, or another `seed`")
        return self


class StudyClassifier(Block):
    """One way to read the images of a study."""

    config: str | None = None
    """A config whose `classifier` and `attributes` blocks are taken."""
    classifier: _BLOCK = Field(default_factory=dict)
    attributes: _BLOCK | None = None
    calibration: LocalPath | None = None
    """calibration.json of this very classifier."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.config is None and not self.classifier and self.attributes is None and self.calibration is None:
            raise ValueError("it says nothing: give `config`, a `classifier` block, `attributes` or a `calibration`")
        return self


class StudyConfig(Block):
    """One study. What an axis does not say is that of `base`."""

    name: str = Field(min_length=1, max_length=100)
    notice: str | None = Field(default=None, max_length=1000)
    """A banner on the page."""
    base: str = "sandbox"
    """A config, by file or by name."""
    generators: dict[Level, StudyGenerator] = Field(default_factory=dict)
    prompts: dict[Level, _BLOCK] = Field(default_factory=dict)
    """A prompt set's file, or keys of the block `prompts`."""
    classifiers: dict[Level, StudyClassifier] = Field(default_factory=dict)
    pair_by: Literal["id", "subject"] = "subject"
    """By what prompts of different cells are paired. A prompt without a subject goes by its id."""
    max_cost: float | None = Field(default=None, gt=0)
    """Of all cells together, in the currency of `generator.price_per_image`."""
    parallel: int = Field(default=1, ge=1, le=64)
    """Cells of hosted generators that are made at once."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """A text stands for a config, or for a prompt set's file."""
        if not isinstance(data, dict):
            return data
        result = dict(data)
        for axis, key in (("generators", "config"), ("classifiers", "config"), ("prompts", "file")):
            if isinstance(result.get(axis), dict):
                result[axis] = {name: {key: v} if isinstance(v, str) else v for name, v in result[axis].items()}
        return result


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One cell: a way to run, by its place on each axis. A place on an axis that the study does not have is empty."""

    generator: str
    prompts: str
    classifier: str
    config: RunConfig
    calibration: Path | None

    @property
    def name(self) -> str:
        """As its folder is called."""
        return "--".join(part for part in (self.generator, self.prompts, self.classifier) if part) or "run"


@dataclass(frozen=True, slots=True)
class Study:
    """A study with its cells, those that share images one after the other."""

    config: StudyConfig
    cells: tuple[CellPlan, ...]


def load_study(path: Path, overrides: list[str] | None = None) -> Study:
    """Read and check a study, and the config of every cell.

    Parameters
    ----------
    path
        A file, here or among the packaged ones, or the bare name of a packaged one, such as `sandbox`.

    Raises
    ------
    ConfigError
        It stands nowhere, it is no study, a config that it names is none, or a cell has no generator or prompt set.
    """
    path = find_config(path, "configs/studies")
    data = read_yaml(path)
    if overrides:
        data = apply_overrides(data, overrides)
    context = context_of(path, overrides or [])
    study = validate(StudyConfig, data, where=str(path), context=context)
    # what a cell takes from a config that the study names was looked for there
    context.setdefault(WRITTEN, texts_in(data))
    count = max(1, len(study.generators)) * max(1, len(study.prompts)) * max(1, len(study.classifiers))
    if count > MAX_CELLS:
        raise ConfigError(f"{path}: {count:,} cells, and a study has at most {MAX_CELLS:,}")
    base = _config_block(study.base, path)
    cells = []
    for g_name, generator in study.generators.items() or [("", None)]:
        for p_name, prompts in study.prompts.items() or [("", None)]:
            for c_name, classifier in study.classifiers.items() or [("", None)]:
                parts = dict(base)
                if generator is not None:
                    parts |= _generator_blocks(generator, base, path)
                if prompts is not None:
                    parts["prompts"] = {**base["prompts"], **prompts}
                if classifier is not None:
                    parts |= _classifier_blocks(classifier, base, path)
                place = " / ".join(name for name in (g_name, p_name, c_name) if name)
                parts |= {"name": f"{study.name}: {place}" if place else study.name}
                where = f"{path}: cell {place or 'run'}"
                config = validate(RunConfig, parts, where=where, context=context)
                if config.generator is None or config.prompts.file is None:
                    lacking = "generator" if config.generator is None else "prompts.file"
                    raise ConfigError(f"{where}: no {lacking}. Name one on its axis, or in the base {study.base}")
                given = classifier.calibration if classifier is not None else None
                cells.append(
                    CellPlan(g_name, p_name, c_name, config, Path(on_disk(given)) if given is not None else None)
                )
    return Study(study, tuple(cells))


def _config_block(name: str, study: Path) -> dict[str, Any]:
    """A config as plain values; it may stand beside the study's file."""
    near = study.resolve().parent / name
    ours = resources.packaged_name(study) is not None
    config = load_config(near if near.is_file() else Path(name), ours=ours)
    found: dict[str, Any] = config.model_dump(mode="json", exclude={"name"})
    return found


def _generator_blocks(given: StudyGenerator, base: dict[str, Any], study: Path) -> dict[str, Any]:
    taken = _config_block(given.config, study) if given.config is not None else base
    blocks: dict[str, Any] = {"generator": _merged(taken.get("generator"), given.generator)}
    if given.config is not None:
        blocks |= {"reference": taken.get("reference"), "notice": taken.get("notice")}
    if given.reference is not None:
        blocks["reference"] = given.reference
    if given.seed is not None:
        blocks["seed"] = given.seed
    return blocks


def _classifier_blocks(given: StudyClassifier, base: dict[str, Any], study: Path) -> dict[str, Any]:
    taken = _config_block(given.config, study) if given.config is not None else base
    return {
        "classifier": _merged(taken.get("classifier"), given.classifier),
        "attributes": given.attributes if given.attributes is not None else taken["attributes"],
    }


def _merged(taken: Any, given: _BLOCK) -> Any:
    """Keys of a block replaced; a block of another backend is a block of its own."""
    if not isinstance(taken, dict) or given.get("backend", taken.get("backend")) != taken.get("backend"):
        return given or taken
    return {**taken, **given}
