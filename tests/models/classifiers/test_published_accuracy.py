"""Real weights on real photographs: the published accuracies come out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allfour.models.attributes import AttributeSet
from allfour.models.classifiers.clip import ClipClassifier
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


def test_photo_clip_reproduces_its_card_on_utkface() -> None:
    photographs = sorted(shared_data("utkface-1000").glob("*.jpg"))
    attributes = AttributeSet.model_validate(
        {"templates": ["a photo of {}"], "attributes": {name: {"labels": labels} for name, (_, labels) in CARD.items()}}
    )
    model = ClipClassifier(attributes=attributes, model=None, pretrained=str(shared_data("photo-clip")))
    embeddings = np.concatenate(
        [
            model.encode(np.stack([model.prepare(Image.open(p).convert("RGB")) for p in photographs[i : i + 100]]))
            for i in range(0, len(photographs), 100)
        ]
    )
    for attribute, (published, _) in CARD.items():
        labels = attributes.labels(attribute)
        decided = [labels[i] for i in model.probabilities(embeddings)[attribute].argmax(axis=1)]
        accuracy = np.mean([d == truth(p, attribute) for d, p in zip(decided, photographs, strict=True)])
        assert accuracy == pytest.approx(published, abs=0.015), attribute
