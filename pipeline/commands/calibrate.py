"""`allfour calibrate`: score a labelled set with a config's classifier and write what was learnt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allfour.errors import UsageError
from allfour.models.classifiers.base import EmbeddingClassifier, KeepsAccounts
from allfour.pipeline.analyses.calibration import calibrate
from allfour.pipeline.analyses.labelled_images import open_labelled
from allfour.pipeline.analyses.probe_fitting import fit_probe
from allfour.pipeline.commands import build
from allfour.pipeline.commands.progress import Reporter
from allfour.pipeline.config import RunConfig, load_attributes
from allfour.pipeline.metrics.calibration_doubt import calibration_notes
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.run.writing import sweep_beside, write_atomic, write_json
from allfour.pipeline.scoring.scorer import score_shard


def _check_writable(target: Path) -> None:
    """Raises UsageError before the scoring where the result could not be written after it."""
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{target}: cannot be written there. Name another file")


def run_calibration(
    config: RunConfig, dataset: Path, out: Path, probe_path: Path | None, reporter: Reporter
) -> dict[str, Any]:
    """Score, compare with the labels, write `out` (and the probe), and return what `out` holds.

    Raises
    ------
    UsageError, ClassifierError
        The data set, the config or the classifier cannot be used.
    """
    for target in filter(None, (out, probe_path)):
        _check_writable(target)
        sweep_beside(target)
    attributes = load_attributes(config.attributes.file)
    config.classifier.refuse_unanswerable(attributes)
    labelled = open_labelled(dataset, attributes)
    classifier = build.build_classifier(config, attributes)
    if probe_path is not None and not isinstance(classifier, EmbeddingClassifier):
        raise UsageError("--fit-probe needs a classifier with embeddings (classifier.backend=clip)")
    if isinstance(classifier, KeepsAccounts):
        classifier.keep_accounts(out.with_name(f"{out.name}.answers.sqlite"))
        reporter.note(classifier.estimate(len(labelled.images)))
    with reporter.task("scoring", len(labelled.images)) as task:
        tables = score_shard(labelled.items(), classifier=classifier, config=config.scoring, advance=task.advance)
    result = calibrate(labelled, tables, classifier, confidence=config.statistics.confidence)
    result["warnings"] = calibration_notes(result)
    if probe_path is not None and isinstance(classifier, EmbeddingClassifier):
        reporter.note("fitting the probe, with cross-validation")
        fitted = fit_probe(labelled, tables, classifier, seed=config.statistics.seed)
        write_atomic(probe_path, fitted.probe.data())
        result["probe"] = fitted.report
    write_json(out, sealed(result))
    return result
