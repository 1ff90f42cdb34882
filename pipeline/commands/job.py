"""What every stage of one command needs, and what a finished command did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from allfour.models.attributes import AttributeSet
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_attributes, recorded_config, validate
from allfour.pipeline.metrics.asked_for import asked_of
from allfour.pipeline.metrics.calibration import check_calibration
from allfour.pipeline.metrics.intersections import chosen
from allfour.pipeline.metrics.wanted_error import with_margins
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Job:
    """One command at work on one run folder."""

    run: RunFolder
    config: RunConfig
    attributes: AttributeSet
    reporter: Reporter
    calibration: Path | None = None
    """The file that was given; without one, the run's own is used."""
    asked: Mapping[str, Any] | None = None
    """Prompt id -> its subject and the labels that it asks for, where the prompt set says so."""

    @classmethod
    def begin(cls, config: RunConfig, run: RunFolder, reporter: Reporter, calibration: Path | None = None) -> Self:
        """A command that makes or scores images, with everything checked that can be before a model is loaded.

        Raises
        ------
        ConfigError, InputError, ClassifierError
            The attributes or the calibration cannot be used.
        """
        attributes = with_margins(load_attributes(config.attributes.file), calibration, run.path)
        config.classifier.refuse_unanswerable(attributes)
        check_calibration(calibration, attributes)
        chosen(config.intersections, attributes)
        return cls(run, config, attributes, reporter, calibration, asked_of(config, attributes))

    @classmethod
    def of_run(cls, run: RunFolder, reporter: Reporter, calibration: Path | None = None) -> Self:
        """A command on a scored run, with the config and the questions of its own header.

        Raises
        ------
        RunFolderError
            It is not a run folder, or its scores do not exist.
        """
        header = run.scored_header()
        config = recorded_config(header.config, where=str(run.header_path))
        attributes = validate(AttributeSet, header.attributes, where=str(run.header_path))
        return cls(run, config, attributes, reporter, calibration)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished command did."""

    run: Path
    metrics: Metrics
    report: Path | None
    work: Mapping[str, int]
    """Images that this process generated and scored: 0 where everything stood."""
    archive: bool = False
    """Whether the images were found and not made: they are then listed, and nothing was requested."""
    sought: str = "person"
    """What was looked for in them: `person`, or `face`."""

    @property
    def missing(self) -> int:
        """Images that were requested or listed and have no score."""
        return self.metrics.accounting.missing
