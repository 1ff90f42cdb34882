"""How surely images were decided, in the calibration and in the run: the same bands on either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from allfour.models.attributes import AttributeSet
from allfour.pipeline.analyses.calibration import Judged, attribute_entry
from allfour.pipeline.analyses.labelled_images import LabelledImage, LabelledSet
from allfour.pipeline.metrics.calibration import Calibration
from allfour.pipeline.metrics.tallies import sure_counts
from allfour.pipeline.run.columns import IMAGES_SCHEMA, SCORES_SCHEMA
from allfour.pipeline.run.folder import RunFolder
from allfour.pipeline.run.writing import write_table

LABELS = ("woman", "man")
EDGES = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]


def calibration(**counts: list[int]) -> Calibration:
    """Tenths by the lead of images that all are what they were decided to be."""
    confusion = {label: {label: sum(own)} for label, own in counts.items()}
    leads: dict[str, Any] = {
        "edges": EDGES,
        "counts": {label: {label: own} for label, own in counts.items()},
        "unclear": {"woman": 2, "man": 1},
    }
    return Calibration({"attributes": {"gender": {"labels": list(LABELS), "confusion": confusion, "leads": leads}}})


def test_a_calibration_s_tenths_fall_into_three_bands() -> None:
    found = calibration(woman=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512], man=[0] * 9 + [7]).sure_cells("gender", LABELS)
    assert found is not None and found.edges == (1.5, 3.5)
    assert found.counts.tolist() == [[1 + 2 + 4, 0, 8 + 16 + 32 + 64, 0, 128 + 256 + 512, 0, 2], [0, 0, 0, 0, 0, 7, 1]]


def test_a_run_s_images_are_counted_from_each_edge_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    leads = {"p": [0.2, 1.5, 1.7, 3.4, 3.6, 9.0], "q": [0.1]}
    rows = [(prompt, i, lead) for prompt, own in leads.items() for i, lead in enumerate(own)]
    named = [{"prompt_id": p, "prompt": p, "index": i, "status": "generated"} for p, i, _ in rows]
    write_table(run.images_path, pa.Table.from_pylist(named, schema=IMAGES_SCHEMA))
    scores = []
    for prompt, index, lead in rows:
        woman = 1 / (1 + np.exp(-lead - 1e-6))  # just above an edge that it is meant to reach
        own = {"woman": woman, "man": 1 - woman}
        scores.append({"prompt_id": prompt, "index": index, "person": 0, "attribute": "gender", "decision": "woman",
                       "probability": woman, "margin": 2 * woman - 1, "probabilities": list(own.items())})  # fmt: skip
    write_table(run.scores_path, pa.Table.from_pylist(scores, schema=SCORES_SCHEMA))
    found = sure_counts(run, attribute="gender", edges=(1.5, 3.5))
    assert found == {"p": {"woman": (5, 2)}, "q": {"woman": (0, 0)}}


def test_cells_of_groups_are_those_of_the_whole_dealt_out() -> None:
    """As `allfour calibrate` writes them: by one set of edges, so that groups add up to everybody."""
    random = np.random.default_rng(2)
    truth = [LABELS[k % 2] for k in range(400)]
    ages = ["grown" if k < 250 else "young" for k in range(400)]
    first = np.clip(random.beta(4, 1.5, 400), 1e-3, 1 - 1e-3)
    table = np.array([[p, 1 - p] if t == "woman" else [1 - p, p] for p, t in zip(first, truth, strict=True)])
    decision = ["ambiguous" if abs(a - b) < 0.1 else LABELS[int(b > a)] for a, b in table]
    images = tuple(LabelledImage(Path(str(k)), {"gender": truth[k], "age": ages[k]}) for k in range(400))
    attributes = AttributeSet.model_validate({"attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}}})
    judged = Judged(truth, decision, table, list(range(400)))
    entry = attribute_entry(judged, LabelledSet("", "csv", images), attributes, "gender", 0.95)
    found = Calibration({"attributes": {"gender": entry}})
    whole, groups = found.sure_cells("gender", LABELS), found.group_cells("gender", LABELS)
    assert whole is not None and list(groups) == ["age"]  # by gender itself a group has one label alone
    assert (sum(groups["age"].values()) == whole.counts).all() and whole.counts.sum() == 400
