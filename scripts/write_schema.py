"""Write pipeline/run/metrics.schema.json from the record that metrics.json is written and read by."""

from __future__ import annotations

from pathlib import Path

from allfour.pipeline.run.schema import metrics_schema_text

if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "pipeline" / "run" / "metrics.schema.json"
    target.write_text(metrics_schema_text(), encoding="utf-8")
    print(target.name)
