"""Turn published per-image predictions of OpenAI's CLIP ViT-B/16 on FairFace into a bundled calibration.

    python scripts/bundle_fairface_calibration.py COUNTS.csv

COUNTS.csv has the columns race, age, gender, predicted_gender, count: counts of predictions published in the repository
groovy-lizard/vlms_bias_explore over the 10,954 FairFace validation images (labels CC BY 4.0). Their wording is not this
project's, so the calibration is bound to architecture, tag and margin alone, and says so.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from allfour.pipeline.analyses.calibration import Judged, attribute_entry
from allfour.pipeline.analyses.labelled_images import LabelledImage, LabelledSet, truth_mapping
from allfour.pipeline.config import load_attributes
from allfour.pipeline.metrics.calibration import FORMAT
from allfour.pipeline.run.writing import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "configs" / "calibrations" / "clip-vit-b-16-openai-fairface.json"


def main(counts: Path) -> None:
    attributes = load_attributes("configs/attributes/perceived.yaml")
    gender = truth_mapping("gender", attributes)
    images, truth, decision = [], [], []
    with counts.open(newline="") as file:
        for row in csv.DictReader(file):
            label, decided = gender(row["gender"]), gender(row["predicted_gender"])
            if label is None or decided is None:
                raise SystemExit(f"{counts}: unknown word in {row}")
            for _ in range(int(row["count"])):
                images.append(LabelledImage(Path(), {"gender": row["gender"], "race": row["race"], "age": row["age"]}))
                truth.append(label)
                decision.append(decided)
    judged = Judged(truth, decision, np.full((len(truth), 2), np.nan), list(range(len(truth))))
    entry = attribute_entry(judged, LabelledSet(str(counts.name), "counts", tuple(images)), attributes, "gender", 0.95)
    write_json(
        OUT,
        {
            "format": FORMAT,
            "created": "2026-11-24",
            # the most probable label was taken always
            "binding": {
                "kind": "published",
                "architecture": "ViT-B-16",
                "pretrained": "openai",
                "margins": {"gender": 0.0},
            },
            "dataset": {
                "location": "FairFace validation images, predictions published in groovy-lizard/vlms_bias_explore",
                "layout": "counts",
                "images": len(images),
                "licence": "FairFace labels CC BY 4.0",
                "note": "Photographs of faces, most probable label taken always, wording of the publication: a guide to the error on "
                "generated scenes, not a measurement of it",
            },
            "confidence": 0.95,
            "attributes": {"gender": entry},
        },
    )
    print(f"{OUT.relative_to(REPOSITORY)}: {len(images)} images, accuracy {entry['accuracy']['value']:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
