"""`allfour relabel RUN --grid`: how far the headline depends on wording, margin, threshold and head, without touching an image."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from allfour.errors import ConfigError, RunFolderError
from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.base import EmbeddingClassifier, Rewordable
from allfour.models.classifiers.linear_probe import Probe
from allfour.models.classifiers.linear_probe_settings import LinearProbeConfig
from allfour.models.settings import on_disk
from allfour.pipeline.analyses.base import basis
from allfour.pipeline.analyses.sensitivity import (
    SENSITIVITY,
    SENSITIVITY_VERSION,
    Task,
    document,
    passes,
    read_prompts,
    score_settings,
)
from allfour.pipeline.analyses.sensitivity_grid import ZERO_SHOT, Grid, headline_alone, make_plan
from allfour.pipeline.commands import build
from allfour.pipeline.commands.job import RunSummary
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.commands.relabel import without_detector
from allfour.pipeline.commands.report import refresh, write_opinions
from allfour.pipeline.config import RunConfig, recorded_config, validate
from allfour.pipeline.run.folder import RunFolder, fingerprint, sweep_temp_files
from allfour.pipeline.scoring.stored_embeddings import check_same_encoder, stored_encoder, stored_parts

STAGE = "sensitivity"
"""Of the header."""


def relabel_grid(
    run: RunFolder,
    grid: Grid,
    reporter: Reporter,
    *,
    overrides: Sequence[str] = (),
    second_opinions: Sequence[RunFolder] = (),
) -> RunSummary:
    """Score a run's stored embeddings under every setting of a grid; writes RUN/sensitivity.json and the report.

    Parameters
    ----------
    overrides
        `path.to.key=value` on the run's own config, such as where its weights lie on this machine.
    second_opinions
        Runs of other classifiers over the same images, to say how far they agree.

    Raises
    ------
    ConfigError, ClassifierError
        The run has no embeddings, another encoder made them than the config's, or the grid does not fit its labels.
    """
    header = run.scored_header()
    encoder = stored_encoder(run, header)
    config = recorded_config(header.config, where=str(run.header_path), overrides=overrides)
    attributes = headline_alone(validate(AttributeSet, header.attributes, where=str(run.header_path)))
    if attributes.steady:
        raise ConfigError(
            f"{run.path}: attributes.{attributes.steady[0]}.stability is on, and a grid knows only the image as it is. Score the images "
            "without it to see how far wording moves them"
        )
    with run.lock(option=None):
        run.check_still(header)
        sweep_temp_files(run.path)
        parts = stored_parts(run, header, encoder, config)
        classifier = build.build_classifier(without_detector(config), attributes)
        if not isinstance(classifier, EmbeddingClassifier) or not isinstance(classifier, Rewordable):
            raise ConfigError(f"classifier.backend={config.classifier.backend}: it reads no embeddings")
        check_same_encoder(run, encoder, classifier.encoder_identity())
        heads, probes = _heads(grid, config, attributes, classifier.encoder_identity())
        plan = make_plan(grid, attributes, heads, probed=probes[0] is not None)
        made = fingerprint(
            basis(run), SENSITIVITY_VERSION, attributes.model_dump(mode="json"), grid.model_dump(mode="json"),
            [None if probe is None else probe.sha256() for probe in probes],
        )  # fmt: skip
        scored = 0
        if _stands(run, made):
            reporter.note("sensitivity.json already exists: nothing to score")
        else:
            started = time.monotonic()
            task = Task(
                plan=plan,
                attributes=attributes,
                heads=classifier.reworded(plan.wordings),
                probes=probes,
                dim=classifier.embedding_dim,
                prompts=read_prompts(run, set_size=config.prompts.set_size),
                set_size=config.prompts.set_size,
                confidence=config.statistics.confidence,
            )
            images = sum(part.manifest.get("images", 0) for part in parts)
            with reporter.task(f"{len(plan.settings)} settings", images * passes(task)) as progress:
                entries = score_settings(task, parts, progress.advance)
            SENSITIVITY.write(run, document(task, entries, made))
            scored = len(plan.settings)
            run.commit_stage(STAGE, made, seconds=time.monotonic() - started, settings=scored)
        write_opinions(run, second_opinions)
        return refresh(run, work={"settings": scored})


def _stands(run: RunFolder, made: str) -> bool:
    """Whether this very analysis was made and recorded. One that a kill left unrecorded would miss among the report's stages."""
    done = run.header().stages.get(STAGE)
    if done is None or done.fingerprint != made:
        return False
    try:
        earlier = SENSITIVITY.read(run)
    except RunFolderError:  # damaged: this command is how it is made again
        return False
    return earlier is not None and earlier.get("fingerprint") == made and SENSITIVITY.stands(run, earlier)


def _heads(
    grid: Grid, config: RunConfig, attributes: AttributeSet, encoder: Mapping[str, Any]
) -> tuple[list[str], list[Probe | None]]:
    """Names and probes of the heads, the run's own first; zero-shot is None."""
    heads: list[tuple[str, Probe | None]] = [(ZERO_SHOT, None)]
    if isinstance(config.classifier, LinearProbeConfig):
        own = _probe(config.classifier.probe, attributes, encoder)
        if attributes.headline in own.labels:
            heads.insert(0, (_named(config.classifier.probe), own))
    known = {probe.sha256() for _, probe in heads if probe is not None}
    for file in grid.heads:
        if file == ZERO_SHOT:
            continue
        probe = _probe(file, attributes, encoder)
        if attributes.headline not in probe.labels:
            raise ConfigError(f"heads: {file} is a probe of {', '.join(probe.labels)}, not of {attributes.headline}")
        if probe.sha256() not in known:
            heads.append((_named(file), probe))
    return [name for name, _ in heads], [probe for _, probe in heads]


def _probe(file: str, attributes: AttributeSet, encoder: Mapping[str, Any]) -> Probe:
    probe = Probe.load(Path(on_disk(file)))
    probe.check(attributes, encoder)
    return probe


def _named(file: str) -> str:
    return f"linear probe {Path(file).stem}"
