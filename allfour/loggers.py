"""A run's figures in experiment trackers. Each needs its package: pip install 'allfour[mlflow]' or 'allfour[wandb]'.

import allfour, mlflow
from allfour.loggers import log_mlflow

with mlflow.start_run():
    log_mlflow(allfour.open_run("runs/sandbox"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from allfour.errors import ConfigError

if TYPE_CHECKING:
    from allfour.api import Run

PREFIX = "allfour"


def figures(run: Run) -> dict[str, float]:
    """What is logged: the headline with its limits, measured unanimity, shares of the headline's labels, and the accounting.

    Figures that cannot be told are left out, never logged as 0.
    """
    top, lead = run.metrics.summary, run.metrics.summary.headline
    found: dict[str, float | None] = {
        **{f"unanimity/{end}": getattr(top.unanimity, end) for end in ("value", "low", "high")},
        **{f"accounting/{key}": float(count) for key, count in run.metrics.accounting.document().items()},
        "prompts": float(top.prompts),
    }
    if lead is not None:
        found |= {f"headline/{end}": getattr(lead, end) for end in ("value", "low", "high")}
    attribute = run.metrics.attributes.get(run.metrics.headline)
    for label, share in (attribute.share if attribute is not None else {}).items():
        if share is not None:
            found |= {f"share/{label}/{end}": getattr(share, end) for end in ("value", "low", "high")}
    return {f"{PREFIX}/{key}": float(value) for key, value in found.items() if value is not None}


def facts(run: Run) -> dict[str, str]:
    """What the figures are of: evidence and verdict of the headline, generator, classifier, prompt set."""
    lead = run.metrics.summary.headline
    config = run.header.config if isinstance(run.header.config, dict) else {}
    found = {
        "name": run.header.name,
        "evidence": lead.evidence if lead is not None else None,
        "verdict": lead.verdict if lead is not None else None,
        "generator": _named(run.header.generator),
        "classifier": _named(run.header.classifier),
        "prompts": (config.get("prompts") or {}).get("file"),
    }
    return {f"{PREFIX}/{key}": str(value) for key, value in found.items() if value}


def log_mlflow(run: Run, *, report: bool = True) -> None:
    """Log to the MLflow run that is active, or to a new one.

    Parameters
    ----------
    report
        Also keep report.html and metrics.json as artifacts.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    mlflow = _package("mlflow")
    mlflow.log_metrics(figures(run))
    mlflow.set_tags(facts(run))
    if report:
        for path in (run.report, run.path / "metrics.json"):
            mlflow.log_artifact(str(path), artifact_path=PREFIX)


def log_wandb(run: Run, *, report: bool = True) -> None:
    """Log to the Weights & Biases run that is active, or to a new one. Parameters and errors are those of `log_mlflow`."""
    wandb = _package("wandb")
    active = wandb.run if wandb.run is not None else wandb.init()
    active.log({**figures(run), **({f"{PREFIX}/report": wandb.Html(str(run.report))} if report else {})})
    active.config.update(facts(run), allow_val_change=True)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} is not installed: pip install 'allfour[{name}]'") from error


def _named(identity: Any) -> str | None:
    if not isinstance(identity, dict):
        return None
    found = identity.get("model") or identity.get("backend")
    return str(found) if found else None
