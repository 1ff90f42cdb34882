"""One rule in three forms: the label of an image from its persons, and of a set from its images."""

from __future__ import annotations

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from allfour.pipeline.run.columns import AMBIGUOUS, MIXED, NO_PERSON
from allfour.pipeline.run.labels import (
    AMBIGUOUS_CODE,
    IMAGE_LABEL_SQL,
    MIXED_CODE,
    NO_PERSON_CODE,
    image_codes,
    image_label,
    sets_of_one_label,
)

NAMES = {0: "woman", 1: "man", AMBIGUOUS_CODE: AMBIGUOUS, NO_PERSON_CODE: NO_PERSON, MIXED_CODE: MIXED}
PEOPLE = st.lists(st.sampled_from([0, 1, AMBIGUOUS_CODE, NO_PERSON_CODE]), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(PEOPLE, min_size=1, max_size=5))
def test_tables_arrays_and_single_images_agree(images: list[list[int]]) -> None:
    code = np.array([c for people in images for c in people], dtype=np.int16)
    by_array = [NAMES[c] for c in image_codes(code, np.array([len(p) for p in images])).tolist()]
    by_name = [image_label(NAMES[c] for c in people) for people in images]
    rows = [(place, NAMES[c]) for place, people in enumerate(images) for c in people]
    values = ", ".join(f"({place}, '{name}')" for place, name in rows)
    found = duckdb.sql(
        f"SELECT image, {IMAGE_LABEL_SQL} FROM (VALUES {values}) t(image, decision) GROUP BY image ORDER BY image"
    ).fetchall()
    assert by_array == by_name == [label for _, label in found]


def test_a_set_shows_a_label_where_every_image_does() -> None:
    for codes, sets in (
        ([1, 1], 1),
        ([1, 0], 0),
        ([1, -1], 0),
        ([-1, -1], 0),  # of no label they do not share one
        ([1, 1, 0, 0, 1, 0], 2),
        ([0, 1, 1, 0], 0),  # neighbours, and no set
        ([1, 1, 1], 1),  # the last is of no whole set
        ([1], 0),
        ([], 0),
    ):
        assert sets_of_one_label(np.array(codes, dtype=np.int8), 2) == sets
