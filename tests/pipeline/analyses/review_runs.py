"""What the tests of `allfour review` share: runs of light pictures, what a rater exports, and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from allfour.pipeline import cli
from allfour.pipeline.analyses.review.sample import (
    Population,
    read_plan,
)
from allfour.pipeline.run.columns import AMBIGUOUS, IMAGES_SCHEMA, MIXED, NO_PERSON, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.seal import sealed
from tests.light_backends import picture

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
CATEGORIES = ("woman", "man", AMBIGUOUS, NO_PERSON, MIXED)
ATTRIBUTES = {
    "attributes": {"gender": {"labels": {"woman": ["woman"], "man": ["man"]}, "margin": 0.1}},
    "headline": "gender",
}


_SEEN = {"woman": {"woman": 180, "man": 20, "ambiguous": 0}, "man": {"woman": 20, "man": 180, "ambiguous": 0}}
CALIBRATION = {
    "format": 1,
    "created": "",
    "dataset": {},
    "confidence": 0.95,
    "binding": {"kind": "exact", "classifier": {"backend": "face"}, "margins": {"gender": 0.1}},
    "attributes": {"gender": {"labels": ["woman", "man"], "confusion": _SEEN, "images": 400}},
}


def make_run(folder: Path, decisions: dict[str, Sequence[str]], *, groups: dict[str, str] | None = None, name: str = "r") -> RunFolder:  # fmt: skip
    """A run folder whose images read as given; `missing` stands for an image that failed."""
    images, scores = [], []
    for number, (prompt, reads) in enumerate(decisions.items()):
        for index, decision in enumerate(reads):
            made = decision != "missing"
            path = folder / "images" / str(number) / f"{index}.png"
            if made:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(number * 100 + index))
                scores.append(
                    {"prompt_id": prompt, "index": index, "person": 0, "attribute": "gender", "decision": decision}
                )
            images.append(
                {
                    "prompt_id": prompt,
                    "prompt": prompt,
                    "group": (groups or {}).get(prompt),
                    "index": index,
                    "status": "generated" if made else "failed",
                    "path": f"images/{number}/{index}.png" if made else None,
                }
            )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(images, schema=IMAGES_SCHEMA), folder / "images.parquet")
    pq.write_table(pa.Table.from_pylist(scores, schema=SCORES_SCHEMA), folder / "scores.parquet")
    config = {
        "prompts": {"images_per_prompt": 4, "set_size": 4},
        "classifier": {"backend": "face"},
        "attributes": {"file": "configs/attributes/face.yaml"},
    }
    header = {"format": 1, "name": name, "config": config, "attributes": ATTRIBUTES, "classifier": {"backend": "face"}}
    header["stages"] = {"scores": {"fingerprint": "f" * 64}}
    (folder / "run.json").write_text(json.dumps(sealed(header)))
    return RunFolder(folder)


def plan_of(run: RunFolder, identity: str) -> dict[str, Any]:
    plan = read_plan(run, identity)
    assert plan is not None
    return plan


def export(run: RunFolder, identity: str, path: Path, label: Callable[[str, int], str], rater: str = "Ada") -> Path:
    """What the page would export if the rater labelled everything so."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "rater", "image", "label"])
        for entry in plan_of(run, identity)["images"]:
            writer.writerow([identity, rater, entry["image"], label(entry["prompt_id"], entry["index"])])
    return path


def mixed_run(folder: Path) -> RunFolder:
    """Three prompts of twelve images, read as all that an image can be read as."""
    reads = {
        "nurse": ["woman"] * 10 + ["man", AMBIGUOUS],
        "captain": ["man"] * 9 + [NO_PERSON, "woman", "missing"],
        "maestro": ["man"] * 12,
    }
    groups = {"nurse": "she", "captain": "he", "maestro": "he"}
    return make_run(folder, reads, groups=groups)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def simulated(seed: int, prompts: int = 60, size: int = 4) -> tuple[Population, np.ndarray[Any, Any]]:
    """A classifier that takes a third of the men for women and finds nobody in some pictures; the truth per row."""
    random = np.random.default_rng(seed)
    share = random.beta(0.4, 0.4, prompts)
    truth = (random.random((prompts, size)) > share[:, None]).astype(np.int64).ravel()
    truth[random.random(truth.size) < 0.05] = 3
    read = np.where((truth == 1) & (random.random(truth.size) < 0.33), 0, truth)
    read[random.random(truth.size) < 0.05] = 2
    population = Population(
        prompt_ids=[str(p) for p in range(prompts)],
        groups=["x" if p % 2 else "y" for p in range(prompts)],
        prompt=np.repeat(np.arange(prompts), size),
        index=np.tile(np.arange(size), prompts),
        rank=np.tile(np.arange(size) + 1, prompts),
        category=read,
        categories=CATEGORIES,
        labels=2,
    )
    return population, truth
