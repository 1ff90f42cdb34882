"""The JSON schemas of metrics.json and of comparison.json, from their records."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from allfour.pipeline.run.metrics import Metrics

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


@cache
def metrics_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of metrics.json, format 1."""
    return {"$schema": _DRAFT, **Metrics.model_json_schema()}


@cache
def comparison_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of comparison.json, format 1."""
    from allfour.pipeline.run.comparison import Comparison  # which no run's own commands need

    return {"$schema": _DRAFT, **Comparison.model_json_schema()}


def metrics_schema_text() -> str:
    """As the committed file holds it."""
    return _text(metrics_schema())


def comparison_schema_text() -> str:
    """As the committed file holds it."""
    return _text(comparison_schema())


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
