"""The JSON schema of metrics.json, from its record."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from allfour.pipeline.run.metrics import Metrics


@cache
def metrics_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of metrics.json, format 1."""
    schema = Metrics.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def metrics_schema_text() -> str:
    """As the committed file holds it."""
    return json.dumps(metrics_schema(), indent=1, ensure_ascii=False) + "\n"
