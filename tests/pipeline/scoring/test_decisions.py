from __future__ import annotations

import numpy as np
import pytest

from allfour.errors import ClassifierError
from allfour.models.attributes import AttributeSet
from allfour.models.margins import margin_meaning
from allfour.pipeline.scoring.decisions import decide, decide_all, tempered


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


def asked(**spec: float) -> AttributeSet:
    labels = {"woman": ["w"], "man": ["m"]}
    return AttributeSet.model_validate({"attributes": {"gender": {"labels": labels, **spec}}})


def test_a_margin_on_the_logit_is_one_of_probabilities_at_any_scale() -> None:
    """log(0.6 / 0.4) = 0.405, which is the margin 0.2 of two labels."""
    probabilities = np.array([[0.61, 0.39], [0.59, 0.41], [1.0, 0.0]], dtype=np.float32)
    for attributes in (asked(margin_logit=0.4055), asked(margin=0.2)):
        found = decide_all({"gender": probabilities}, attributes)["gender"]
        assert found.decision.tolist() == ["woman", "ambiguous", "woman"]


def test_a_temperature_divides_the_logits_before_anything_is_decided() -> None:
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9]], dtype=np.float32)
    assert np.allclose(tempered(probabilities, 2.0), [[0.75, 0.25], [0.25, 0.75]])  # the roots are 3 to 1
    assert tempered(probabilities, None) is probabilities
    found = decide_all({"gender": probabilities}, asked(temperature=2.0, margin=0.6))["gender"]
    assert found.decision.tolist() == ["ambiguous", "ambiguous"]
    assert np.allclose(found.probability, 0.75) and np.allclose(found.margin, 0.5)


def test_what_nobody_set_is_in_no_fingerprint() -> None:
    """Runs made before these keys existed stand."""
    plain = asked(margin=0.1).model_dump(mode="json")["attributes"]["gender"]
    assert set(plain) == {"labels", "templates", "margin"}
    assert asked(temperature=2.0).model_dump(mode="json")["attributes"]["gender"]["temperature"] == 2.0


def test_one_margin_at_a_time() -> None:
    with pytest.raises(ValueError, match="one of them"):
        asked(margin=0.1, margin_logit=0.5)
    with pytest.raises(ValueError, match="one of them"):
        asked(max_error=0.05, margin_logit=0.5)


def test_what_a_margin_means_for_a_model() -> None:
    """0.2 is log(1.2 / 0.8) = 0.405 on the logit: 0.0292 in cosine at 13.9, 0.00405 at 100."""
    spec = asked(margin=0.2).attributes["gender"]
    assert "0.405 on the logit" in margin_meaning("gender", spec, logit_scale=None)
    assert "0.0292 in cosine" in margin_meaning("gender", spec, logit_scale=13.885697)
    assert "0.00405 in cosine" in margin_meaning("gender", spec, logit_scale=100.0)
    heated = asked(margin=0.2, temperature=2.0).attributes["gender"]
    assert "0.811 on the logit" in margin_meaning("gender", heated, logit_scale=None)


def test_what_is_no_number_is_no_label() -> None:
    """A comparison with it is false, and the first label must not win by that."""
    lost = np.array([[0.9, 0.1], [np.nan, np.nan]], dtype=np.float32)
    with pytest.raises(ClassifierError, match=r"no numbers for 1 of 2 readings \(woman, man.*dtype=float32"):
        decide(lost, ("woman", "man"), margin=0.2)
    with pytest.raises(ClassifierError, match="no numbers for 1 of 1"):
        decide(np.array([[0.2, np.nan]], dtype=np.float32), ("woman", "man"), margin=0.0)
    alone = decide(np.array([[0.7]], dtype=np.float32), ("person",), margin=0.0)
    assert alone.decision.tolist() == ["person"]
