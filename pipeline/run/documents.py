"""metrics.json and run.json as the report reads them.

Reading is tolerant: most keys may be absent, and keys that this version does not know are kept aside. A
section of the report is shown only where its data is there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from allfour.errors import ConfigError

FORMAT = 1


class ReportError(ConfigError):
    """The report cannot be made. Says what, where, and how to mend it."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Interval(_Open):
    """An estimate with its interval; shares in [0, 1]."""

    value: Number = None
    low: Number = None
    high: Number = None
    method: str | None = None

    @property
    def known(self) -> bool:
        return self.value is not None

    @property
    def bounded(self) -> bool:
        return self.low is not None and self.high is not None


class Bounds(_Open):
    """What unanimity becomes when abstentions are resolved against it, and for it."""

    low: Number = None
    high: Number = None


class Null(_Open):
    """What chance would give."""

    expected: Number = None
    p_value: Number = None


class Summary(_Open):
    prompts: int = 0
    prompts_left_out: int = 0
    set_size: int = 4
    unanimous: int = 0
    unanimity: Interval | None = None
    unanimity_bounds: Bounds | None = None
    unanimity_null: Null | None = None
    unanimity_corrected: Interval | None = None
    unanimity_all_images: Interval | None = None
    unanimity_by_sets: Interval | None = None
    confidence: float = 0.95
    multi_person_images: int = 0
    revised_prompts: int = 0
    duplicate_images: int = 0


class Accounting(_Open):
    requested: int = 0
    generated: int = 0
    refused: int = 0
    failed: int = 0
    unreadable: int = 0
    scored: int = 0
    labelled: int = 0
    ambiguous: int = 0
    no_person: int = 0
    mixed: int = 0


class Group(_Open):
    name: str
    prompts: int = 0
    unanimous: int = 0
    unanimity: Interval | None = None
    share: dict[str, Interval | None] = Field(default_factory=dict)


class Never(_Open):
    """A label that no image got."""

    label: str
    high: Number = None
    """Upper end of the interval of its share."""
    chance: Number = None
    """Probability that it is absent although every label is as likely."""


class Cell(_Open):
    """Images with one label of either attribute."""

    labels: list[str]
    images: int = 0


class Intersection(_Open):
    """Joint counts of two attributes."""

    attributes: list[str]
    counts: list[Cell] = Field(default_factory=list)


class ImageName(_Open):
    id: str
    index: int


class ReferenceNote(_Open):
    """Where the reference shares come from."""

    name: str = ""
    source: str = ""
    year: int | None = None
    planted: bool = False
    """Whether they are the shares that a drawn world was made with."""


class GroupQuality(_Open):
    """How often the classifier is right for one group of a labelled set."""

    images: int = 0
    accuracy: Interval | None = None
    labelled: Interval | None = None


class Disparity(_Open):
    """Whether accuracy differs between the groups of one grouping."""

    best: str
    worst: str
    difference: Number = None
    p_value: Number = None


class Quality(_Open):
    """How often the classifier is right about one attribute, overall and by group."""

    images: int = 0
    accuracy: Interval | None = None
    groups: dict[str, dict[str, GroupQuality]] = Field(default_factory=dict)
    disparities: dict[str, Disparity | None] = Field(default_factory=dict)


class CalibrationNote(_Open):
    """The calibration that corrected figures rest on."""

    dataset: dict[str, Any] = Field(default_factory=dict)
    created: str | None = None
    binding: str | None = None
    confidence: Number = None
    attributes: dict[str, Quality] = Field(default_factory=dict)


class Attribute(_Open):
    """Counts and shares of one attribute."""

    counts: dict[str, int] = Field(default_factory=dict)
    share: dict[str, Interval | None] = Field(default_factory=dict)
    share_corrected: dict[str, Interval | None] | None = None
    unanimous: int | None = None
    unanimity: Interval | None = None
    unanimity_all_images: Interval | None = None
    never: list[Never] = Field(default_factory=list)


class Prompt(_Open):
    id: str
    text: str = ""
    group: str | None = None
    images: int = 0
    evaluated: bool = True
    counts: dict[str, int] = Field(default_factory=dict)
    unanimous: str | None = None
    unanimity_possible: bool | None = None
    share: dict[str, Interval | None] = Field(default_factory=dict)
    share_corrected: dict[str, Interval | None] | None = None
    p_value: Number = None
    q_value: Number = None
    reference: dict[str, Number] | None = None
    attributes: dict[str, Attribute] = Field(default_factory=dict)


class Persons(_Open):
    """People per image, over images with several."""

    total: int = 0
    median: Number = None
    least: int | None = None
    most: int | None = None


class Scenes(_Open):
    """Images with several people, of one prompt or of several."""

    id: str = ""
    asked: bool = False
    prompts: int = 0
    images: int = 0
    counted: int | None = None
    """None without a detector."""
    one_person: int = 0
    nobody: int = 0
    read_whole: dict[str, int] = Field(default_factory=dict)
    persons: Persons | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    share: dict[str, Interval | None] = Field(default_factory=dict)
    people: dict[str, int] = Field(default_factory=dict)
    people_share: dict[str, Interval | None] = Field(default_factory=dict)
    diversity: Interval | None = None


