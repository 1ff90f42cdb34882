"""What the tests of comparisons share: measured runs from one letter per image, and the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from allfour.models.attributes import AttributeSet
from allfour.pipeline import cli
from allfour.pipeline.analyses.comparison.compare import compare_paths
from allfour.pipeline.metrics.compute import compute_metrics
from allfour.pipeline.metrics.tallies import copy_counts, tally
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from allfour.pipeline.scoring.near_copies import near_copies

DECISIONS = {"W": "woman", "M": "man", "A": "ambiguous", "N": "no_person"}
ATTRIBUTES: dict[str, Any] = {
    "attributes": {"gender": {"margin": 0.1, "labels": {"woman": ["a woman"], "man": ["a man"]}}},
    "presence": {"labels": {"person": ["a person"], "no_person": ["no person"]}, "threshold": 0.5},
}
CLASSIFIER = {"backend": "clip", "encoder": {"weights_sha256": "ab" * 32, "dtype": "float32"}}


def make_run(folder: Path, prompts: Mapping[str, str], *, set_size: int = 4, confidence: float = 0.95, texts: Mapping[str, str] | None = None, attributes: Mapping[str, Any] = ATTRIBUTES, classifier: Mapping[str, Any] | None = CLASSIFIER, salt: str = "", copied: Collection[str] = ()) -> Path:  # fmt: skip
    """A measured run from one letter per image: W woman, M man, A ambiguous, N no person, R refused; all images of some prompts may be one."""
    folder.mkdir(parents=True)
    images, scores = [], []
    for prompt_id, letters in prompts.items():
        for index, letter in enumerate(letters):
            digest = hashlib.sha256(
                f"{salt}{folder.name}{prompt_id}{0 if prompt_id in copied else index}".encode()
            ).hexdigest()
            made = letter != "R"
            images.append(
                dict.fromkeys(IMAGES_SCHEMA.names)
                | {"prompt_id": prompt_id, "prompt": (texts or {}).get(prompt_id, f"a {prompt_id}"), "index": index}
                | {"status": "generated" if made else "refused", "sha256": digest if made else None}
            )
            if made:
                scores.append(
                    dict.fromkeys(SCORES_SCHEMA.names)
                    | {"prompt_id": prompt_id, "index": index, "person": 0, "attribute": "gender"}
                    | {"decision": DECISIONS[letter], "probability": 0.9}
                )
    pq.write_table(pa.Table.from_pylist(images, IMAGES_SCHEMA), folder / "images.parquet")
    pq.write_table(pa.Table.from_pylist(scores, SCORES_SCHEMA), folder / "scores.parquet")
    asked = AttributeSet.model_validate(attributes)
    run = RunFolder(folder)
    copies = near_copies(run).images
    metrics = compute_metrics(
        tally(run, attributes=["gender"], set_size=set_size),
        labels={"gender": asked.labels("gender")},
        headline="gender",
        set_size=set_size,
        confidence=confidence,
        copies=copy_counts(run, attribute="gender", images=copies, set_size=set_size),
    )
    (folder / "metrics.json").write_text(json.dumps(metrics.document()))
    identity = {**classifier, "wording_sha256": asked.wording_sha256()} if classifier else None
    header = {"format": 1, "name": folder.name, "attributes": asked.model_dump(mode="json"), "classifier": identity}
    (folder / "run.json").write_text(
        json.dumps(sealed({**header, "generator": {"backend": "x", "model": folder.name}}))
    )
    return folder


def compared(*arguments: Any, **options: Any) -> dict[str, Any]:
    """comparison.json as it is written."""
    return compare_paths(*arguments, **options).document()


SIX = ("one", "two", "three", "four", "five", "six")


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["compare", *(str(argument) for argument in arguments)])
