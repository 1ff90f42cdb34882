from __future__ import annotations

import numpy as np

from allfour.models.attributes import AttributeSet
from allfour.pipeline.scoring.decisions import decide, decide_all


def test_margin_and_ties() -> None:
    probabilities = np.array([[0.9, 0.1], [0.55, 0.45], [0.5, 0.5], [0.2, 0.8]], dtype=np.float32)
    found = decide(probabilities, ("woman", "man"), margin=0.2)
    assert found.decision.tolist() == ["woman", "ambiguous", "ambiguous", "man"]
    assert np.allclose(found.margin, [0.8, 0.1, 0.0, 0.6], atol=1e-6)
    assert decide(probabilities, ("woman", "man"), margin=0.0).decision.tolist() == [
        "woman",
        "woman",
        "ambiguous",
        "man",
    ]


def test_the_presence_gate_overrides_every_attribute() -> None:
    attributes = AttributeSet.model_validate(
        {
            "presence": {"threshold": 0.5, "labels": {"person": ["a person"], "no_person": ["nobody"]}},
            "attributes": {"gender": {"labels": {"woman": ["w"], "man": ["m"]}}},
        }
    )
    found = decide_all(
        {
            "presence": np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32),
            "gender": np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32),
        },
        attributes,
    )
    assert found["presence"].decision.tolist() == ["person", "no_person"]
    assert found["gender"].decision.tolist() == ["woman", "no_person"]


def test_no_images_at_all() -> None:
    assert decide(np.zeros((0, 3), dtype=np.float32), ("a", "b", "c"), margin=0.1).decision.shape == (0,)


def test_a_gap_of_the_very_margin_is_a_label() -> None:
    probabilities = np.array([[0.625, 0.375]], dtype=np.float32)
    assert decide(probabilities, ("woman", "man"), margin=0.25).decision.tolist() == ["woman"]
