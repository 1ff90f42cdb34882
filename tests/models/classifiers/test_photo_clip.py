"""Real weights on a thousand real photographs: published accuracies, a calibration and a fitted probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier
from allfour.models.classifiers.linear_probe import LinearProbeClassifier, Probe
from allfour.pipeline.analyses.calibration import calibrate
from allfour.pipeline.analyses.labelled_images import open_labelled
from allfour.pipeline.analyses.probe_fitting import fit_probe
from allfour.pipeline.config import ScoringConfig, load_attributes
from allfour.pipeline.scoring.scorer import matrix_of, score_shard
from tests.conftest import shared_data

CARD = {  # shared/data/photo-clip/README.md
    "gender": (0.942, {"0": ["a man"], "1": ["a woman"]}),
    "race": (0.662, {"0": ["a White person"], "1": ["a Black person"], "2": ["an East Asian person"], "3": ["an Indian person"],
                     "4": ["a Latino or Middle Eastern person"]}),
    "age": (0.728, {"0-6": ["a baby or small child"], "7-12": ["a child"], "13-19": ["a teenager"], "20-34": ["a young adult"],
                    "35-59": ["a middle-aged person"], "60-200": ["an elderly person"]}),
}  # fmt: skip


def truth(path: Path, attribute: str) -> str:
    age, gender, race, *_ = path.name.split("_")
    if attribute == "age":
        return next(
            label for label in CARD["age"][1] if int(label.split("-")[0]) <= int(age) <= int(label.split("-")[1])
        )
    return {"gender": gender, "race": race}[attribute]


@pytest.fixture(scope="module")
def utkface() -> Mapping[str, Any]:
    """photo-clip on utkface-1000."""
    attributes = load_attributes("configs/attributes/utkface.yaml")
    classifier = ClipClassifier(attributes=attributes, model=None, pretrained=str(shared_data("photo-clip")))
    dataset = open_labelled(shared_data("utkface-1000"), attributes)
    tables = score_shard(dataset.items(), classifier=classifier, config=ScoringConfig(batch_size=64))
    return {"attributes": attributes, "classifier": classifier, "dataset": dataset, "tables": tables}


@pytest.mark.slow
def test_photo_clip_reproduces_its_card(utkface: Mapping[str, Any]) -> None:
    attributes = AttributeSet.model_validate(
        {"templates": ["a photo of {}"], "attributes": {name: {"labels": labels} for name, (_, labels) in CARD.items()}}
    )
    model = ClipClassifier(attributes=attributes, model=None, pretrained=str(shared_data("photo-clip")))
    photographs = [Path(path) for path in utkface["tables"].images["path"].to_pylist()]
    assert len(photographs) == 1000
    probabilities = model.probabilities(matrix_of(utkface["tables"].embeddings))
    for attribute, (published, _) in CARD.items():
        labels = attributes.labels(attribute)
        decided = [labels[i] for i in probabilities[attribute].argmax(axis=1)]
        accuracy = np.mean([d == truth(p, attribute) for d, p in zip(decided, photographs, strict=True)])
        assert accuracy == pytest.approx(published, abs=0.015), attribute


def test_groups_against_a_count_by_hand(utkface: Mapping[str, Any]) -> None:
    result = calibrate(utkface["dataset"], utkface["tables"], utkface["classifier"])
    paths = utkface["tables"].images["path"].to_pylist()
    by_hand: Counter[tuple[str, bool]] = Counter()
    for row in utkface["tables"].scores.to_pylist():
        if row["attribute"] == "gender" and row["decision"] != "ambiguous":
            name = Path(paths[row["index"]]).name.split("_")
            by_hand[name[2], row["decision"] == ("man", "woman")[int(name[1])]] += 1
    groups = result["attributes"]["gender"]["groups"]["race"]
    for number, race in enumerate(("White", "Black", "Asian", "Indian", "other")):
        right, wrong = by_hand[str(number), True], by_hand[str(number), False]
        assert groups[race]["accuracy"]["value"] == pytest.approx(right / (right + wrong))
    assert (
        result["attributes"]["gender"]["temperature"]["log_loss"]
        <= result["attributes"]["gender"]["temperature"]["log_loss_at_1"]
    )
    for wanted in result["attributes"]["gender"]["margins"]:
        assert wanted["margin"] is None or wanted["error_then"] <= wanted["error"]


@pytest.mark.slow
def test_the_probe_is_no_worse_on_gender_and_better_on_race_and_age(utkface: Mapping[str, Any], tmp_path: Path) -> None:
    fitted = fit_probe(utkface["dataset"], utkface["tables"], utkface["classifier"], folds=2)
    report = fitted.report
    assert report["gender"]["probe"]["value"] >= report["gender"]["zero_shot"]["value"]
    for name in ("race", "age"):
        assert report[name]["probe"]["value"] > report[name]["zero_shot"]["value"]

    path = tmp_path / "probe.safetensors"
    fitted.probe.save(path)
    options: dict[str, Any] = {
        "attributes": utkface["attributes"], "probe": str(path), "model": None,
    }  # fmt: skip
    classifier = LinearProbeClassifier(pretrained=str(shared_data("photo-clip")), **options)
    vectors = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    for name, table in classifier.probabilities(vectors).items():
        assert np.allclose(table.sum(axis=1), 1, atol=1e-5)
        expected = fitted.probe.probabilities(vectors)[name]
        order = [fitted.probe.labels[name].index(label) for label in utkface["attributes"].labels(name)]
        assert np.allclose(table, expected[:, order])
    assert classifier.identity()["probe_sha256"] == Probe.load(path).sha256()