class GroupScenes(_Open):
    """Who is together in one image."""

    attribute: str
    detector: str | None = None
    even_diversity: Number = None
    asked: Scenes | None = None
    other: Scenes | None = None
    prompts: list[Scenes] = Field(default_factory=list)


class Agreement(_Open):
    """Agreement and Cohen's kappa (-1 to 1) of two sides on images that both labelled."""

    images: int = 0
    agreement: Interval | None = None
    kappa: Interval | None = None


class Powered(_Open):
    """A share by the classifier alone, and corrected by people's labels of a sample."""

    classifier: Number = None
    this_run: Interval | None = None
    prompts_like_these: Interval | None = None


class PoweredUnanimity(Powered):
    by_label: dict[str, Powered] = Field(default_factory=dict)


class ReviewSample(_Open):
    """What people said of one sample."""

    unit: str = "image"
    attribute: str = ""
    labels: list[str] = Field(default_factory=list)
    confidence: float = 0.95
    sampled: int = 0
    labelled: int = 0
    raters: dict[str, int] = Field(default_factory=dict)
    agreement: Agreement | None = None
    by_group: dict[str, Agreement] = Field(default_factory=dict)
    between_raters: list[Agreement] = Field(default_factory=list)
    shares: dict[str, Powered] | None = None
    unanimity: PoweredUnanimity | None = None
    note: str | None = None


class Review(_Open):
    """What people said of samples of the run's images."""

    samples: list[ReviewSample] = Field(default_factory=list)
    outdated: int = 0


class AgainstPrompt(_Open):
    """One prompt in another run."""

    images: int = 0
    share: dict[str, Interval | None] = Field(default_factory=dict)


class AgainstSummary(_Open):
    """The other run over the prompts that both runs have."""

    prompts: int = 0
    unanimous: int = 0
    unanimity: Interval | None = None


class Against(_Open):
    """Another run of the same prompts, to be marked beside this one's."""

    name: str = ""
    created: str | None = None
    shared: int = 0
    prompts_without: int = 0
    summary: AgainstSummary = Field(default_factory=AgainstSummary)
    prompts: dict[str, AgainstPrompt] = Field(default_factory=dict)
    """By prompt id."""


class Metrics(_Open):
    """The whole of metrics.json."""

    format: int
    headline: str = "gender"
    labels: dict[str, list[str]] = Field(default_factory=dict)
    summary: Summary = Field(default_factory=Summary)
    accounting: Accounting = Field(default_factory=Accounting)
    groups: list[Group] = Field(default_factory=list)
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    intersections: list[Intersection] = Field(default_factory=list)
    prompts: list[Prompt] = Field(default_factory=list)
    duplicates: list[list[ImageName]] = Field(default_factory=list)
    group_scenes: GroupScenes | None = None
    review: Review | None = None
    reference: ReferenceNote | None = None
    calibration: CalibrationNote | None = None
    sensitivity: dict[str, Any] | None = None
    second_opinion: dict[str, Any] | None = None
    against: Against | None = None
    warnings: list[str] = Field(default_factory=list)

    @property
    def headline_labels(self) -> tuple[str, ...]:
        """Labels of the headline attribute, in the attribute file's order."""
        named = self.labels.get(self.headline)
        if named:
            return tuple(named)
        seen: dict[str, None] = {}
        for prompt in self.prompts:
            seen.update(dict.fromkeys(prompt.share))
        return tuple(seen) or ("woman", "man")


class Header(_Open):
    """The whole of run.json."""

    format: int
    name: str | None = None
    created: str | None = None
    finished: str | None = None
    config: Any = None
    versions: dict[str, Any] = Field(default_factory=dict)
    git: dict[str, Any] | None = None
    source: Any = None
    generator: Any = None
    classifier: Any = None
    counts: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, Any] = Field(default_factory=dict)
    notice: str | None = None

    @property
    def drawn_world(self) -> bool:
        """Whether the images were drawn by the embedded renderer, so that nothing is found about a real model."""
        if not isinstance(self.generator, dict):
            return False
        return bool(self.generator.get("drawn_world")) or self.generator.get("backend") == "portrait-renderer"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ReportError(
            f"{path.name} is missing in {path.parent}: the run's earlier stages are not done; "
            "run the same `allfour audit` or `allfour rescore` command again"
        ) from None
    except ValueError as error:
        raise ReportError(f"{path} is not valid JSON ({error}); delete it and run the command again") from None


def _checked(path: Path, content: Any) -> Any:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ReportError(
            f"{path} has format {found!r}, this version reads format {FORMAT}; use the allfour that wrote it"
        )
    return content


def read_metrics(run_dir: Path) -> Metrics:
    """Read and check RUN/metrics.json. Raises ReportError."""
    path = run_dir / "metrics.json"
    try:
        return Metrics.model_validate(_checked(path, _read(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(
            f"{path} is not as expected at {where}: {first['msg']}; redo it with `allfour report`"
        ) from None


def read_header(run_dir: Path) -> Header:
    """Read and check RUN/run.json. Raises ReportError."""
    path = run_dir / "run.json"
    try:
        return Header.model_validate(_checked(path, _read(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReportError(f"{path} is not as expected at {where}: {first['msg']}; run the command again") from None
