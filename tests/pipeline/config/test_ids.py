"""Ids that are made from a prompt's text."""

from __future__ import annotations

import hashlib

from allfour.pipeline.config.ids import prompt_id_for


def test_an_id_made_from_a_text_ends_with_eight_digits_of_its_hash() -> None:
    assert prompt_id_for("nurse") == "nurse"
    text = "A photo of a nurse!"
    assert prompt_id_for(text) == f"a-photo-of-a-nurse-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def test_ten_thousand_texts_that_differ_in_marks_alone_have_ids_of_their_own() -> None:
    assert len({prompt_id_for(f"nurse{'!' * n}") for n in range(1, 10_001)}) == 10_000
