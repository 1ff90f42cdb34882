"""Write the JSON schemas in pipeline/run from the records that metrics.json and comparison.json are written and read by."""

from __future__ import annotations

from pathlib import Path

from allfour.pipeline.run.schema import comparison_schema_text, metrics_schema_text

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent.parent / "pipeline" / "run"
    for name, text in (("metrics", metrics_schema_text()), ("comparison", comparison_schema_text())):
        target = folder / f"{name}.schema.json"
        target.write_text(text, encoding="utf-8")
        print(target.name)
