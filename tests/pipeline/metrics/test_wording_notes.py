"""Labels with unequal numbers of phrases are told, by question and label; those of bundled files are even."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfour.models.attributes import AttributeSet
from allfour.pipeline.config import load_attributes
from allfour.pipeline.metrics.notes import gate_notes, wording_notes
from allfour.pipeline.run.metrics import Accounting
from tests.places import REPOSITORY


def test_unequal_numbers_of_phrases_are_told() -> None:
    attributes = AttributeSet.model_validate(
        {
            "presence": {"labels": {"person": ["a person", "somebody"], "no_person": ["a thing"]}},
            "attributes": {
                "gender": {"labels": {"woman": ["a woman", "a lady"], "man": ["a man"]}},
                "age": {"labels": {"young": ["a young person"], "old": ["an old person"]}},
            },
        }
    )
    (note,) = wording_notes(attributes)
    assert note.code == "unequal_phrases"
    assert "presence (person: 2 and no_person: 1) and gender (woman: 2 and man: 1)" in note.text
    assert "age" not in note.text


def test_a_gate_that_leaves_most_images_without_a_label_is_named_with_its_setting() -> None:
    gate = {"labels": {"person": ["a person"], "no_person": ["a thing"]}, "threshold": 0.6}
    asked = {"attributes": {"gender": {"labels": {"woman": ["a woman"], "man": ["a man"]}}}}
    accounting = Accounting(requested=9, generated=9, scored=8, labelled=1, no_person=7)
    (note,) = gate_notes(AttributeSet.model_validate({**asked, "presence": gate}), accounting)
    assert "`presence.threshold: 0.6`" in note.text and "7 of 8 images" in note.text
    assert gate_notes(AttributeSet.model_validate(asked), accounting) == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "attributes").glob("*.yaml")), ids=lambda p: p.stem)
def test_bundled_wordings_are_even_and_no_gate_leans_on_a_negation(path: Path) -> None:
    attributes = load_attributes(path)
    assert wording_notes(attributes) == []
    for texts in attributes.prompts("presence").values() if attributes.presence else ():
        assert not any(f" {word} " in f" {text} " for text in texts for word in ("no", "not", "without", "nobody"))
    for label, texts in attributes.prompts("age").items() if "age" in attributes.attributes else ():
        assert not any("at work" in text for text in texts), label
