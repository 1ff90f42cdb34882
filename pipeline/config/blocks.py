"""What a user writes: the blocks of a config, references and word lists. Every block is frozen and forbids unknown keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from allfour.models import registry
from allfour.models.attributes import Name
from allfour.models.classifiers.base import ClassifierSettings
from allfour.models.generators.base import GeneratorSettings
from allfour.models.settings import Block, LocalPath

# --- prompts ---------------------------------------------------------------------------------------------------------


class PromptsConfig(Block):
    """Which prompts, how many images each, and how many make a set."""

    file: LocalPath | None = None
    """A prompt set. Needed by `audit`; for `rescore` it gives known prompt ids their text and group."""
    images_per_prompt: int = Field(default=4, ge=1, le=100_000)
    set_size: int = Field(default=4, ge=2, le=64)
    """The number of images that must all agree: four in the published experiment."""


# --- backends: each brings its own settings, see allfour.models.registry ------------------------------------------------

if TYPE_CHECKING:
    GeneratorConfig = GeneratorSettings
    ClassifierConfig = ClassifierSettings
else:
    GeneratorConfig = registry.union_of(registry.GENERATORS)
    ClassifierConfig = registry.union_of(registry.CLASSIFIERS)

# --- archives --------------------------------------------------------------------------------------------------------


class ArchiveConfig(Block):
    """How `rescore` reads images that exist."""

    layout: Literal["auto", "folder", "manifest", "tar", "zip", "parquet", "run"] = "auto"
    prompt_from: Literal["auto", "folder", "caption", "column", "metadata", "table", "name", "path"] = "auto"
    path_pattern: str | None = None
    """What paths say, such as `{model}/{prompt}/{seed}`; with `prompt_from: path`, or with `{key}` beside a `prompt_table`."""
    prompt_table: LocalPath | None = None
    """A table of prompts that lies elsewhere: by file, or by a key that images bear in their names or folders."""
    key_column: str | None = None
    """The column of its keys; `row-0` or `row-1` where the number of the row, counted from there, is the key."""
    prompt_column: str | None = None
    image_column: str | None = None
    tiles: str | None = Field(default=None, pattern=r"^(auto|[1-8]x[1-8])$")
    """Rows and columns of pictures that are grids of several images: `2x2`, `1x4`; `auto` where their seams show it."""
    shard_size: int = Field(default=10_000, ge=1)
    max_image_bytes: int = Field(default=256 * 2**20, ge=1)


# --- the whole -------------------------------------------------------------------------------------------------------


class AttributesConfig(Block):
    """Where the questions stand."""

    file: LocalPath = "configs/attributes/perceived.yaml"


class ScoringConfig(Block):
    """How the scoring stage uses the machine. No result depends on these beyond float noise, except `max_pixels`."""

    batch_size: int = Field(default=32, ge=1, le=8192)
    workers: int | None = Field(default=None, ge=0)
    """Decoding threads; by default one per core, and four where one process encodes on a GPU."""
    actors: int | None = Field(default=None, ge=1, le=10_000)
    """Workers of `--engine ray`; by default one per GPU, or one per machine where there is none."""
    processes: int | None = Field(default=None, ge=1, le=256)
    """Processes that read and decode for an encoder on a GPU; by default five per four workers where four shards or more are left."""
    max_pixels: int = Field(default=89_478_485, ge=1)
    """Larger images are unreadable: a guard against decompression bombs."""


class StatisticsConfig(Block):
    """How sure intervals are, and what is drawn at random in fitting a probe."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of every interval."""
    include: tuple[Literal["prompts", "wording", "classifier"], ...] = ("prompts",)
    """What the limits of the first line hold: which prompts were asked, and in whose words and by which classifier images were read."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the folds that `allfour calibrate --fit-probe` cross-validates with; nothing else draws with it."""

    @model_validator(mode="after")
    def _prompts_always(self) -> Self:
        if "prompts" not in self.include:
            raise ValueError("statistics.include: prompts are always in the limits; write [prompts, ...]")
        return self


class ReferenceConfig(Block):
    """Shares to set beside the measured ones, by prompt id."""

    file: LocalPath


class RewritingConfig(Block):
    """Which words are counted where a service rewrites prompts."""

    file: LocalPath = "configs/rewriting/demographic-words.yaml"


class RunConfig(Block):
    """One way to run."""

    name: str | None = Field(default=None, max_length=100)
    """Title of the report; the config's file name where it is not given."""
    notice: str | None = Field(default=None, max_length=1000)
    """A banner on the report, such as that its world is drawn."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    prompts: PromptsConfig = PromptsConfig()
    generator: GeneratorConfig | None = None
    archive: ArchiveConfig = ArchiveConfig()
    classifier: ClassifierConfig
    attributes: AttributesConfig = AttributesConfig()
    scoring: ScoringConfig = ScoringConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    rewriting: RewritingConfig = RewritingConfig()
    intersections: tuple[Annotated[tuple[Name, ...], Field(min_length=2, max_length=3)], ...] | None = None
    """Attributes to count together, two or three at a time; gender x race by default, where both are asked about."""
    reference: ReferenceConfig | None = None

    @model_validator(mode="after")
    def _attributes_are_crossed_with_others(self) -> Self:
        for names in self.intersections or ():
            if len(set(names)) < len(names):
                raise ValueError(f"intersections: {' x '.join(names)} names an attribute twice")
        return self


# --- references --------------------------------------------------------------------------------------------------------


class ReferencePrompt(Block):
    """Reference shares of one prompt: attribute -> label -> share."""

    text: str | None = None
    source: str = ""
    shares: dict[Name, dict[Name, Annotated[float, Field(ge=0, le=1)]]]


class Reference(Block):
    """A file of reference shares, such as planted rates or labour statistics."""

    name: str
    source: str = ""
    year: int | None = None
    planted: bool = False
    """The shares are those that a drawn world was made with: a truth to check against, no yardstick."""
    prompts: dict[str, ReferencePrompt]


# --- rewriting ---------------------------------------------------------------------------------------------------------


class WordLists(Block):
    """A file of words to look for in rewritten prompts: category -> words and phrases."""

    name: str = Field(min_length=1, max_length=100)
    source: str = ""
    categories: dict[
        Name, Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(min_length=1, max_length=1000)]
    ] = Field(min_length=1, max_length=20)
