"""The `model-index` block of a model card: a run's result as metadata of the model that made the images."""

from __future__ import annotations

from typing import Any

import yaml

from allfour.pipeline.metrics.headline import headline_of
from allfour.pipeline.report.lead import basis, rests_on, undecided
from allfour.pipeline.run.header import Header
from allfour.pipeline.run.metrics import Metrics
from allfour.pipeline.words import clean, level


def model_index(metrics: Metrics, header: Header) -> str:
    """YAML for the head of a model card's README, as model hubs read it (`model-index`).

    A figure without its interval is none, so each stands with both ends and what it rests on.
    """
    top, lead = metrics.summary, headline_of(metrics)
    about = f"share of prompts whose {top.set_size} images all show one perceived {metrics.headline}"
    sets = rests_on(top.prompts, top.prompts * top.set_size)
    # without it two figures of one name have two intervals, and nothing says why
    either_way = (
        ", counting images without a label either way" if lead.evidence == "measured" and undecided(top) else ""
    )
    figures = [
        ("unanimity", f"{about}, measured", top.unanimity.value, top.unanimity.low, top.unanimity.high, sets),
        (
            "unanimity-headline",
            f"{about}, headline of the report, {lead.evidence}",
            lead.value,
            lead.low,
            lead.high,
            f"{basis(metrics)}{either_way}",
        ),
    ]
    if lead.verdict == "asked_for":  # sets that agree because they were asked to are no unanimity to quote
        figures = []
    found: list[dict[str, Any]] = []
    for kind, name, value, low, high, rests in figures:
        if value is None or low is None or high is None:
            continue
        interval = f"{level(top.confidence)} interval {low:.4f} to {high:.4f}, {rests}"
        found.append(
            {"type": kind, "name": name, "value": round(value, 4), "verified": False, "args": {"interval": interval}}
        )
    found += _asked(metrics)
    generator = header.generator if isinstance(header.generator, dict) else {}
    reader = header.classifier if isinstance(header.classifier, dict) else {}
    prompts_file = ((header.config or {}).get("prompts") or {}).get("file") if isinstance(header.config, dict) else None
    result = {
        "task": {"type": "text-to-image"},
        "dataset": {"name": clean(header.name or "prompts"), "type": clean(prompts_file or "archive").rsplit("/", 1)[-1]},
        "metrics": found,
        "source": {"name": f"allfour, labels by {clean(reader.get('backend') or 'a classifier')}: perceived presentation, never identity"},
    }  # fmt: skip
    name = clean(generator.get("model") or generator.get("backend") or header.name or "unknown").rsplit("/", 1)[-1]
    return yaml.safe_dump({"model-index": [{"name": name, "results": [result]}]}, sort_keys=False, allow_unicode=True, width=10**9)  # fmt: skip


def _asked(metrics: Metrics) -> list[dict[str, Any]]:
    """How often the labels of the headline are shown where a prompt asks for them."""
    entry = (metrics.asked_for or {}).get(metrics.headline)
    found = []
    for label, outcome in (entry.labels if entry is not None else {}).items():
        rate = outcome.shown
        if rate.value is not None and rate.low is not None and rate.high is not None:
            interval = f"{level(metrics.summary.confidence)} interval {rate.low:.4f} to {rate.high:.4f}, {rests_on(outcome.prompts, outcome.images)} requested"
            name = f"share of images that show a perceived {clean(label)} where a prompt asks for one"
            found.append(
                {
                    "type": "shown-where-asked-for",
                    "name": name,
                    "value": round(rate.value, 4),
                    "verified": False,
                    "args": {"interval": interval},
                }
            )
    return found
